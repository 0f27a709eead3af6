from __future__ import annotations

import timeit
from collections.abc import Callable

import pytest

from gateway import client_ip as address
from gateway.client_ip import Client
from gateway.policies import AddressList
from sluice.http.client import Field, fields_of
from sluice.http.fields import FORWARDING
from tests.gateway.making import NOBODY, a_client, a_list

PROXIES = a_list("10.0.0.0/8", "2001:db8:ffff::/48")
Pairs = list[tuple[bytes, bytes]]


def quickest(call: Callable[[], object]) -> float:
    """Seconds of one call; the best of several, since others use this machine."""
    return min(timeit.repeat(call, number=100, repeat=20)) / 100


def client_of(peer: str | None, headers: Pairs, proxies: AddressList) -> Client:
    return address.client_of(peer, fields_of(headers), proxies)


def forwarding(client: Client, headers: Pairs, scheme: str) -> Pairs:
    return [(field.name, field.value) for field in address.forwarding(client, fields_of(headers), scheme)]


def behind_proxies(*values: bytes) -> str:
    """The client's address when our proxy 10.0.0.1 says these X-Forwarded-For."""
    return str(client_of("10.0.0.1", [(b"x-forwarded-for", value) for value in values], PROXIES).address)


def test_a_strangers_forwarded_for_is_ignored() -> None:
    client = client_of("198.51.100.9", [(b"x-forwarded-for", b"10.0.0.1")], PROXIES)
    assert (str(client.address), client.trusted_peer) == ("198.51.100.9", False)


def test_without_proxies_nobody_is_believed() -> None:
    assert str(client_of("127.0.0.1", [(b"x-forwarded-for", b"1.2.3.4")], NOBODY).address) == "127.0.0.1"


def test_a_trusted_proxy_is_believed() -> None:
    client = client_of("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.9")], PROXIES)
    assert (str(client.address), client.trusted_peer) == ("198.51.100.9", True)


def test_the_walk_goes_from_right_to_left_and_stops_at_the_first_stranger() -> None:
    assert behind_proxies(b"1.1.1.1, 198.51.100.9, 10.0.0.3,10.0.0.2") == "198.51.100.9"


def test_repeated_headers_are_one_list_in_their_order() -> None:
    assert behind_proxies(b"1.1.1.1", b"198.51.100.9, 10.0.0.2") == "198.51.100.9"


def test_when_all_hops_are_trusted_the_first_of_them_is_the_client() -> None:
    assert behind_proxies(b"10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize("values", [(), (b"",), (b" ",)])
def test_a_proxy_that_says_nothing_is_the_client_itself(values: tuple[bytes, ...]) -> None:
    assert behind_proxies(*values) == "10.0.0.1"


@pytest.mark.parametrize("garbage", [b"unknown", b"", b"_hidden", b"999.1.1.1", b"1.2.3.4.5", b"\xff\xfe", b"1.2.3.4;"])
def test_garbage_ends_the_walk_at_the_last_hop_that_was_believed(garbage: bytes) -> None:
    assert behind_proxies(b"198.51.100.9, " + garbage + b", 10.0.0.2") == "10.0.0.2"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (b"198.51.100.9:4711", "198.51.100.9"),
        (b"2001:db8::9", "2001:db8::9"),
        (b"[2001:db8::9]", "2001:db8::9"),
        (b"[2001:db8::9]:4711", "2001:db8::9"),
        (b"2001:DB8:0::9", "2001:db8::9"),
        (b"fe80::1%eth0", "fe80::1"),
        (b"::ffff:198.51.100.9", "198.51.100.9"),
        (b"[::ffff:198.51.100.9]:80", "198.51.100.9"),
    ],
)
def test_every_way_to_write_an_address_is_the_same_address(written: bytes, meant: str) -> None:
    assert behind_proxies(written) == meant


def test_a_mapped_ipv4_peer_is_the_proxy_it_is() -> None:
    client = client_of("::ffff:10.0.0.1", [(b"x-forwarded-for", b"198.51.100.9")], PROXIES)
    assert str(client.address) == "198.51.100.9"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("64:ff9b::203.0.113.7", "203.0.113.7"),
        ("64:ff9b::cb00:7107", "203.0.113.7"),
        ("64:ff9b::10.0.0.7", "10.0.0.7"),
        ("64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),  # no translator makes it
        ("64:ff9b::", "64:ff9b::"),
        ("64:ff9b:1::203.0.113.7", "64:ff9b:1::cb00:7107"),  # a network's own translation, of which we know nothing
    ],
)
def test_an_ipv4_client_in_ipv6_form_is_the_ipv4_client(written: str, meant: str) -> None:
    assert a_client(written).text == meant


def test_a_proxy_behind_nat64_is_the_proxy_it_is() -> None:
    client = client_of("64:ff9b::10.0.0.1", [(b"x-forwarded-for", b"64:ff9b::198.51.100.9")], PROXIES)
    assert (client.text, client.subject) == ("198.51.100.9", "198.51.100.9")


def test_ten_thousand_proxies_cost_a_request_no_more_than_one() -> None:
    """What is remembered of a client is found by its proxies, whose number must not count there."""
    many = a_list(*(f"10.{number >> 8}.{number & 255}.0/24" for number in range(10_000)))
    fields = fields_of([(b"x-forwarded-for", b"198.51.100.9")])
    address.client_of("10.0.0.1", fields, many)
    assert quickest(lambda: address.client_of("10.0.0.1", fields, many)) < 50e-6


def test_an_ipv6_proxy_is_believed() -> None:
    client = client_of("2001:db8:ffff::1", [(b"x-forwarded-for", b"2001:db8:1::5")], PROXIES)
    assert str(client.address) == "2001:db8:1::5"


def test_a_peer_without_an_address_is_nobody() -> None:
    client = client_of(None, [(b"x-forwarded-for", b"198.51.100.9")], PROXIES)
    assert (str(client.address), client.trusted_peer) == ("0.0.0.0", False)


def test_limits_count_an_ipv4_address_alone_and_ipv6_by_its_64() -> None:
    assert a_client("192.0.2.7").subject == "192.0.2.7"
    assert a_client("2001:db8:1:2:aaaa::1").subject == a_client("2001:db8:1:2:bbbb::2").subject == "2001:db8:1:2::/64"
    assert a_client("2001:db8:1:3::1").subject == "2001:db8:1:3::/64"


# --- what the next one is told

SPOOFED: Pairs = [
    (b"host", b"shop.example"),
    (b"x-forwarded-for", b"10.9.9.9"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-port", b"1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-prefix", b"/evil"),
]


def test_a_strangers_word_is_replaced_by_what_we_saw() -> None:
    assert forwarding(a_client("198.51.100.9", SPOOFED, PROXIES), SPOOFED, "http") == [
        (b"X-Forwarded-For", b"198.51.100.9"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Forwarded-Proto", b"http"),
    ]


def test_a_trusted_proxys_word_is_passed_on() -> None:
    given: Pairs = [
        (b"host", b"internal:8080"),
        (b"x-forwarded-for", b"198.51.100.9, 10.0.0.2"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Prefix", b"/shop"),
    ]
    assert forwarding(a_client("10.0.0.1", given, PROXIES), given, "http") == [
        (b"X-Forwarded-For", b"198.51.100.9"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Prefix", b"/shop"),
    ]


def test_what_a_trusted_proxy_leaves_out_we_say() -> None:
    given: Pairs = [(b"host", b"shop.example"), (b"x-forwarded-for", b"198.51.100.9")]
    assert forwarding(a_client("10.0.0.1", given, PROXIES), given, "https") == [
        (b"X-Forwarded-For", b"198.51.100.9"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Forwarded-Proto", b"https"),
    ]


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [
        (b"app.test", "http", b"80"),
        (b"app.test", "https", b"443"),
        (b"app.test:", "https", b"443"),
        (b"app.test:8080", "https", b"8080"),
        (b"app.test:0", "http", b"80"),
        (b"app.test:99999", "http", b"80"),
        (b"app.test:123456", "http", b"80"),
        (b"[::1]", "https", b"443"),
        (b"[::1]:8080", "https", b"8080"),
    ],
)
def test_the_port_is_that_of_the_host_or_else_the_schemes(host: bytes, scheme: str, port: bytes) -> None:
    told = forwarding(a_client("198.51.100.9"), [(b"host", host)], scheme)
    assert told[2:] == [(b"X-Forwarded-Port", port), (b"X-Forwarded-Proto", scheme.encode())]


@pytest.mark.parametrize("proto", [b"https", b"HTTPS", b"on", b"https, http"])
def test_a_proxy_that_says_https_means_its_port(proto: bytes) -> None:
    given = [(b"host", b"app.test"), (b"x-forwarded-proto", proto)]
    told = dict(forwarding(a_client("10.0.0.1", given, PROXIES), given, "http"))
    assert (told[b"X-Forwarded-Port"], told[b"x-forwarded-proto"]) == (b"443", proto)


def test_of_a_chain_that_is_too_long_nothing_is_read() -> None:
    client = client_of("10.0.0.1", [(b"x-forwarded-for", b"198.51.100.9, " * 300)], PROXIES)
    assert (client.text, client.trusted_peer) == ("10.0.0.1", True)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (b"x-forwarded-for", True),
        (b"x-forwarded-anything", True),
        (b"forwarded", True),
        (b"x-real-ip", True),
        (b"x-sluice-fence", True),
        (b"x-forward", False),
        (b"host", False),
    ],
)
def test_names_that_speak_of_forwarding_are_ours(name: bytes, ours: bool) -> None:
    assert (Field(name, b"").kind == FORWARDING) is ours
