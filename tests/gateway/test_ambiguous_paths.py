"""No path is limited or routed by as one and understood as another."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.path_readings import is_ambiguous, readings
from gateway.policies import load, reading_of_path
from gateway.routing import segments_of
from sluice.http.signatures import sign
from sluice.observe import metrics
from tests.gateway.proxy.websocket.reverb import ASKED
from tests.gateway.running import SIGNATURE, Gate, Receiver, gateway, lines

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory}}
upstreams: {{laravel: {{url: "{laravel}", headers: {headers}}}}}
signatures: {{workers: {{preset: blazz, secret: env:SECRET}}}}
routes:
  - {{path: "/chat/{{session}}/send", upstream: laravel}}
  - {{path: "/allowed/{{session}}/**", upstream: laravel, ambiguous_paths: allow}}
  - {{path: "/named/{{other}}/**", event: unlimited, upstream: laravel}}
  - {{path: /login, event: login, upstream: laravel}}
  - {{path: "/api/sessions/{{session}}/**", workers: owner}}
  - {{path: /health/**, workers: health}}
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, relay: laravel}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: chat, per: [session], rate: 1/hour, burst: 1}}
  - {{id: login, event: login, per: [ip], rate: 1/hour, burst: 100}}
relay: {{endpoints: {{laravel: {{url: "{laravel}"}}}}}}
"""
REFUSED = (
    "this path can be read in more than one way (it has //, a segment . or .., ; or \\\\, an encoded slash, or begins "
    "with index.php), and the route {path} depends on it; write it plainly, or ambiguous_paths: allow at that route"
)


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=POLICIES) as gate:
        yield gate


async def asked(gate: Gate, target: bytes, *fields: bytes, method: bytes = b"GET") -> tuple[int, str]:
    """Status and body of the answer to exactly these bytes."""
    head = b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % (method, target, b"".join(fields))
    async with gate.raw(head) as client:
        answer, body = await client.head(), await client.rest()
    return int(answer[9:12]), body.decode()


async def test_what_is_refused_is_counted(gate: Gate) -> None:
    def counted() -> float:
        return metrics.registry().get_sample_value("sluice_ambiguous_paths_total") or 0.0

    before = counted()
    assert (await asked(gate, b"/chat/victim/../o1/send"))[0] == 400
    assert (await asked(gate, b"/allowed/a/../b/x"))[0] == 200
    assert counted() == before + 1


async def test_a_limit_of_one_session_is_not_passed_in_the_name_of_others(gate: Gate, laravel: Receiver) -> None:
    assert (await asked(gate, b"/chat/victim/send"))[0] == 200
    assert (await asked(gate, b"/chat/victim/send"))[0] == 429
    statuses = [(await asked(gate, b"/chat/victim/../o%d/send" % number))[0] for number in range(10)]
    assert statuses == [400] * 10
    assert len(laravel.heads) == 1


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/chat/victim/../o1/send", "/chat/{session}/send"),
        (b"/chat/./s1/send", "/chat/{session}/send"),
        (b"/chat//s1/send", "/chat/{session}/send"),
        (b"/chat/\xc3\xa9%2Fx/send", "/chat/{session}/send"),
        (b"//chat/s1/send", "/chat/{session}/send"),
        (b"/chat/s1/send;x=1", "/chat/{session}/send"),
        (b"/chat;x/s1/send", "/chat/{session}/send"),
        (b"/chat/s1%3bx/send", "/chat/{session}/send"),
        (b"/chat/s1%2Fx/send", "/chat/{session}/send"),
        (b"/chat%2fs1/send", "/chat/{session}/send"),
        (b"/chat\\s1/send", "/chat/{session}/send"),
        (b"/chat/a%5Cb/send", "/chat/{session}/send"),
        (b"/chat/x/%2e%2E/s1/send", "/chat/{session}/send"),
        (b"/chat/a%2Fb/../s1/send", "/chat/{session}/send"),
        (b"/x/../login", "/login"),
        (b"/login;x", "/login"),
        (b"/index.php/login", "/login"),
        (b"/index%2ephp/login", "/login"),
        (b"/index.php/chat/s1/send", "/chat/{session}/send"),
        (b"/api/sessions/s1//status", "/api/sessions/{session}/**"),
        (b"/api/sessions/s1/x/../status", "/api/sessions/{session}/**"),
        (b"/api/sessions/s1/status;x", "/api/sessions/{session}/**"),
        (b"/x/../api/sessions/s1", "/api/sessions/{session}/**"),
        (b"/API/sessions//s1", "/api/sessions/{session}/**"),
    ],
)
async def test_a_path_on_whose_reading_something_depends_is_refused(
    gate: Gate, laravel: Receiver, target: bytes, path: str
) -> None:
    status, body = await asked(gate, target)
    assert status == 400
    assert REFUSED.format(path=path) in body
    assert laravel.heads == []


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb//c;d=1/%7e~/./x?b=1&a=2",
        b"/proxy/https://example.com/a%2Fb",
        b"/index.php/home",
        b"/index.php",
        b"/named//x",
        b"/named/a%2Fb/c;d",
        b"/named/s/gr\xc3\xbc\xc3\x9fe//x",
        b"/chat/s1/send/",
        b"/chat/s%201/send",
        b"/chat/%731/send",
        b"/chat/a.b/send",
        b"/chat/.../send?x=//../;",
        b"/allowed/a/../b/c",
        b"/allowed//s1",
        b"/.well-known/x",
        b"/a;b",
    ],
)
async def test_what_nothing_depends_on_goes_on_byte_for_byte(gate: Gate, laravel: Receiver, target: bytes) -> None:
    assert (await asked(gate, target))[0] == 200
    (head,) = laravel.heads
    assert lines(head)[0] == b"GET %b HTTP/1.1" % target


@pytest.mark.parametrize("target", [b"/chat/s1%00/send", b"/a%00", b"/login%00.png"])
async def test_an_encoded_nul_is_refused_everywhere(gate: Gate, target: bytes) -> None:
    status, body = await asked(gate, target)
    assert (status, "control characters in the path" in body) == (400, True)


async def test_a_handshake_is_refused_for_its_path_as_a_request_is(gate: Gate, laravel: Receiver) -> None:
    async with gate.raw(b"GET /chat/victim/../o1/send HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
        assert b"ambiguous_paths" in await client.rest()
    assert laravel.heads == []


async def test_what_the_gateway_alone_reads_may_be_written_in_any_way(gate: Gate) -> None:
    """An existing worker whose LARAVEL_URL ends with a slash posts to `//hooks/…`, and loses what is answered 400."""
    body = b'{"event": "message_received"}'
    fields = [b"%b: %b\r\n" % pair for pair in sign(SIGNATURE, body, time.time())]
    head = b"POST //hooks/x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n" % len(body)
    async with gate.raw(head, *fields, b"\r\n", body) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 202 ")
    assert (await asked(gate, b"//health"))[0] != 400


async def test_the_longest_ambiguous_path_is_read_in_all_ways_within_milliseconds() -> None:
    path = b"/" + b"%2f;a%2e.//\\%5c" * 1000
    begin = time.perf_counter()
    normalised = segments_of(path)
    assert is_ambiguous(path, normalised)
    assert len(readings(path, normalised)) > 2
    assert time.perf_counter() - begin < 0.25


@pytest.mark.parametrize(
    ("route", "depends"),
    [
        ("path: /a, workers: list", "here"),
        ("path: /a/**, workers: health", "here"),
        ("path: '/a/{session}', workers: owner", "whole"),
        ("path: /a/**, workers: any", "whole"),
        ("path: /a/**, workers: any, ambiguous_paths: allow", "any"),
        ("path: /a, event: other, relay: crm", "any"),
        ("path: '/a/{session}', event: x, relay: crm", "match"),
        ("path: '/a/{session}', event: x, verify: key, relay: crm", "here"),
        ("path: /a/**, upstream: laravel", "any"),
        ("path: '/a/{id}/**', upstream: laravel", "any"),
        ("path: '/a/{workspace}/**', upstream: laravel", "match"),
        ("path: '/a/{workspace}/**', upstream: laravel, ambiguous_paths: allow", "any"),
        ("path: /a/**, session: {header: X-Session}, upstream: laravel", "any"),
        ("path: /a/**, event: limited, upstream: laravel", "match"),
        ("path: /a/**, event: observed, upstream: laravel", "any"),
        ("path: /a/**, event: {json: /event}, upstream: laravel", "any"),
        ("path: /a/**, verify: key, upstream: laravel", "match"),
    ],
)
def test_what_of_a_request_depends_on_its_path_is_known_from_the_policies(
    tmp_path: Path, route: str, depends: str
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "version: 1\nupstreams: {laravel: {url: http://127.0.0.1:1}}\nrelay: {endpoints: {crm: {url: http://crm}}}\n"
        "signatures: {key: {preset: key, secret: env:KEY}}\n"
        f"routes: [{{{route}}}, {{path: /b, event: limited, upstream: laravel}}, "
        "{path: /c, event: observed, relay: crm}]\n"
        "limits:\n  - {id: a, event: limited, per: [ip], rate: 1/second}\n"
        "  - {id: b, event: observed, per: [ip], rate: 1/second, mode: observe}\n"
    )
    policies = load(file, environment={"KEY": "k"})
    assert reading_of_path(policies.limits, policies.routes[0]) == depends
