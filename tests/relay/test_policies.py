from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.policies import Policies, ToRelay, load
from relay.policies import OF_EXISTING_WORKERS, UNCOUNTED, Batch, Endpoint, EventPolicy, Retention, Retry
from sluice.config import PolicyError, Secret

Read = Callable[..., Policies]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str, **environment: str) -> Policies:
        path = tmp_path / "policies.yaml"
        path.write_text(f"version: 1\n{text}\n")
        return load(path, environment=environment)

    return read_text


def endpoint(read: Read, settings: str, **environment: str) -> Endpoint:
    text = f"relay: {{endpoints: {{a: {{url: http://127.0.0.1:8000, {settings}}}}}}}"
    return read(text, **environment).relay.endpoints["a"]


def test_an_endpoint_says_which_events_it_is_sent(read: Read) -> None:
    assert endpoint(read, "events: [message_*, session_ready]").events == ("message_*", "session_ready")
    assert endpoint(read, "order: none").events == ()


def test_with_existing_workers_session_ready_does_no_harm_unless_the_policies_say_what_becomes_of_it(
    read: Read,
) -> None:
    workers, urgent = "sessions: {workers: [{url: http://127.0.0.1:3001}]", "lanes: {urgent: [session_*]}"
    of_type = {name: OF_EXISTING_WORKERS[name] for name in OF_EXISTING_WORKERS}
    announcing = {"session_authenticated": EventPolicy(announces=30.0)}
    of_type["qr_code_generated"] = replace(of_type["qr_code_generated"], announces=30.0)
    assert read(f"relay: {{{urgent}}}\n{workers}}}").relay.events == of_type | announcing
    assert read(f"relay: {{{urgent}}}\n{workers}, shields: {{events: false}}}}").relay.events == {}
    assert read(f"relay: {{{urgent}}}").relay.events == {}, "without such workers"
    own = read(f"relay: {{{urgent}, events: {{session_ready: {{ttl: 5s}}}}}}\n{workers}}}").relay.events
    assert own["session_ready"] == EventPolicy(ttl=5.0)
    not_urgent = read(f"{workers}}}").relay.events
    assert not_urgent["session_ready"] == EventPolicy(supersede=OF_EXISTING_WORKERS["session_ready"].supersede)
    assert "session_authenticated" not in not_urgent


def test_headers_are_given_as_text_or_by_name_and_are_masked_either_way(read: Read) -> None:
    found = endpoint(read, "headers: {X-Tenant: hunter1, Authorization: env:TOKEN}", TOKEN="Bearer hunter2")
    assert found.headers == (("X-Tenant", Secret(b"hunter1")), ("Authorization", Secret(b"Bearer hunter2")))
    assert "hunter" not in repr(found)


def test_a_batch_has_a_size_and_a_longest_wait(read: Read) -> None:
    assert endpoint(read, "batch: {max: 20, wait: 1s}").batch == Batch(20, 1.0)
    assert endpoint(read, "batch: {}").batch == Batch(100, 0.2)
    assert endpoint(read, "order: none").batch is None


def test_a_delivery_is_tried_so_often_or_so_long(read: Read) -> None:
    assert endpoint(read, "retry: {attempts: 5}").retry == Retry(5, 1.0, 600.0, within=None)
    assert endpoint(read, "retry: {attempts: 5, for: 1d}").retry == Retry(5, 1.0, 600.0, within=86400.0)
    assert endpoint(read, "retry: {for: 1d}").retry == Retry(UNCOUNTED, 1.0, 600.0, within=86400.0)


def test_an_endpoint_can_be_required(read: Read) -> None:
    assert [endpoint(read, f"required: {word}").required for word in ("true", "false")] == [True, False]
    assert endpoint(read, "order: none").required is False


def test_dead_letters_have_a_budget_of_their_own(read: Read) -> None:
    assert read("relay: {retention: {}}").relay.retention == Retention(
        86400.0, 30 * 86400.0, 100_000, 2**28, 0.0, 2**28
    )
    retention = read("relay: {retention: {dead_events: 7, dead_bytes: 1MiB}}").relay.retention
    assert (retention.dead_events, retention.dead_bytes) == (7, 2**20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "relay: {endpoints: {a: {url: http://127.0.0.1, required: maybe}}}",
            'relay.endpoints.a.required: "maybe" is not known here; write true or false',
        ),
        ("relay: {retention: {dead_events: 0}}", "relay.retention.dead_events: 0 is too small; write 1 or more"),
        (
            "relay: {retention: {dead_bytes: many}}",
            'relay.retention.dead_bytes: "many" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
        ),
        (
            "relay: {retention: {bodies: yes}}",
            'relay.retention.bodies: "yes" is not a duration; write 250ms, 5s, 2m, 1h or 1d, or none',
        ),
        (
            "relay: {retention: {bodies_bytes: 0}}",
            'relay.retention.bodies_bytes: "0" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
        ),
        ("relay: {retention: {dead_event: 5}}", "relay.retention.dead_event: unknown key; did you mean dead_events"),
    ],
)
def test_a_mistake_in_the_budgets_is_named_with_its_cure(read: Read, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(text)
    assert message in str(caught.value)


def test_a_circuit_closes_slowly_unless_it_is_told_not_to(read: Read) -> None:
    assert endpoint(read, "order: none").circuit.slow_start == 10.0
    assert endpoint(read, "circuit: {slow_start: 30s}").circuit.slow_start == 30.0
    assert endpoint(read, "circuit: {slow_start: none}").circuit.slow_start == 0.0


def test_private_addresses_are_refused_unless_the_endpoint_allows_them(read: Read) -> None:
    assert endpoint(read, "order: none").private is False
    assert endpoint(read, "private: refuse").private is False
    assert endpoint(read, "private: allow").private is True


def test_delivered_events_are_kept_for_a_day_or_as_long_as_is_said(read: Read) -> None:
    assert read("relay: {}").relay.retention.delivered == read("").relay.retention.delivered == 86400.0
    assert read("relay: {retention: {delivered: 1h}}").relay.retention.delivered == 3600.0
    relay = read("relay: {retention: {delivered: none, dead: 2d}}").relay
    assert (relay.retention.delivered, relay.retention.dead) == (0.0, 2 * 86400.0)


def test_bodies_of_delivered_events_are_kept_where_it_is_said(read: Read) -> None:
    retention = read("relay: {retention: {bodies: 3d, bodies_bytes: 64KiB}}").relay.retention
    assert (retention.bodies, retention.bodies_bytes) == (3 * 86400.0, 2**16)
    assert read("relay: {retention: {bodies: none}}").relay.retention.bodies == 0.0


def test_publishers_prove_themselves_by_a_signature(read: Read) -> None:
    text = "signatures: {laravel: {preset: key, secret: env:HMAC}}\nrelay: {verify: laravel}"
    assert read(text, HMAC="s").relay.verify == "laravel"
    assert read("relay: {}").relay.verify is None


def test_a_route_relays_to_one_endpoint_or_to_several(read: Read) -> None:
    endpoints = "relay: {endpoints: {a: {url: http://127.0.0.1:1}, b: {url: http://127.0.0.1:2}}}"
    one, two = read(f"{endpoints}\nroutes: [{{path: /a, relay: a}}, {{path: /b, relay: [b, a]}}]").routes
    assert one.action == ToRelay(("a",))
    assert two.action == ToRelay(("b", "a"))
