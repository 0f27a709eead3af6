"""`sluice limits`: buckets of a subject looked at, filled and freed from the command line, on a real store."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.limits.applicable import Limits, Subject
from gateway.limits.limiter import Limiter
from gateway.policies import Policies, load
from relay.process import open_queue
from relay.queue.codec import DelayedBy
from relay.queue.inbox import Inbox
from sluice.cli.main import main
from sluice.config import last_good
from sluice.store.client import Store
from tests.gateway.making import a_client
from tests.relay.making import event
from tests.sluice.cli.command import Ran

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
store: {{url: "{store}"}}
data: {data}
trust: {{lists: {{office: [192.0.2.0/24]}}}}
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}}}
limits:
  - {{id: send, event: send, per: [session], rate: 1/hour, burst: 2}}
  - {{id: typing, event: typing, per: [session], rate: 1/hour, burst: 1, over: drop}}
  - {{id: message, event: message, per: [session], rate: 1/hour, burst: 2, over: queue}}
  - {{id: address, per: [ip], rate: 1/hour, burst: 3, except: [office]}}
  - {{id: trial, event: send, per: [session], rate: 1/hour, burst: 1, mode: observe}}
"""


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES.format(store=store_url, data=tmp_path / "data"))
    return file


class Command:
    """The command, in a thread of its own: it runs its own event loop."""

    def __init__(self, policies: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.policies = policies
        self._capsys = capsys

    def ran(self, *arguments: str) -> Ran:
        self._capsys.readouterr()
        with ThreadPoolExecutor(1) as thread:
            code = thread.submit(_main, ["limits", *arguments, "--policies", str(self.policies)]).result()
        return Ran(code, *self._capsys.readouterr())

    def said(self, *arguments: str) -> list[str]:
        done = self.ran(*arguments)
        assert (done.code, done.err) == (0, "")
        return done.out.splitlines()

    def buckets(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = orjson.loads(self.ran("show", *arguments, "--json").out)["buckets"]
        return found


def _main(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as left:
        return int(str(left.code))


@pytest.fixture
def limits(policies: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(policies, capsys)


async def take(limiter: Limiter, policies: Policies, kind: str, times: int = 1, session: str = "s1") -> list[str]:
    """Each from an address of its own."""
    applicable, verdicts = Limits(policies.limits, policies.trust.lists), []
    for i in range(times):
        subject = Subject(a_client(f"203.0.113.{i}"), kind, session, relayed=kind == "message")
        verdicts.append((await limiter.take(applicable.buckets(subject))).verdict)
    return verdicts


async def test_a_limit_that_holds_is_shown_as_holding(store: Store, policies: Path, limits: Command) -> None:
    policies.write_text(
        policies.read_text().replace("rate: 1/hour, burst: 2}", "rate: 1/hour, burst: 2, over: hold}", 1)
    )
    assert await take(Limiter(store), load(policies), "send", 3) == ["pass", "pass", "hold"]
    assert " holds for " in limits.said("show", "--session", "s1", "--limit", "send")[1]


async def test_the_buckets_of_a_subject_are_shown_with_level_numbers_and_wait(
    store: Store, policies: Path, limits: Command
) -> None:
    await take(Limiter(store), load(policies), "send", 2)
    lines = [line.split() for line in limits.said("show", "--session", "s1")]
    assert lines[0] == ["limit", "for", "tokens", "rate", "now", "numbers", "of"]
    assert lines[1][:3] == ["send", "session", "s1"]
    assert lines[1][4:11] == ["of", "2", "1", "in", "1h", "refuses", "for"]
    assert lines[2] == ["typing", "session", "s1", "1", "of", "1", "1", "in", "1h", "passes", "-"]
    assert lines[4][:3] == ["trial", "session", "s1"]
    assert "would" in lines[4]
    assert lines[5] == ["address:", "counts", "per", "ip:", "say", "which", "address"]
    (one,) = limits.buckets("--ip", "203.0.113.0")
    assert (one["limit"], one["subject"], one["wait"], one["until"]) == ("address", "ip 203.0.113.0", 0, None)
    assert one["level"] == pytest.approx(2, abs=0.01)
    (one,) = limits.buckets("--session", "s1", "--limit", "send")
    assert 3500 < one["wait"] <= 3600
    assert one["until"] is not None


async def test_reset_fills_the_bucket_and_running_gateways_know_it_within_a_second(
    store: Store, policies: Path, limits: Command
) -> None:
    limiter, read = Limiter(store), load(policies)
    assert await take(limiter, read, "send", 3) == ["pass", "pass", "reject"]
    (line,) = limits.said("reset", "--session", "s1", "--limit", "send")
    assert line.startswith("send: full again for session s1, it had 0")
    await asyncio.sleep(1.0)
    assert await take(limiter, read, "send") == ["pass"]


async def test_several_buckets_are_reset_only_after_a_yes(store: Store, policies: Path, limits: Command) -> None:
    read = load(policies)
    await take(Limiter(store), read, "send", 2)
    await take(Limiter(store), read, "typing")
    plan = limits.ran("reset", "--session", "s1", "--dry-run")
    assert (plan.code, plan.out.splitlines()[-1]) == (0, "would be reset: 3")
    refused = limits.ran("reset", "--session", "s1")
    assert (refused.code, refused.err) == (1, "sluice: nothing was reset; name one with --limit, or give --yes\n")
    assert await take(Limiter(store), read, "typing") == ["drop"]
    done = orjson.loads(limits.ran("reset", "--session", "s1", "--yes", "--json").out)
    assert (done["reset"], [one["limit"] for one in done["buckets"]]) == (3, ["send", "typing", "trial"])
    assert await take(Limiter(store), read, "typing") == ["pass"]
    assert limits.said("reset", "--session", "s2") == ["every bucket is full already"]
    audited = (policies.parent / "data/logs/audit.jsonl").read_text().splitlines()
    assert [orjson.loads(line)["action"] for line in audited] == ["reset_limits"], "a dry run changes nothing"


async def test_release_lets_go_what_is_delayed_and_clears_the_debt(
    store: Store, policies: Path, limits: Command
) -> None:
    read = load(policies)
    await take(Limiter(store), read, "message", 6)
    await take(Limiter(store), read, "message", 3, session="s2")
    queue = open_queue(store, read.relay.endpoints["laravel"], read)
    for i, session in enumerate(["s1", "s1", "s2"]):
        delayed = event(session, id=f"evt_{i}", delay=3600.0, delayed_by=DelayedBy("message", 3600.0, 2))
        await Inbox(store).accept(delayed, [queue.destination])
    debt, freed = limits.said("release", "--session", "s1")
    assert debt.startswith("message: its debt of ")
    assert debt.endswith(" tokens is cleared for session s1")
    assert freed == "go now instead of later: 2"
    queue.look_everywhere()
    assert {one.session for one in (await queue.poll([], 100)).leased} == {"s1"}
    (mine,) = limits.buckets("--session", "s1", "--limit", "message")
    (other,) = limits.buckets("--session", "s2", "--limit", "message")
    assert 0 <= mine["level"] < 1
    assert other["debt"] == pytest.approx(1, abs=0.01)
    assert limits.said("release", "--session", "s1") == ["go now instead of later: 0"]


async def test_it_works_while_the_policies_are_wrong(store: Store, policies: Path, limits: Command) -> None:
    known = load(policies)
    last_good.keep(policies, known.revision, known.data)
    policies.write_text(policies.read_text() + "  - {id: broken}\n")
    done = limits.ran("show", "--session", "s1")
    assert done.code == 0
    assert "passes" in done.out
    assert "using the last good copy" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("show", "--session", "s1", "--limit", "sned"),
            'there is no limit "sned"; there are send, typing, message, address, trial',
        ),
        (("show",), "say whose limits: a session, a workspace, an address (ip) or an event type (event)"),
        (("show", "--workspace", "w1"), "no limit has a bucket for this subject; they count per session and ip"),
        (("reset", "--ip", "203.0.113.7", "--limit", "send"), "limit send counts per session: say which session"),
        (("reset", "--ip", "192.0.2.7", "--limit", "address"), "limit address leaves office alone (except)"),
        (("show", "--session", "a\tb"), "session: must be printable characters"),
        (
            ("release", "--session", "s1", "--limit", "send"),
            'there is no limit "send" with over: queue; there are message',
        ),
        (("release", "--session", "a\tb"), "session: must be printable characters"),
        (("show", "--session", "x" * 201), f'session: "{"x" * 80}…" is not a text of at most 200 characters or null'),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_cure(
    limits: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = limits.ran(*arguments)
    assert (done.code, done.out, done.err) == (2, "", f"sluice: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "--ip", "here"), 'argument --ip: "here" is not an address; write 203.0.113.7 or 2001:db8::1'),
        (("release",), "the following arguments are required: --session"),
    ],
)
def test_a_wrong_option_is_named(limits: Command, arguments: tuple[str, ...], message: str) -> None:
    done = limits.ran(*arguments)
    assert done.code == 2
    assert done.err.endswith(f"error: {message}\n")
