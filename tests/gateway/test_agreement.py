"""`sluice explain`, `sluice replay` and the gateway agree, each through its own front door.

Generated requests go over a socket to a gateway process. Before each one `explain` says what would become of it; behind
all of them `replay` counts again what the access log tells. Every limit refills so slowly that no time passes.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.policies import load
from sluice.cli import policies as cli_policies
from sluice.cli.main import main
from sluice.config.problems import PolicyError
from sluice.http.signatures import sign
from tests.gateway.running import SECRET, SIGNATURE, STRANGER

PROXY, DENIED = "127.0.0.3", "127.0.0.2"
REQUESTS = 350
POLICIES = """version: 1
listen: 127.0.0.1:{port}
data: {data}
bodies: 1MiB
store: {{url: "{store}", promise: memory}}
trust:
  proxies: [{proxy}/32]
  lists: {{office: [203.0.113.0/28]}}
  deny: [{denied}/32, 198.51.100.9]
upstreams: {{laravel: {{url: "http://127.0.0.1:{closed}"}}}}
signatures: {{workers: {{preset: blazz, secret: env:SECRET}}}}
routes:
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, session: {{json: /session}},
     workspace: {{json: /workspace}}, body: 1KiB, relay: crm}}
  - {{path: "/signed/{{session}}", verify: workers, event: {{header: X-Event}}, body: 1KiB, relay: crm}}
  - {{path: "/open/{{session}}", event: {{header: X-Event}}, body: 1KiB, relay: crm}}
  - {{path: /api/send, methods: [POST], event: message_send, session: {{json: /session}}, body: 1KiB,
     upstream: laravel}}
  - {{path: "/sessions/{{session}}/**", event: a_request, body: 1KiB, workers: owner}}
  - {{path: /place, session: {{json: /session}}, event: a_request, body: 1KiB, workers: place}}
  - {{path: /**, methods: [GET, POST], event: {{header: X-Event}}, session: {{header: X-Session}}, upstream: laravel}}
limits:
  - {{id: everybody, rate: 1/day, burst: 250, over: reject}}
{limits}
relay: {{endpoints: {{crm: {{url: "http://127.0.0.1:{closed}"}}}}}}
"""
EVENTS = ("message_send", "message_received", "typing", "a_request")
SESSIONS = ("s1", "s2", "s3")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "203.0.113.4", "2001:db8::7", "198.51.100.9")


@dataclass(frozen=True, slots=True)
class Sent:
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str
    peer: str
    proven: bool = True
    """False: it has no signature, or a wrong one."""

    def as_explained(self) -> Sent:
        """Whether a signature matches is not for `explain` to say; half of one is refused in the same way."""
        if self.proven:
            return self
        headers = [it for it in self.headers if it[0] not in ("X-HMAC-Signature", "X-Timestamp")]
        return Sent(self.method, self.path, (*headers, ("X-Timestamp", "0")), self.body, self.peer)


def some_limits(choose: random.Random, *, in_the_log: bool) -> str:
    """`in_the_log`: by nothing that the access log does not tell (costs in bodies, workspaces)."""
    subjects = ["session", "ip", "event"] + ([] if in_the_log else ["workspace"])
    lines = []
    for number in range(choose.randint(3, 6)):
        per = choose.sample(subjects, choose.choice([1, 1, 1, 2]))
        parts = [f"id: l{number}", "rate: 1/day", f"burst: {choose.randint(8, 60)}", f"per: [{', '.join(per)}]"]
        parts.append(f"over: {choose.choice(['reject', 'reject', 'reject', 'drop', 'queue'])}")
        if choose.random() < 0.5:
            parts.append(f"event: [{', '.join(choose.sample(['message_*', *EVENTS], choose.randint(1, 3)))}]")
        if choose.random() < 0.3:
            parts.append("except: [office]")
        if choose.random() < 0.3:
            parts.append(f"mode: {choose.choice(['observe', '{enforce: 50%}'] if per else ['observe'])}")
        if choose.random() < 0.4:
            parts.append(f"cost: {choose.choice(['2', '3'] if in_the_log else ['2', '{json: /to}', '{json: /to}'])}")
        if "session" in per and choose.random() < 0.4:
            parts.append("overrides: [{session: s1, rate: 2/day, burst: 40}, {session: s2, unlimited: true}]")
        lines.append(f"  - {{{', '.join(parts)}}}")
    return "\n".join(lines)


def some_request(choose: random.Random) -> Sent:
    headers: list[tuple[str, str]] = []
    peer = DENIED if choose.random() < 0.03 else PROXY
    if choose.random() < 0.9:
        headers.append(("X-Forwarded-For", choose.choice(ADDRESSES if choose.random() < 0.3 else ADDRESSES[:4])))
    session, event = choose.choice(SESSIONS), choose.choice(EVENTS)
    method, path = choose.choice(
        [
            ("POST", "/hooks/a"),
            ("POST", "/hooks/a"),
            ("POST", f"/signed/{session}"),
            ("POST", f"/open/{session}"),
            ("POST", "/api/send"),
            ("GET", f"/sessions/{session}/state"),
            ("POST", "/place"),
            ("GET", "/page"),
            ("POST", "/page"),
            ("DELETE", "/page"),
            ("GET", "/a/%2e%2e/../b"),
            ("PUT", "/hooks/a"),
        ]
    )
    if choose.random() < 0.8:
        headers.append(("X-Event", event))
    if choose.random() < 0.5:
        headers.append(("X-Session", session))
    body = some_body(choose, event, session) if method == "POST" else ""
    proven = not path.startswith(("/hooks", "/signed"))
    if not proven and choose.random() < 0.85:
        proven = choose.random() < 0.8
        age = 4000 if choose.random() < 0.1 else 0
        proof = sign(SIGNATURE if proven else STRANGER, body.encode(), time.time() - age)
        headers += [(name.decode(), value.decode()) for name, value in proof]
    return Sent(method, path, tuple(headers), body, peer, proven)


def some_body(choose: random.Random, event: str, session: str) -> str:
    kind = choose.random()
    if kind < 0.05:
        return "not JSON"
    if kind < 0.1:
        return '{"event": 7, "session": "a"}'
    members: dict[str, Any] = {"event": event, "session": session, "workspace": choose.randint(1, 2)}
    members["to"] = ["x"] * choose.choice([1, 1, 1, 2, 5, 50])
    for name in ("event", "session", "workspace"):
        if choose.random() < 0.07:
            del members[name]
    if choose.random() < 0.08:
        members["text"] = "x" * 1100
    return orjson.dumps(members).decode()


class Gateway:
    """A process of its own, and one connection for each address."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: dict[str, HTTPConnection] = {}

    def answer(self, sent: Sent) -> tuple[str, HTTPResponse]:
        for attempt in (1, 2):
            connection = self._connections.get(sent.peer)
            if connection is None:
                connection = HTTPConnection("127.0.0.1", self._port, timeout=20, source_address=(sent.peer, 0))
                self._connections[sent.peer] = connection
            try:
                body = sent.body.encode() if sent.body else None
                connection.request(sent.method, sent.path, body, dict(sent.headers))
                response = connection.getresponse()
                content = response.read()
            except (HTTPException, OSError):
                self._connections.pop(sent.peer).close()
                if attempt == 2:
                    raise
                continue
            return outcome_of(response.status, content), response
        raise AssertionError

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def outcome_of(status: int, content: bytes) -> str:
    """In the same classes as of `explained`."""
    told = orjson.loads(content)
    if status == 202:
        return "dropped" if told["status"] == "dropped" else "relay"
    detail = told["detail"]
    if "worker" in detail or "there is no session" in detail:
        return "workers"
    return "upstream" if status in (502, 503) and "laravel" in detail else str(status)


def explained(told: dict[str, Any]) -> str:
    outcome = told["outcome"]
    status = re.match(r"(\d{3}): ", outcome)
    if status:
        return status[1]
    if outcome.startswith("202 dropped"):
        return "dropped"
    return next(name for name, text in DESTINATIONS.items() if text in outcome)


DESTINATIONS = {"upstream": "to upstream laravel", "relay": "stored, and delivered to crm", "workers": "worker"}


def run(*arguments: str) -> dict[str, Any]:
    """What a command prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*arguments]) in (0, 1)
    told: dict[str, Any] = orjson.loads(printed.getvalue())
    return told


def ask(sent: Sent, file: Path) -> dict[str, Any]:
    headers = [it for name, value in sent.headers for it in ("--header", f"{name}: {value}")]
    about = ("--method", sent.method, "--path", sent.path, "--ip", sent.peer, "--body", sent.body)
    return run("explain", *about, *headers, "--json", "--policies", str(file))


@contextlib.contextmanager
def gateway(file: Path, port: int, folder: Path) -> Iterator[Gateway]:
    environment = os.environ | {"SECRET": SECRET, "SLUICE_LOGS": str(folder)}
    command = [sys.executable, "-m", "sluice", "gateway", "--policies", str(file)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    probe = HTTPConnection("127.0.0.1", port, timeout=5)
                    probe.request("GET", "/_sluice/healthz")
                    probe.getresponse().read()
                    probe.close()
                    break
                assert time.monotonic() < deadline, "the gateway did not start"
                time.sleep(0.05)
            made = Gateway(port)
            try:
                yield made
            finally:
                made.close()
        finally:
            process.terminate()
            process.communicate()


def logged(folder: Path, requests: int) -> list[dict[str, Any]]:
    """The access log, when all of them are in it."""
    deadline = time.monotonic() + 10
    while True:
        lines = (folder / "gateway.jsonl").read_bytes().splitlines()
        rows = [row for row in map(orjson.loads, lines) if row["msg"] == "request"]
        if len(rows) >= requests:
            return rows
        assert time.monotonic() < deadline, f"{len(rows)} of {requests} requests are logged"
        time.sleep(0.05)


def remaining(response: HTTPResponse) -> dict[str, int]:
    """What the answer says is left, by limit."""
    return {name: int(left) for name, left in re.findall(r'"(\w+)";r=(\d+)', response.headers.get("RateLimit", ""))}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_explain_replay_and_the_gateway_agree(
    seed: int, tmp_path: Path, store_url: str, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_policies, "load", lru_cache(load))  # parsing the same file is most of what explain costs
    choose, port, file, in_the_log = random.Random(seed), free_port(), tmp_path / "policies.yaml", seed % 2 == 0
    numbers = {"port": port, "closed": free_port(), "store": store_url, "data": tmp_path / "data"}
    for _ in range(50):
        limits = some_limits(choose, in_the_log=in_the_log)
        file.write_text(POLICIES.format(limits=limits, proxy=PROXY, denied=DENIED, **numbers))
        with contextlib.suppress(PolicyError):  # limits without any effect are refused
            load(file, need_secrets=False)
            break
    else:
        load(file, need_secrets=False)  # it says what else is wrong
    outcomes: list[str] = []
    told: list[dict[str, Any]] = []
    with gateway(file, port, tmp_path) as gate:
        for number in range(REQUESTS):
            sent = some_request(choose)
            expected = ask(sent.as_explained(), file)
            outcome, response = gate.answer(sent)
            context = (
                f"request {number}: {sent}\n{orjson.dumps(expected, option=orjson.OPT_INDENT_2).decode()}\n{limits}"
            )
            assert outcome == explained(expected), context
            enforced = {
                it["id"]: int(it["level"] - it["cost"] + 1e-6) for it in expected["limits"] if "only" not in it["how"]
            }
            if outcome in DESTINATIONS or (remaining(response) and outcome not in ("429", "dropped")):
                assert remaining(response) == {name: max(0, left) for name, left in enforced.items()}, context
            outcomes.append(outcome)
            told.append(expected)
        rows = logged(tmp_path, REQUESTS)
    for row, expected in zip(rows, told, strict=True):
        assert (row["route"], row["client"]) == (expected["route"] or "-", expected["client"])
        unread = row["status"] == 429 and row.get("counted") == "head"
        for name in ("event", "session"):
            assert row.get(name) == expected[name] or (unread and row.get(name) is None)
    assert len(set(outcomes)) >= 7, "most of what can become of a request has become of one"
    if in_the_log:
        replayed = run("replay", str(tmp_path / "gateway.jsonl"), "--json", "--policies", str(file))
        assert (replayed["requests"], replayed["refused_then"]) == (REQUESTS, outcomes.count("429"))
        assert replayed["refused_now"] == outcomes.count("429")
