"""An edit is described in the words of the file, and nothing that differs is missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import Policies, load
from gateway.policies.edits import changed, differences

LIMIT = "limits: [{id: send, per: [session], rate: 30/minute, burst: 5, EXTRA}]"
SECRET = "signatures: {workers: {secret: 'file:hmac'}}"


def policies(folder: Path, text: str) -> Policies:
    file = folder / "policies.yaml"
    file.write_text(f"version: 1\n{text}\n")
    return load(file, environment={"OLD": "old", "NEW": "new"})


def limit(extra: str) -> str:
    return LIMIT.replace("EXTRA", extra)


@pytest.mark.parametrize(
    ("before", "after", "described"),
    [
        (limit("mode: enforce"), limit("mode: observe"), ["limits.send.mode changes from enforce to observe"]),
        (
            "trust: {lists: {office: [10.0.0.0/8]}}\n" + limit("mode: enforce"),
            "trust: {lists: {office: [10.0.0.0/8]}}\n" + limit("mode: enforce, except: [office]"),
            ["limits.send.except is new: office"],
        ),
        (
            "relay: {retention: {delivered: 1d}}",
            "relay: {retention: {delivered: 2d}}",
            ["relay.retention.delivered changes from 1d to 2d"],
        ),
        (
            limit("mode: enforce"),
            "limits: []",
            ["limits.send is gone; it was id send, per session, rate 30/minute, burst 5, mode enforce"],
        ),
        (
            "limits: []",
            limit("mode: enforce"),
            ["limits.send is new: id send, per session, rate 30/minute, burst 5, mode enforce"],
        ),
        ("limit_headers: [ratelimit]", "limit_headers: []", ["limit_headers changes from ratelimit to none"]),
        (
            limit("overrides: [{session: vip-*, burst: 9}]"),
            limit("overrides: [{session: a, burst: 8}, {session: vip-*, burst: 10}]"),
            [
                "limits.send.overrides.session vip-*.burst changes from 9 to 10",
                "limits.send.overrides.session a is new: session a, burst 8",
            ],
        ),
        (limit("cost: 1"), limit("cost: 2"), ["limits.send.cost changes from 1 to 2"]),
        ("data: one", "data: two", ["data changes from one to two"]),
        ("console: {token: env:OLD}", "console: {token: env:NEW}", ["console.token changes from env:OLD to env:NEW"]),
        ("relay: {dedupe: 60s}", "relay: {dedupe: 1m}", []),
        (
            "sessions: {workers: [{url: 'http://one'}]}",
            "sessions: {workers: [{url: 'http://two'}]}",
            [
                "sessions.workers.http://one is gone; it was url http://one",
                "sessions.workers.http://two is new: url http://two",
            ],
        ),
        (
            "sessions: {workers: [{url: 'http://one', name: w1}]}",
            "sessions: {workers: [{url: 'http://two', name: w1}]}",
            ["sessions.workers.w1.url changes from http://one to http://two"],
        ),
    ],
)
def test_keys_and_values_are_those_of_the_file(tmp_path: Path, before: str, after: str, described: list[str]) -> None:
    found = differences(policies(tmp_path, before), policies(tmp_path, after))
    assert [str(change) for change in found] == described


def test_a_secret_file_with_another_content_is_said_to_have_changed_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "hmac").write_text("first")
    before = policies(tmp_path, SECRET)
    (tmp_path / "hmac").write_text("second")
    (change,) = differences(before, policies(tmp_path, SECRET))
    assert str(change) == "signatures.workers.secret changes"


def test_a_header_that_may_hold_a_secret_is_masked(tmp_path: Path) -> None:
    def endpoint(key: str) -> Policies:
        return policies(tmp_path, f"relay: {{endpoints: {{crm: {{url: 'http://crm', headers: {{X-Key: {key}}}}}}}}}")

    (change,) = differences(endpoint("hunter1"), endpoint("hunter2"))
    assert str(change) == "relay.endpoints.crm.headers.X-Key changes"


def test_another_order_of_routes_is_a_change(tmp_path: Path) -> None:
    routes = ["{path: /a, upstream: u}", "{path: /b, upstream: u}"]

    def ordered(names: list[str]) -> Policies:
        return policies(tmp_path, f"upstreams: {{u: {{url: 'http://u'}}}}\nroutes: [{', '.join(names)}]")

    (change,) = differences(ordered(routes), ordered(routes[::-1]))
    assert str(change) == "routes changes from /a, /b to /b, /a"


def test_what_waits_for_the_next_start_is_not_said_to_be_live(tmp_path: Path) -> None:
    before = policies(tmp_path, "listen: 127.0.0.1:8080\nrelay: {dedupe: 1d}")
    after = policies(tmp_path, "listen: 127.0.0.1:9090\nrelay: {dedupe: 2d}")
    assert changed(before, after) == ("relay.dedupe",)
