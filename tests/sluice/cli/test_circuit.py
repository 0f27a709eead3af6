"""Circuits held by a person from the command line, on a real store."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.circuit import Report
from relay.process import open_circuit
from sluice.cli.circuit import came_of
from sluice.console.actions.circuits import CircuitOfEndpoint, ProbedCircuit
from sluice.store.client import Store
from tests.sluice.cli.command import sluice

pytestmark = pytest.mark.anyio

OPEN = CircuitOfEndpoint("laravel", "open", False, 240.0, "answered 500")
HELD = CircuitOfEndpoint("laravel", "open", True, 0.0, "moving house")
CLOSED = CircuitOfEndpoint("laravel", "closed", False, 0.0, None)


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1, circuit: {open: 1m}}, audit: {url: http://127.0.0.1:2}}}\n"
    )
    return file


def said(policies: Path, *arguments: str) -> str:
    ran = sluice("circuit", *arguments, "--policies", policies)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


async def test_held_open_nothing_may_be_sent_until_it_is_let_go_and_probes_go_first(
    store: Store, policies: Path
) -> None:
    circuit = open_circuit(store, load(policies).relay.endpoints["laravel"])
    held = "laravel: held open; nothing is sent, nothing is lost, until: sluice circuit release laravel\n"
    assert said(policies, "hold", "laravel", "open", "--why", "moving house") == held
    assert (await circuit.admit(5)).permits == 0
    assert said(policies, "hold", "laravel", "open") == "laravel: was held open already\n"
    told = orjson.loads(said(policies, "list", "--json"))["circuits"]
    assert [(one["endpoint"], one["state"], one["held"], one["why"]) for one in told] == [
        ("laravel", "open", True, "moving house"),
        ("audit", "closed", False, None),
    ]
    table = [line.split() for line in said(policies, "list").splitlines()]
    assert table[1] == ["laravel", "held", "open", "released", "by", "a", "person", "-", "0", "moving", "house"]
    assert table[2] == ["audit", "closed", "-", "-", "0", "-"]
    let_go = "laravel: released; probes go first, and all that waits follows when they are taken\n"
    assert said(policies, "release", "laravel") == let_go
    assert (await circuit.admit(50)).permits == 3
    assert said(policies, "release", "laravel") == "laravel: was not held\n"


async def test_held_closed_everything_is_sent(store: Store, policies: Path) -> None:
    circuit = open_circuit(store, load(policies).relay.endpoints["laravel"])
    held = "laravel: held closed; everything is sent, whatever comes of it, until: sluice circuit release laravel\n"
    assert said(policies, "hold", "laravel", "closed") == held
    assert (await circuit.admit(5)).permits == 5
    assert said(policies, "release", "laravel") == "laravel: released; what comes of deliveries decides again\n"


@pytest.mark.parametrize(
    "act", [("hold", "larvel", "open"), ("release", "larvel"), ("show", "larvel"), ("probe", "larvel")]
)
def test_an_endpoint_that_is_not_there(policies: Path, act: tuple[str, ...]) -> None:
    ran = sluice("circuit", *act, "--policies", policies)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == 'sluice: there is no endpoint "larvel"; there are laravel, audit\n'


async def test_what_it_has_been_through_is_shown(store: Store, policies: Path) -> None:
    circuit = open_circuit(store, load(policies).relay.endpoints["laravel"])
    generation = (await circuit.admit(1)).generation
    failed = Report(failures=120, why="answered 500", statuses={500: 120}, keys=dict.fromkeys(("a", "b", "c")))
    await circuit.admit(1, [(generation, failed)])
    await circuit.admit(1, [(generation, Report(failures=3, why="no", statuses={401: 2, None: 1}))])
    first, since, opened, *answers = said(policies, "show", "laravel").splitlines()
    assert re.fullmatch(r"laravel: open, for (1m|5\ds) more: answered 500", first)
    assert re.fullmatch(rf"nobody has got through since {MOMENT}; failed since: three or more sessions", since)
    assert re.fullmatch(rf"it has opened 1 times, first {MOMENT}, last {MOMENT}", opened)
    assert [re.sub(MOMENT, "T", line) for line in answers] == [
        *("T to T  500 x 120", "T to T  401 x 2", "T to T  no answer x 1")
    ]
    (told,) = orjson.loads(said(policies, "list", "--json"))["circuits"][:1]
    assert [(one["status"], one["times"]) for one in told["answers"]] == [(500, 120), (401, 2), (None, 1)]
    open_by_itself = (
        r"laravel: was not held; it is open by itself, for (1m|\d+s) more; to try it now: sluice circuit probe laravel"
    )
    assert re.fullmatch(open_by_itself, said(policies, "release", "laravel").strip())


MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


async def test_a_probe_of_an_endpoint_for_which_nothing_waits(policies: Path) -> None:
    assert said(policies, "probe", "laravel") == "laravel: nothing waits that could be sent\n"


@pytest.mark.parametrize(
    ("probed", "sentence"),
    [
        (
            ProbedCircuit("delivered", None, None, "evt_1", OPEN),
            "answered 2xx; probes go next, and all that waits follows when they are taken",
        ),
        (
            ProbedCircuit("delivered", None, None, "evt_1", HELD),
            "answered 2xx; it stays held open until: sluice circuit release laravel",
        ),
        (
            ProbedCircuit("failed", 404, "answered 404: no", "evt_1", OPEN),
            "answered 404: no; the circuit is open for 4m more",
        ),
        (
            ProbedCircuit("failed", None, "timed out\x1b[2J", "evt_1", HELD),
            "timed out\\x1b[2J; the circuit is held open",
        ),
        (
            ProbedCircuit("all_is_sent", None, None, "evt_1", CLOSED),
            "the circuit is closed, so all that is due is sent; see: sluice event evt_1",
        ),
        (
            ProbedCircuit("not_begun", None, None, "evt_1", OPEN),
            "no relay has sent it within 4s; one may do so within a minute; see: sluice circuit show laravel",
        ),
    ],
)
def test_what_came_of_a_probe(probed: ProbedCircuit, sentence: str) -> None:
    assert came_of(probed) == sentence
