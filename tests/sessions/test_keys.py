from __future__ import annotations

from ipaddress import ip_network

import pytest

from sessions.keys import Key, Keys, Place, strange, worker_url
from sluice.config import Listen, Secret, Signature
from sluice.http.problem import Refusal

ANY = Key(Signature("workers", "blazz", Secret(b"any")))


def refused(keys: Keys, worker: str, url: str, proven: tuple[Key, ...] | None = None) -> tuple[int, str] | None:
    try:
        keys.refuse_registration(keys.all if proven is None else proven, worker, url)
    except Refusal as refusal:
        return refusal.status, refusal.detail
    return None


def only(*ids: str, urls: tuple[Place, ...] = ()) -> Key:
    return Key(Signature(ids[0], "blazz", Secret(ids[0].encode())), ids, urls)


def test_the_short_form_may_register_any_worker_anywhere() -> None:
    assert refused(Keys([ANY], {}), "w9", "http://127.0.0.1:3009") is None


def test_a_key_registers_only_its_own_workers() -> None:
    keys = Keys([only("w1"), only("w2-*", "x")], {})
    first, second = keys.all
    assert refused(keys, "w1", "http://127.0.0.1:1", (first,)) is None
    assert refused(keys, "w2-a", "http://127.0.0.1:1", (second,)) is None
    assert refused(keys, "w2", "http://127.0.0.1:1", (second,)) == (
        403,
        "this secret may speak for w2-*, x, not for w2 (sessions.keys)",
    )
    assert refused(keys, "w1", "http://127.0.0.1:1", (second,)) == (
        403,
        "this secret may speak for w2-*, x, not for w1 (sessions.keys)",
    )


def test_only_those_keys_are_asked_that_may_speak_for_the_worker() -> None:
    keys = Keys([only("w1"), only("w2-*"), ANY], {})
    assert keys.of("w1") == (keys.all[0], ANY)
    assert keys.of("w2-7") == (keys.all[1], ANY)
    assert keys.of("w1.") == (ANY,), "a dot in an id is a dot"


NETWORK = Place("http://10.0.0.0/24", ip_network("10.0.0.0/24"))


@pytest.mark.parametrize(
    ("place", "url", "holds"),
    [
        (NETWORK, "http://10.0.0.7:3000", True),
        (NETWORK, "http://10.0.0.7", True),
        (NETWORK, "http://10.0.1.7:3000", False),
        (NETWORK, "https://10.0.0.7:3000", False),
        (NETWORK, "http://w1:3000", False),
        (Place("http://w1:3000"), "http://w1:3000", True),
        (Place("http://w1:3000"), "http://w1:3000/below", True),
        (Place("http://w1:3000"), "http://W1:3000", True),
        (Place("http://w1:3000"), "http://w1:30001", False),
        (Place("http://w1:3000"), "http://w1:3000@evil:80", False),
        (Place("http://w1:3000"), "http://w10:3000", False),
        (Place("http://w1"), "http://w1:80", True),
        (Place("http://w1:3000/a"), "http://w1:3000/ab", False),
        (Place("http://w1:3000/a"), "http://w1:3000/a/b", True),
    ],
)
def test_where_a_worker_may_be(place: Place, url: str, holds: bool) -> None:
    assert place.holds(url) is holds


def test_a_worker_elsewhere_is_refused_with_the_places_that_are_allowed() -> None:
    keys = Keys([only("w1", urls=(NETWORK, Place("http://w1:3000")))], {})
    assert refused(keys, "w1", "http://10.0.0.9:3000") is None
    assert refused(keys, "w1", "http://127.0.0.1:6379") == (
        403,
        "url: w1 may be at http://10.0.0.0/24, http://w1:3000, not at http://127.0.0.1:6379 (sessions.keys)",
    )


def test_the_name_of_an_existing_worker_is_taken() -> None:
    keys = Keys([ANY], {"w1": "http://127.0.0.1:3001"})
    assert refused(keys, "w1", "http://127.0.0.1:3009") == (
        409,
        "w1 is the name of an existing worker (sessions.workers); register under another id, or take that worker out "
        "of policies.yaml first",
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:3001", "https://127.0.0.1:3001"])
def test_the_address_of_an_existing_worker_is_taken(url: str) -> None:
    keys = Keys([ANY], {"w1": "http://127.0.0.1:3001"})
    assert refused(keys, "w9", url) == (
        409,
        f"url: {url} is the existing worker w1 (sessions.workers); give your own worker another port, or take that "
        "worker out of policies.yaml first",
    )


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (Listen("127.0.0.1", 8080), "http://localhost:8080/x"),
        (Listen("0.0.0.0", 8080), "http://127.0.0.1:8080"),
        (Listen("10.0.0.1", 80), "http://10.0.0.1"),
        (Listen("gateway.internal", 8080), "http://gateway.internal:8080"),
    ],
)
def test_a_gateway_is_no_worker_of_itself(listen: Listen, url: str) -> None:
    assert refused(Keys([ANY], {}, [listen]), "w9", url) == (
        400,
        f"url: {url} is this gateway itself; write where the gateway reaches the worker",
    )


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("127.0.0.1", 8080), "http://127.0.0.1:3000"),
        (Listen("gateway.internal", 8080), "http://127.0.0.1:8080"),
        (Listen("10.0.0.1", 8080), "http://10.0.0.2:8080"),
    ],
)
def test_others_beside_a_gateway_are_workers(listen: Listen, url: str) -> None:
    assert refused(Keys([ANY], {}, [listen]), "w9", url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host", 'url: "ftp://host" is not an http address; write http://127.0.0.1:8000'),
        ("http://", 'url: "http://" is not an http address; write http://127.0.0.1:8000'),
        ("http://host:port", 'url: "http://host:port" is not an http address; write http://127.0.0.1:8000'),
        ("http://u:p@host", "url: has a user or password in it; write it without; requests are signed, not logged in"),
        ("http://host?a", 'url: "http://host?a" has a query or fragment; write scheme, host, port and path only'),
        ("http://hä.st", 'url: "http://hä.st" is not an http address; write http://10.0.0.5:3000'),
        ("http://a%2fb", 'url: "http://a%2fb" is not an http address; write http://10.0.0.5:3000'),
        ("http://a\\b", 'url: "http://a\\\\b" is not an http address; write http://10.0.0.5:3000'),
        (
            "http://169.254.169.254/latest",
            "url: 169.254.169.254 is no address of a worker (metadata); write where the gateway reaches it",
        ),
        (
            "http://[::ffff:169.254.169.254]",
            "url: ::ffff:169.254.169.254 is no address of a worker (metadata); write where the gateway reaches it",
        ),
        (
            "http://0.0.0.0:3000",
            "url: 0.0.0.0 is no address of a worker (unspecified); write where the gateway reaches it",
        ),
    ],
)
def test_an_address_where_no_worker_is_is_refused(url: str, said: str) -> None:
    with pytest.raises(Refusal) as refusal:
        worker_url(url)
    assert (refusal.value.status, refusal.value.detail) == (400, said)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://10.0.0.5:3000/w",
        "http://worker_1:3000",
        "https://w.example",
    ],
)
def test_workers_are_on_this_machine_in_the_networks_around_it_or_anywhere(url: str) -> None:
    assert worker_url(url + "/") == url


def test_a_name_that_leads_to_a_strange_address_is_no_worker_either() -> None:
    assert (strange("169.254.169.254"), strange("10.0.0.5"), strange("127.0.0.1")) == ("metadata", None, None)
