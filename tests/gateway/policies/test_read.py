from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.policies import (
    AddressList,
    BodyCost,
    Fixed,
    Header,
    Health,
    JsonPointer,
    Limit,
    ListEntry,
    Override,
    PathSegment,
    Policies,
    Route,
    ToRelay,
    ToUpstream,
    ToWorkers,
    Trust,
    Upstream,
    load,
)
from gateway.policies.routes import UNLIMITED
from relay.policies import (
    Backlog,
    CircuitPolicy,
    Endpoint,
    EventPolicy,
    Lanes,
    Retry,
)
from sessions.policies import ExistingWorker, SessionsPolicy
from sluice.config import (
    Listen,
    PolicyError,
    Problem,
    Rate,
    Secret,
    Signature,
    StorePolicy,
)
from sluice.config.listening import at
from tests.gateway.policies.schema_check import problems_by_schema

DEFAULT = Path(__file__).parents[3] / "policies.yaml"
ENVIRONMENT = {"WHATSAPP_HMAC_SECRET": "hmac" * 4, "SLUICE_CONSOLE_TOKEN": "token" * 4}
Read = Callable[..., Policies]


def a_list(*texts: str) -> AddressList:
    return AddressList(tuple(ListEntry(ip_network(text)) for text in texts))


@pytest.fixture(scope="module")
def default() -> Policies:
    return load(DEFAULT, environment=ENVIRONMENT)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Policies of a file with this text after `version: 1`."""

    def read_text(text: str = "", *, need_secrets: bool = True, **environment: str) -> Policies:
        path = tmp_path / "policies.yaml"
        path.write_text(f"version: 1\n{text}\n")
        policies = load(path, environment=environment, need_secrets=need_secrets)
        assert problems_by_schema(path.read_text()) == []
        return policies

    return read_text


# --- the default file


def test_the_default_file_loads_without_a_warning(default: Policies) -> None:
    assert default.warnings == ()
    assert default.source == DEFAULT
    assert default.revision == hashlib.sha256(DEFAULT.read_bytes()).hexdigest()[:12]
    assert default.listen == (at(Listen("127.0.0.1", 8080)),)
    assert default.data == DEFAULT.resolve().parent / ".sluice"


def test_default_store_trust_and_upstreams(default: Policies) -> None:
    here, office = a_list("127.0.0.1/32"), a_list("203.0.113.0/28")
    assert default.store == StorePolicy("embedded", "second", 0.25)
    assert default.trust == Trust(
        AddressList(), (), {"laravel": here, "workers": here, "office": office}, AddressList()
    )
    assert default.upstreams == {"laravel": Upstream("laravel", "http://127.0.0.1:8000", 1.0, 30.0, 60.0)}


def test_default_secrets_come_from_the_environment_and_stay_hidden(default: Policies) -> None:
    secret = Secret(b"hmac" * 4)
    assert default.signatures == {
        "workers": Signature("workers", "blazz", secret, 300.0),
        "laravel": Signature("laravel", "blazz", secret, 300.0),
    }
    assert default.console.token == Secret(b"token" * 4)
    assert "hmac'" not in repr(default)


def test_default_routes(default: Policies) -> None:
    webhook = JsonPointer("/event"), JsonPointer("/data/session_id")
    body, session = JsonPointer("/session_id"), PathSegment("session")
    mib, line, post = 2**20, default.routes[0].line, frozenset({"POST"})
    relay, get, send = ToRelay(("laravel",)), frozenset({"GET"}), Fixed("message_send")

    def worker(
        path: str,
        methods: frozenset[str],
        action: ToWorkers,
        at: int,
        found: JsonPointer | PathSegment | None = None,
        event: Fixed | None = None,
    ) -> Route:
        body, time = (mib, None) if action.how in ("list", "health") else (50 * mib, 60.0)
        return Route(path, methods, None, event, found, action, body, line + 5 + at, None, time, time)

    of_message = [
        worker("/api/messages/send", post, ToWorkers("owner"), 4, body, send),
        worker("/api/messages/send-media", post, ToWorkers("owner"), 5, body, send),
        worker("/api/messages/bulk-send", post, ToWorkers("owner"), 6, body, send),
        worker("/api/messages/{session}/*", get, ToWorkers("owner"), 7, session),
        worker("/api/messages/**", frozenset(), ToWorkers("any"), 8),
    ]
    assert "webhooks" in DEFAULT.read_text().splitlines()[line - 1]
    assert default.routes == (
        Route("/api/whatsapp/webhooks/*", post, "workers", *webhook, relay, 32 * mib, line),
        worker("/api/sessions", get, ToWorkers("list"), 1),
        worker("/api/sessions", post, ToWorkers("place"), 2, body),
        worker("/api/sessions/{session}/**", frozenset(), ToWorkers("owner"), 3, session),
        *of_message,
        worker("/api/internal/sessions/{session}/**", frozenset(), ToWorkers("owner"), 9, session),
        worker("/health/**", get, ToWorkers("health"), 10),
        worker("/info", get, ToWorkers("any"), 11),
        worker("/cleanup/run", post, ToWorkers("any"), 12),
        worker("/cleanup/stats", get, ToWorkers("any"), 13),
        worker("/cleanup/{session}", post, ToWorkers("owner"), 14, session),
        worker("/remoteauth/**", get, ToWorkers("any"), 15),
        worker("/sessions/{session}/logout", post, ToWorkers("any"), 16, session),
        Route("/**", frozenset(), None, None, None, ToUpstream("laravel"), None, line + 22),
    )


def test_default_limits(default: Policies) -> None:
    assert [limit.id for limit in default.limits] == ["message", "receipt", "typing", "send", "address", "trial"]
    events = ("message_received", "message_sent")
    expected = Limit("message", events, ("session",), Rate(1000, 60.0), 200, "queue", (), 1.0, "local")
    assert default.limits[0] == expected
    exempt = ("laravel", "workers", "office")
    assert default.limits[4] == Limit("address", (), ("ip",), Rate(3000, 60.0), 500, "reject", exempt, 1.0, "local")
    trial = Limit("trial", ("message_send",), ("ip",), Rate(10, 1.0), 20, "reject", (), 0.0, "local")
    assert default.limits[5] == trial
    assert [limit.observe for limit in default.limits] == [False] * 3 + [True, False, True]
    assert default.limit_headers == {"ratelimit"}


def test_default_relay(default: Policies) -> None:
    retry, circuit = Retry(12, 1.0, 600.0), CircuitPolicy(30.0, 10, 0.5, 5.0, 300.0, 3, slow_start=10.0)
    pace, url = Rate(1000, 60.0), "http://127.0.0.1:8000"
    endpoint = Endpoint("laravel", url, "laravel", 10.0, 16, pace, "session", retry, circuit)
    endpoint = replace(endpoint, forward=("X-Instance-Url", "X-Forwarded-For"))
    bulk = ("typing_indicator", "heartbeat", "mobile_activity_detected")
    assert default.relay.endpoints == {"laravel": endpoint}
    assert default.relay.lanes == Lanes(("qr_code_generated", "session_*"), bulk)
    assert default.relay.events == {
        "typing_indicator": EventPolicy(15.0, True, None),
        "heartbeat": EventPolicy(60.0, True, None),
        "session_ready": EventPolicy(
            supersede=("/data/workspace_id", "/data/phone_number"),
            first=30.0,
            after=("session_authenticated", "qr_code_generated"),
        ),
        "session_authenticated": EventPolicy(announces=30.0),
        "qr_code_generated": EventPolicy(60.0, True, None, announces=30.0),
        "message_status_updated": EventPolicy(None, True, "/data/message_id"),
    }
    assert (default.relay.dedupe, default.relay.retention.dead) == (86400.0, 30 * 86400.0)
    assert default.relay.backlog == Backlog(2**30, 1_000_000)


def test_default_sessions(default: Policies) -> None:
    assert default.sessions == SessionsPolicy(15.0, None, (), "workers", restore=600.0)


# --- what is left out


def test_a_file_with_a_version_alone_is_the_default_without_names(
    read: Read, default: Policies, tmp_path: Path
) -> None:
    minimal = read()
    assert (minimal.listen, minimal.store) == (default.listen, default.store)
    assert minimal.data == tmp_path.resolve() / ".sluice"
    assert minimal.trust == Trust(AddressList(), (), {}, AddressList())
    assert (minimal.upstreams, minimal.signatures, minimal.routes, minimal.limits) == ({}, {}, (), ())
    assert (minimal.relay.endpoints, minimal.relay.events, minimal.relay.lanes) == ({}, {}, Lanes((), ()))
    assert minimal.relay.dedupe == default.relay.dedupe
    assert minimal.relay.retention.dead == default.relay.retention.dead
    assert minimal.relay.backlog == default.relay.backlog
    assert minimal.sessions == SessionsPolicy(15.0, None, (), None)
    assert minimal.console.token is None


def test_an_endpoint_with_a_url_alone_is_the_default_one_unsigned_and_unpaced(read: Read, default: Policies) -> None:
    endpoint = read("relay: {endpoints: {crm: {url: http://127.0.0.1:9000}}}").relay.endpoints["crm"]
    known = default.relay.endpoints["laravel"]
    assert (endpoint.sign, endpoint.rate) == (None, None)
    assert (endpoint.retry, endpoint.circuit) == (known.retry, known.circuit)
    assert (endpoint.timeout, endpoint.concurrency, endpoint.order) == (10.0, 16, "session")


def test_a_burst_that_is_not_given_is_the_rates_amount(read: Read) -> None:
    (limit,) = read("limits: [{id: all, rate: 7/10 seconds}]").limits
    assert limit == Limit("all", (), (), Rate(7, 10.0), 7, "reject", (), 1.0, "local")


# --- what the default file does not show


def test_the_other_ways_of_each_section(read: Read) -> None:
    policies = read(
        """
listen: '[::1]:0'
data: /var/lib/sluice
store: {url: unix:///run/valkey.sock, promise: always, timeout: 1s}
trust:
  proxies: [10.0.0.0/8, '::1/128']
  hosts: [Gate.example.org]
  lists: {bad: [192.0.2.0/24]}
  deny: [bad, 198.51.100.7]
relay: {backlog: {events: 1_000}, events: {presence: {ttl: 5s}}}
sessions:
  workers:
    - {url: 'http://127.0.0.1:3001/', key: env:KEY}
    - {url: 'http://[::1]:3002', name: w2, prefix: /w/w2, key: env:KEY, key_in: header}
    - {url: https://Node}
  restore: 20m
  shared_profiles: true
  advertise: http://sluice:8080/
""",
        KEY="k",
    )
    assert policies.listen == (at(Listen("::1", 0)),)
    assert policies.data == Path("/var/lib/sluice").resolve()
    assert policies.store == StorePolicy("unix:///run/valkey.sock", "always", 1.0)
    assert [it.network for it in policies.trust.proxies.entries] == [ip_network("10.0.0.0/8"), ip_network("::1/128")]
    assert policies.trust.hosts == ("gate.example.org",)
    assert policies.trust.deny == a_list("192.0.2.0/24", "198.51.100.7/32")
    assert policies.relay.backlog == Backlog(2**30, 1000)
    assert policies.relay.events["presence"] == EventPolicy(5.0, False, None)
    assert policies.sessions.workers == (
        ExistingWorker("http://127.0.0.1:3001", Secret(b"k"), "field", "127.0.0.1:3001", ""),
        ExistingWorker("http://[::1]:3002", Secret(b"k"), "header", "w2", "/w/w2"),
        ExistingWorker("https://Node", None, "field", "node:443", ""),
    )
    assert policies.sessions.restore == 1200.0
    assert policies.sessions.shared_profiles
    assert policies.sessions.advertise == "http://sluice:8080"


def test_the_other_ways_to_find_event_and_session(read: Read) -> None:
    first, second = read(
        """
routes:
  - {path: '/{id}/{session}/{workspace}', session: {path: id}, event: {header: X-Event}, workers: owner, body: 64KiB}
  - {path: /a, session: {header: X-Session-Id}, workspace: {json: /workspace_id}, methods: [PUT, PATCH], workers: place}
"""
    ).routes
    assert (first.session, first.event, first.body) == (PathSegment("id"), Header("X-Event"), 65536)
    assert (first.workspace, second.workspace) == (PathSegment("workspace"), JsonPointer("/workspace_id"))
    assert (second.session, second.methods) == (Header("X-Session-Id"), frozenset({"PUT", "PATCH"}))


def test_how_long_and_how_much_a_route_passes_on(read: Read) -> None:
    to_laravel, usual, looked_into, to_workers, own, relayed = read(
        """
upstreams: {laravel: {url: http://127.0.0.1:8000}}
relay: {endpoints: {crm: {url: http://127.0.0.1:8001}}}
routes:
  - {path: /upload, upstream: laravel, headers: 2m, idle: 5s, body: 2GiB}
  - {path: /web/**, upstream: laravel}
  - {path: /api, upstream: laravel, event: {json: /event}}
  - {path: /bulk, workers: any, headers: 5m, idle: 1s, body: 1KiB}
  - {path: /health, workers: health}
  - {path: /hook, relay: crm, event: hook}
"""
    ).routes
    assert (to_laravel.headers, to_laravel.idle, to_laravel.most(whole=False)) == (120.0, 5.0, 2 * 2**30)
    assert (usual.headers, usual.idle, usual.most(whole=False)) == (None, None, UNLIMITED)
    assert looked_into.most(whole=True) == 2**20
    assert (to_workers.headers, to_workers.idle, to_workers.body) == (300.0, 1.0, 1024)
    assert (own.headers, own.idle, own.body) == (None, None, 2**20)
    assert (relayed.headers, relayed.idle, relayed.body) == (None, None, 32 * 2**20)


def test_anchors_spare_repetition(read: Read) -> None:
    limits = read("limits: [{id: a, rate: &pace 5/second, per: [ip]}, {id: b, rate: *pace, per: [session]}]").limits
    assert limits[0].rate == limits[1].rate == Rate(5, 1.0)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\r\n")
    assert load(path, environment={}).routes == ()


# --- trusted lists


def test_lists_and_their_entries_have_ends_and_notes(read: Read) -> None:
    policies = read(
        """
trust:
  lists:
    plain: [192.0.2.0/24, {network: 192.0.2.7, note: printer}]
    office: {networks: [203.0.113.0/28], note: ticket 4711, until: 2099-12-31}
    mixed:
      networks:
        - {network: 192.0.2.1, note: its own, until: '2098-12-31T18:00:00+01:00'}
        - {network: 192.0.2.2, until: 2100-01-01}
      note: theirs
      until: 2099-12-31
  deny: [office, {network: 192.0.2.9, until: 2099-12-31}]
"""
    )
    end, earlier = 4102444800.0, 4070883600.0  # 2100-01-01T00:00:00Z and 2098-12-31T17:00:00Z
    office = ListEntry(ip_network("203.0.113.0/28"), end, "ticket 4711")
    assert policies.trust.lists == {
        "plain": AddressList(
            (ListEntry(ip_network("192.0.2.0/24")), ListEntry(ip_network("192.0.2.7"), None, "printer"))
        ),
        "office": AddressList((office,)),
        "mixed": AddressList(
            (
                ListEntry(ip_network("192.0.2.1"), earlier, "its own"),
                ListEntry(ip_network("192.0.2.2"), end, "theirs"),
            )
        ),
    }
    assert policies.trust.deny == AddressList((office, ListEntry(ip_network("192.0.2.9"), end)))


# --- limits


def test_what_a_limit_costs_and_counts_by(read: Read) -> None:
    fixed, by_body, plain = read(
        """
limits:
  - {id: fixed, rate: 10/second, cost: 3, per: [workspace, ip/24/48]}
  - {id: by-body, rate: 10/second, cost: {json: /recipients}, per: [event, session]}
  - {id: plain, rate: 10/second}
"""
    ).limits
    assert (fixed.cost, fixed.per, fixed.prefixes) == (3, ("workspace", "ip"), (24, 48))
    assert (by_body.cost, by_body.per, by_body.prefixes) == (BodyCost("/recipients"), ("event", "session"), (32, 64))
    assert (plain.cost, plain.per, plain.overrides) == (1, (), ())


@pytest.mark.parametrize(
    ("mode", "enforce"),
    [
        ("observe", 0.0),
        ("enforce", 1.0),
        ("{enforce: 25%}", 0.25),
        ("{enforce: 0.5%}", 0.005),
        ("{enforce: 100%}", 1.0),
    ],
)
def test_modes_are_the_share_that_is_enforced(read: Read, mode: str, enforce: float) -> None:
    (limit,) = read(f"limits: [{{id: a, rate: 10/second, per: [session], mode: {mode}}}]").limits
    assert limit.enforce == enforce
    assert limit.observe is (enforce == 0)


def test_overrides_take_from_the_limit_what_they_do_not_say(read: Read) -> None:
    written, unwritten = read(
        """
trust: {lists: {laravel: [127.0.0.1]}}
limits:
  - id: written
    rate: 10/second
    burst: 20
    per: [session, ip]
    overrides:
      - {session: [vip-*, shop-17], rate: 60/minute, burst: 90, until: 2099-12-31}
      - {session: slow, rate: 5/second}
      - {workspace: '7', burst: 30}
      - {list: laravel, unlimited: true}
  - id: unwritten
    rate: 10/second
    per: [session]
    overrides:
      - {session: fast, rate: 100/second}
      - {session: wide, burst: 30}
"""
    ).limits
    assert written.overrides == (
        Override("session", ("vip-*", "shop-17"), Rate(60, 60.0), 90, 4102444800.0),
        Override("session", ("slow",), Rate(5, 1.0), 20, None),
        Override("workspace", ("7",), Rate(10, 1.0), 30, None),
        Override("list", ("laravel",), None, 0, None),
    )
    assert unwritten.overrides == (
        Override("session", ("fast",), Rate(100, 1.0), 100, None),
        Override("session", ("wide",), Rate(10, 1.0), 30, None),
    )


def test_an_override_may_follow_one_for_the_same_name_that_ends(read: Read) -> None:
    overrides = "[{session: a, burst: 90, until: 2099-12-31}, {session: a, burst: 50}]"
    (limit,) = read(f"limits: [{{id: a, rate: 10/second, per: [session], overrides: {overrides}}}]").limits
    assert [override.burst for override in limit.overrides] == [90, 50]


@pytest.mark.parametrize(
    ("text", "headers"),
    [("[]", set()), ("[x-ratelimit]", {"x-ratelimit"}), ("[ratelimit, x-ratelimit]", {"ratelimit", "x-ratelimit"})],
)
def test_which_headers_tell_of_limits(read: Read, text: str, headers: set[str]) -> None:
    assert read(f"limit_headers: {text}").limit_headers == headers


@pytest.mark.parametrize(
    "limits",
    [
        "{id: second, rate: 100/second}, {id: minute, rate: 1000/minute}",
        "{id: minute, rate: 20/minute, burst: 5}, {id: day, rate: 1000/day, burst: 200}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, mode: observe}",
        "{id: minute, rate: 100/minute, mode: observe}, {id: hour, rate: 50/hour}",
        "{id: minute, rate: 100/minute, event: a}, {id: hour, rate: 50/hour, event: b}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, event: b}",
        "{id: minute, rate: 100/minute, event: [a, b]}, {id: hour, rate: 50/hour, event: b}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, per: [ip]}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, except: [office]}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, over: queue}",
        "{id: minute, rate: 100/minute}, {id: hour, rate: 50/hour, when_store_away: allow}",
        "{id: minute, rate: 100/minute, cost: 2}, {id: hour, rate: 50/hour}",
        "{id: one, rate: 100/minute, per: [ip/32/56]}, {id: other, rate: 50/minute, per: [ip]}",
        "{id: one, rate: 100/minute, per: [ip/24]}, {id: other, rate: 50/minute, per: [ip]}",
        "{id: a, rate: 9/minute, per: [ip]}, {id: b, rate: 5/minute, per: [ip], overrides: [{list: office, burst: 9}]}",
    ],
)
def test_two_limits_that_both_have_an_effect(read: Read, limits: str) -> None:
    assert len(read(f"trust: {{lists: {{office: [192.0.2.7]}}}}\nlimits: [{limits}]").limits) == 2


@pytest.mark.parametrize(
    "routes",
    [
        "{path: /a, methods: [GET], upstream: laravel}, {path: /a, upstream: laravel}",
        "{path: /a, methods: [GET], upstream: laravel}, {path: /a, methods: [GET, POST], upstream: laravel}",
        "{path: /a/b/**, upstream: laravel}, {path: /a/**, upstream: laravel}",
        "{path: /a/*, upstream: laravel}, {path: /a/**, upstream: laravel}",
        "{path: '/a/{b}/c', upstream: laravel}, {path: /a/*/*, upstream: laravel}",
    ],
)
def test_two_routes_that_both_match_something(read: Read, routes: str) -> None:
    assert len(read(f"upstreams: {{laravel: {{url: http://127.0.0.1}}}}\nroutes: [{routes}]").routes) == 2


def test_an_upstream_says_where_its_members_are_and_what_it_may_take(read: Read) -> None:
    text = """
upstreams:
  one: {url: "unix:/run/laravel.sock", keep: 4s}
  two:
    urls: [http://10.0.0.2:8000, "https://10.0.0.3"]
    connections: 64
    wait: 500ms
    age: 1m
    health: {every: 10s}
    fails: [500, 503]
"""
    one, two = read(text).upstreams.values()
    assert (one.url, one.urls, one.members, one.keep) == (
        *("unix:/run/laravel.sock", (), ("unix:/run/laravel.sock",)),
        4.0,
    )
    assert (one.connections, one.wait, one.age, one.ca, one.health, one.fails) == (256, 1.0, 300.0, None, None, set())
    assert two.url == "http://10.0.0.2:8000"
    assert two.members == two.urls == ("http://10.0.0.2:8000", "https://10.0.0.3")
    assert (two.connections, two.wait, two.keep, two.age) == (64, 0.5, 50.0, 60.0)
    assert (two.health, two.fails) == (Health("/up", 10.0), {500, 503})


def test_a_list_of_one_address_is_that_address(read: Read) -> None:
    assert read("upstreams: {a: {urls: [http://b]}}").upstreams["a"] == Upstream("a", "http://b")


def test_a_limit_may_speak_of_any_event_where_one_is_read_from_the_requests(read: Read) -> None:
    routes = "[{path: /a, event: a, upstream: laravel}, {path: /b, event: {header: X-Event}, upstream: laravel}]"
    upstreams, limits = "{laravel: {url: http://127.0.0.1}}", "[{id: a, rate: 1/second, event: x}]"
    assert read(f"upstreams: {upstreams}\nroutes: {routes}\nlimits: {limits}").limits[0].events == ("x",)


# --- secrets


@pytest.mark.parametrize(
    ("content", "value"), [(b"s", b"s"), (b"s\n", b"s"), (b"s\r\n", b"s"), (b"s\n\n", b"s\n"), (b" \xff ", b" \xff ")]
)
def test_a_secret_file_loses_one_line_break_and_nothing_else(
    read: Read, tmp_path: Path, content: bytes, value: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    assert read("console: {token: file:token}").console.token == Secret(value)


def test_who_needs_no_secrets_gets_empty_ones(read: Read) -> None:
    policies = read("console: {token: env:GONE}\nsignatures: {a: {secret: file:gone}}", need_secrets=False)
    assert policies.console.token == Secret(b"")
    assert policies.signatures["a"].secret == Secret(b"")


def test_who_needs_no_secrets_still_may_not_write_one_down(read: Read) -> None:
    with pytest.raises(PolicyError, match="a secret must not stand in this file"):
        read("console: {token: hunter2}", need_secrets=False)


# --- warnings and problems


def test_warns_of_what_is_allowed_and_hardly_meant(read: Read) -> None:
    policies = read(
        """
signatures: {old: {secret: env:KEY}, used: {secret: env:KEY}}
relay: {endpoints: {laravel: {url: http://127.0.0.1:8000, sign: used}}}
routes: [{path: /hooks, relay: laravel}]
""",
        KEY="k" * 16,
    )
    assert policies.warnings == (
        "signatures.old: never used",
        "routes[0]: relays without verify; anybody can post events",
        "console: no token; the console and admin API are closed",
    )


def test_warns_of_what_has_ended(read: Read) -> None:
    policies = read(
        """
trust:
  lists:
    office: {networks: [203.0.113.0/28, 192.0.2.0/24], note: ticket 4711, until: 2020-01-31}
    open: [{network: 192.0.2.7, until: 2099-01-01}]
  deny: [office, {network: 192.0.2.9, until: 2020-01-31T18:00:00Z}]
limits:
  - id: a
    rate: 5/second
    burst: 5
    per: [session, ip]
    overrides: [{list: open, burst: 9}, {list: office, burst: 9, until: 2020-01-31}]
console: {token: env:TOKEN}
""",
        TOKEN="t" * 16,
    )
    assert policies.warnings == (
        "trust.lists.office: 203.0.113.0/28 (ticket 4711) ended at 2020-02-01T00:00:00Z and no longer counts",
        "trust.lists.office: 192.0.2.0/24 (ticket 4711) ended at 2020-02-01T00:00:00Z and no longer counts",
        "trust.deny: 192.0.2.9/32 ended at 2020-01-31T18:00:00Z and no longer counts",
        "limits[0].overrides[1]: ended at 2020-02-01T00:00:00Z and no longer counts",
    )


def test_warns_of_limits_that_do_something_else_than_they_seem_to(read: Read) -> None:
    policies = read(
        """
trust: {lists: {office: [192.0.2.7, 192.0.3.0/24, '2001:db8::7', '2001:db8:1::/64']}}
upstreams: {laravel: {url: http://127.0.0.1:8000}}
routes:
  - {path: /send, event: {json: /event}, session: {json: /session_id}, upstream: laravel}
  - {path: /**, upstream: laravel, body: 64KiB}
limits:
  - {id: queued, per: [], rate: 5/second, burst: 5, over: queue}
  - {id: costly, per: [], rate: 5/second, burst: 5, cost: {json: /recipients}}
  - {id: sends, per: [], rate: 2/second, burst: 2, event: message_send, cost: {json: /recipients}}
  - id: address
    rate: 2/second
    burst: 2
    per: [ip/24/64, session]
    overrides: [{list: office, unlimited: true, until: 2099-12-31}, {list: office, rate: 5/second}]
console: {token: env:TOKEN}
""",
        TOKEN="t" * 16,
    )
    assert policies.warnings == (
        "limits[0]: over: queue keeps what is relayed and sends, and no route it meets takes any; it rejects",
        "limits[1]: its cost makes /** read bodies, up to 65536 bytes, that it would stream",
        "limits[3].overrides[1]: 192.0.2.7/32 of list office shares its bucket with the rest of its /24",
        "limits[3].overrides[1]: 2001:db8::7/128 of list office shares its bucket with the rest of its /64",
    )


def test_a_missing_file_names_the_cure() -> None:
    with pytest.raises(PolicyError) as caught:
        load(Path("nowhere.yaml"), environment={})
    cure = "write one with sluice init, or name yours (--policies FILE, or sluice check FILE)"
    assert str(caught.value) == f"nowhere.yaml: no such file; {cure}"


def test_a_folder_is_not_a_policies_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"cannot be read \(is a directory\); "):
        load(tmp_path, environment={})


def test_problems_are_values_in_the_order_of_the_file(read: Read, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        read("console: {tokn: env:A}\nlisten: here\nstore: {promise: never, timeout: 5}")
    assert [(problem.line, problem.column, problem.key) for problem in caught.value.problems] == [
        (2, 11, "console.tokn"),
        (3, 9, "listen"),
        (4, 18, "store.promise"),
        (4, 34, "store.timeout"),
    ]
    source = str(tmp_path / "policies.yaml")
    expected = Problem(2, 11, "console.tokn", "unknown key", "did you mean token", source)
    assert caught.value.problems[0] == expected


def test_a_mistake_inside_a_definition_does_not_make_its_name_unknown(read: Read) -> None:
    with pytest.raises(PolicyError) as caught:
        read("upstreams: {laravel: {url: nowhere}}\nroutes: [{path: /**, upstream: laravel}]")
    assert [problem.key for problem in caught.value.problems] == ["upstreams.laravel.url"]
