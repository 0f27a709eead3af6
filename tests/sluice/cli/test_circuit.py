"""Circuits held by a person from the command line, on a real store."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from relay.process import open_circuit
from sluice.store.client import Store
from tests.sluice.cli.command import sluice

pytestmark = pytest.mark.anyio


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}}\n"
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
    assert table[1] == ["laravel", "held", "open", "released", "by", "a", "person", "moving", "house"]
    assert table[2] == ["audit", "closed", "-", "-"]
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


@pytest.mark.parametrize("act", [("hold", "larvel", "open"), ("release", "larvel")])
def test_an_endpoint_that_is_not_there(policies: Path, act: tuple[str, ...]) -> None:
    ran = sluice("circuit", *act, "--policies", policies)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == 'sluice: there is no endpoint "larvel"; there are laravel, audit\n'
