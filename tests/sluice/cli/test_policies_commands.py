"""`sluice explain`, `diff` and `replay`: what policies do, before they do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.explain import HypotheticalRequest, explain
from gateway.policies import load
from sluice.cli.main import main

POLICIES = """version: 1
store: {{url: "{store}"}}
trust:
  proxies: [10.0.0.1/32]
  lists: {{office: [203.0.113.0/28]}}
  deny: [198.51.100.9]
upstreams:
  laravel: {{url: "http://127.0.0.1:8000"}}
routes:
  - {{path: /api/send, methods: [POST], event: message_send, session: {{json: /session}}, upstream: laravel}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: send, event: message_send, per: [session], rate: {rate}, burst: {burst}}}
  - {{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [office]}}
  - {{id: trial, event: message_send, rate: 10/second, burst: 20, mode: observe}}
"""


@pytest.fixture
def file(tmp_path: Path, store_url: str) -> Path:
    return write(tmp_path / "policies.yaml", store_url)


def write(file: Path, store: str, rate: str = "30/minute", burst: int = 5) -> Path:
    file.write_text(POLICIES.format(store=store, rate=rate, burst=burst))
    return file


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    assert main([str(one) for one in arguments]) == code
    return capsys.readouterr().out


SEND = ("explain", "--method", "post", "--path", "/api/send?x=1", "--body", '{"session": "s1"}')


def test_explain_tells_route_limits_and_levels_and_takes_nothing(
    capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    for _ in range(2):
        assert said(capsys, *SEND, "--policies", file).splitlines() == [
            "client     127.0.0.1",
            "route      /api/send (line 10): passed on to upstream laravel",
            "event      message_send",
            "session    s1",
            "limit      send: enforced; 5 of 5 left, one more each 2s, costs 1",
            "limit      address: enforced; 500 of 500 left, one more each 0.02s, costs 1",
            "limit      trial: only observed; 20 of 20 left, one more each 0.1s, costs 1",
            "outcome    passed on to upstream laravel",
        ]


def test_explain_tells_why_a_limit_and_a_route_are_not_met(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    told = said(capsys, "explain", "--path", "/api/send", "--ip", "203.0.113.3", "--policies", file)
    assert "           /api/send is for POST\n" in told
    assert "           send is for message_send\n" in told
    assert "           address does not apply to list office\n" in told


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("--ip", "198.51.100.9"), "403: this address is denied (trust.deny)"),
        (("--body", "x"), "400: the body is not JSON"),
        (("--header", "X-Forwarded-For: 1.2.3.4"), "passed on to upstream laravel"),
    ],
)
def test_explain_tells_where_it_would_end(
    capsys: pytest.CaptureFixture[str], file: Path, arguments: tuple[str, ...], outcome: str
) -> None:
    told = orjson.loads(said(capsys, *SEND, *arguments, "--json", "--policies", file))
    assert told["outcome"].startswith(outcome)


RELAYED = """version: 1
store: {{url: "{store}"}}
bodies: 1MiB
signatures: {{workers: {{preset: blazz, secret: env:ABSENT}}}}
routes:
  - {{path: /hooks, verify: workers, event: {{json: /event}}, session: {{json: /session}}, body: 1KiB, relay: laravel}}
limits:
  - {{id: message, per: [session], rate: 1/hour, burst: 1}}
  - {{id: address, per: [ip], rate: 1/hour, burst: 1}}
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}}}
"""
PROOF = ("--header", "X-HMAC-Signature: 00", "--header")


@pytest.mark.parametrize(
    ("arguments", "outcome", "limits"),
    [
        (("--body", "{}"), "400: the request names no event type where the route looks for it", ["address"]),
        (("--body", "x"), "400: the body is not JSON", ["address"]),
        (("--body", "x" * 1025), "413: the body is 1025 bytes, this route takes 1024 at most", ["address"]),
        (("--body", '{"event": "a", "session": "s1"}'), "stored, and delivered to laravel", ["message", "address"]),
        ((*PROOF, "X-Timestamp: 7"), "401: X-Timestamp is ", ["address"]),
        ((*PROOF, "X-Other: 7"), "401: the headers X-HMAC-Signature and X-Timestamp must both be there", ["address"]),
    ],
)
def test_explain_tells_what_is_refused_and_which_limits_that_takes_from(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    store_url: str,
    arguments: tuple[str, ...],
    outcome: str,
    limits: list[str],
) -> None:
    file = tmp_path / "relayed.yaml"
    file.write_text(RELAYED.format(store=store_url))
    command = ("explain", "--method", "POST", "--path", "/hooks", *arguments, "--json", "--policies", file)
    told = orjson.loads(said(capsys, *command))
    assert told["outcome"].startswith(outcome)
    assert [it["id"] for it in told["limits"]] == limits
    assert told["signature"] == {"name": "workers", "checked": False}


def test_explain_says_that_it_does_not_check_a_signature_and_what_a_wrong_one_costs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, store_url: str
) -> None:
    file = tmp_path / "relayed.yaml"
    file.write_text(RELAYED.format(store=store_url))
    body = '{"event": "a", "session": "s1"}'
    told = said(capsys, "explain", "--method", "POST", "--path", "/hooks", "--body", body, "--policies", file)
    expected = (
        "signature  not checked here: signatures.workers; without a valid one it is 401, and takes from address\n"
    )
    assert expected in told


def test_explain_reads_the_buckets_that_the_edge_has_on_a_cluster(tmp_path: Path) -> None:
    policies = load(write(tmp_path / "p.yaml", "redis+cluster://127.0.0.1:7000"), need_secrets=False)
    found = explain(policies, HypotheticalRequest("POST", "/api/send", "192.0.2.7", body=b'{"session": "s1"}'), 0.0)
    assert [bucket.key for bucket in found.buckets] == [
        "sl:{l:send}:\0s1",
        "sl:{l:address}:\x00192.0.2.7",
        "sl:{l:trial}:",
    ]


def test_explain_without_a_store_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", "unix:///nonexistent/store.sock")
    assert "unknown of 5 left" in said(capsys, *SEND, "--policies", file)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--path", "api"), 'sluice: "api" is not a path; write --path /api'),
        (("--path", "/", "--body", "@/nonexistent"), "sluice: /nonexistent cannot be read: no such file or directory"),
    ],
)
def test_explain_refuses_what_it_cannot_read(
    capsys: pytest.CaptureFixture[str], file: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    assert main(["explain", *arguments, "--policies", str(file)]) == 2
    assert capsys.readouterr().err.strip() == complaint


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--ip", "localhost"), '"localhost" is not an address; write 203.0.113.7 or 2001:db8::1'),
        (("--header", "X-Session"), "\"X-Session\" is not a header; write 'Name: value'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_cure(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--path", "/", *arguments])
    assert complaint in capsys.readouterr().err


def test_diff_tells_what_changes_and_when(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    edited = write(tmp_path / "new.yaml", "unix:///run/other.sock", "60/minute", 10)
    text = edited.read_text().replace("deny: [198.51.100.9]", "deny: []")
    edited.write_text(text.replace("  - {id: trial", "  - {id: probe").replace("/api/send, m", "/api/sent, m"))
    told = said(capsys, "diff", file, edited, code=1)
    assert "limits.send.rate changes from 30/minute to 60/minute (buckets keep their level)\n" in told
    assert "limits.send.burst changes from 5 to 10 (buckets keep their level)\n" in told
    assert "trust.deny changes from 198.51.100.9 to none\n" in told
    assert "limits.trial is gone; it was id trial, event message_send, rate 10/second, burst 20, mode observe\n" in told
    assert "limits.probe is new: id probe, event message_send, rate 10/second, burst 20, mode observe\n" in told
    assert "routes.POST /api/sent is new: path /api/sent, " in told
    assert "to unix:///run/other.sock (at the next start)\n" in told
    rows = orjson.loads(said(capsys, "diff", file, edited, "--json", code=1))
    assert {"key": "limits.send.burst", "old": "5", "new": "10", "needs_restart": False} in rows


def test_diff_of_the_same_is_nothing(capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.yaml"
    same.write_text("# another comment\n" + file.read_text())
    assert said(capsys, "diff", file, same) == "they say the same\n"


def line(second: float, **fields: Any) -> bytes:
    about = {"at": f"2026-11-24T10:00:{second:06.3f}Z", "msg": "request", "method": "POST", "path": "/api/send"}
    known = {"client": "192.0.2.7", "event": "message_send", "session": "s1", "status": 200}
    return orjson.dumps(about | known | fields) + b"\n"


def test_replay_tells_who_would_have_been_refused(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "gateway.jsonl"
    lines = [line(i * 0.1) for i in range(10)] + [line(1, session="s2"), line(3, status=429)]
    log.write_bytes(b"".join(lines) + b'not json\n{"msg": "gateway.started"}\n')
    assert said(capsys, "replay", log, "--policies", file, code=1).splitlines() == [
        "12 requests, 2 other lines",
        "refused then 1, refused now 5",
        "  send         7 passed, 5 refused",
        "               5 of s1",
        "  address      12 passed",
        "  trial        12 passed",
        "not in the log, and so not counted: costs in bodies, and workspaces",
    ]
    told = orjson.loads(said(capsys, "replay", log, "--json", "--policies", file, code=1))
    assert told["limits"]["send"] == {
        "passed": 7,
        "refused": 5,
        "dropped": 0,
        "delayed": 0,
        "longest_delay_seconds": 0.0,
        "held": 0,
        "longest_hold_seconds": 0.0,
        "would_reject": 0,
        "worst": {"s1": 5},
    }


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ({"status": 401}, 0),
        ({"status": 401, "why": "X-Timestamp is old", "counted": "head"}, 0),
        ({"status": 400}, 0),
        ({"status": 413}, 0),
        ({"status": 403, "why": "this address is denied (trust.deny)"}, 0),
        ({"status": 503, "why": "too many request bodies", "counted": "none"}, 0),
        ({"status": 401, "why": None}, 5),  # of the upstream: it passed all limits
        ({"status": 502, "why": "laravel cannot be reached"}, 5),
        ({"status": 202, "counted": None}, 5),
    ],
)
def test_replay_counts_what_was_refused_as_the_edge_does(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, row: dict[str, Any], refused: int
) -> None:
    log = tmp_path / "gateway.jsonl"
    log.write_bytes(b"".join(line(i * 0.01, **row) for i in range(10)))
    told = orjson.loads(said(capsys, "replay", log, "--json", "--policies", file, code=1 if refused else 0))
    assert (told["refused_now"], told["limits"]["send"]["passed"]) == (refused, 5 if refused else 0)
    assert told["limits"]["address"]["passed"] == (0 if row["status"] == 403 or row["status"] == 503 else 10)


def test_replay_under_wider_limits_refuses_nobody(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, store_url: str
) -> None:
    log = tmp_path / "gateway.jsonl"
    log.write_bytes(b"".join(line(i * 0.1) for i in range(10)))
    wide = write(tmp_path / "wide.yaml", store_url, "300/minute", 50)
    assert "refused now 0" in said(capsys, "replay", log, "--policies", wide)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("absent", "cannot be read: no such file or directory"),
        ("empty", "holds no requests; the access log is <data>/logs/gateway.jsonl"),
    ],
)
def test_replay_says_what_is_wrong_with_a_log(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, name: str, complaint: str
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert main(["replay", str(tmp_path / name), "--policies", str(file)]) == 2
    assert capsys.readouterr().err == f"sluice: {tmp_path / name} {complaint}\n"


# --- several listeners


LISTENERS = """version: 1
listen: {public: "127.0.0.1:8080", workers: "127.0.0.1:3000"}
upstreams: {laravel: {url: "http://127.0.0.1:8000"}}
routes:
  - {path: /health, methods: [GET], event: health, upstream: laravel, on: workers}
  - {path: /**, upstream: laravel, on: public}
limits: [{id: health, event: health, rate: 1/hour, burst: 1}]
"""


def test_explain_says_at_which_listener(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(LISTENERS)
    told = {
        on: said(capsys, "explain", "--path", "/health", "--on", on, "--policies", file) for on in ("public", "workers")
    }
    assert [text.splitlines()[1:3] for text in told.values()] == [
        ["on         public", "route      /** (line 6): passed on to upstream laravel"],
        ["on         workers", "route      /health (line 5): passed on to upstream laravel"],
    ]
    assert main(["explain", "--path", "/", "--on", "workrs", "--policies", str(file)]) == 2
    assert capsys.readouterr().err == 'sluice: on: no listener is called "workrs"; there are: public, workers\n'


def test_replay_goes_by_the_listener_and_leaves_the_reserved_paths_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, log = tmp_path / "policies.yaml", tmp_path / "gateway.jsonl"
    file.write_text(LISTENERS)
    row = {"at": "2026-01-01T00:00:00Z", "msg": "request", "method": "GET", "path": "/health", "status": 200}
    row |= {"client": "192.0.2.1", "event": "health"}
    rows = [{**row, "on": "workers"}, {**row, "on": "workers"}, {**row, "on": "public", "event": None}]
    rows.append({**row, "path": "/_sluice/api/status", "route": "/_sluice/**", "counted": "none"})
    log.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    told = orjson.loads(said(capsys, "replay", log, "--json", "--policies", file, code=1))
    assert (told["requests"], told["skipped_lines"], told["refused_now"]) == (3, 1, 1)
