from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.policies.paths import captures, pattern
from sluice.config import Listen, Rate, units
from sluice.config.problems import Malformed
from sluice.config.urls import http_url, store_url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1ms", 0.001), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("30d", 2_592_000.0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert units.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5S", "1.5s", "-5s", "5sec", "1h30m", "0s", "\u0665s", "5s\n", "9" * 99 + "s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.duration(text)


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65536), ("1MiB", 2**20), ("1GiB", 2**30)])
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64KB", "64kib", "1.5MiB", "0B", "-1B", "1 MiB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01", 86400.0),
        ("2024-02-29", 1709251200.0),
        ("2026-12-31", 1798761600.0),
        ("9999-12-31", 253402300800.0),
        ("2026-12-31T18:00:00Z", 1798740000.0),
        ("2026-12-31t18:00:00.250z", 1798740000.25),
        ("2026-12-31T18:00:00+01:00", 1798736400.0),
        ("2026-12-31T18:00:00-05:30", 1798759800.0),
    ],
)
def test_an_end_is_the_first_moment_after_it(text: str, moment: float) -> None:
    assert units.until(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "T", "2026", "2026-12", "26-12-31", "31.12.2026", "2026-12-32", "2025-02-29", "0000-01-01", "20261231"),
        *("2026-12-31T", "2026-12-31T18", "2026-12-31T18:00Z", "2026-12-31T24:00:01Z", "2026-12-31T18:00:60Z"),
        *("2026-12-31T18:00:00", "2026-12-31T18:00:00 Z", "2026-12-31T18:00:00+0100", "2026-12-31T18:00:00+25:00"),
        *("2026-12-31 18:00:00Z", "2026-W53-4", "1798740000", "2026-12-31\n", "\u0662026-12-31"),
    ],
)
def test_other_ends_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.until(text)


@pytest.mark.parametrize(("text", "share"), [("25%", 0.25), ("0.5%", 0.005), ("100%", 1.0), ("100.0%", 1.0)])
def test_percentages_are_shares(text: str, share: float) -> None:
    assert units.percentage(text) == share


@pytest.mark.parametrize("text", ["", "%", "25", "0.25", "0%", "0.0%", "100.1%", "101%", "-5%", "25 %", "1e1%", ".5%"])
def test_other_percentages_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.percentage(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000/minute", Rate(1000, 60.0)),
        ("5/10 seconds", Rate(5, 10.0)),
        ("10 per second", Rate(10, 1.0)),
        ("10/second", Rate(10, 1.0)),
        ("1 per 2 hours", Rate(1, 7200.0)),
        ("1/day", Rate(1, 86400.0)),
    ],
)
def test_rates_are_in_the_notation_of_limits(text: str, rate: Rate) -> None:
    assert units.rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/minuet",
        "10/min",
        "0/second",
        "5/0 seconds",
        "5 per 00 minutes",
        "-1/second",
        "1.5/second",
        "1/second;10/minute",
        "1/second, 10/minute",
        "1/second|2/hour",
        "9" * 9999 + "/second",
    ],
)
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.rate(text)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080)),
        ("localhost:0", Listen("localhost", 0)),
        ("[::1]:8080", Listen("::1", 8080)),
        ("[::]:65535", Listen("::", 65535)),
    ],
)
def test_listen_addresses(text: str, listen: Listen) -> None:
    assert units.listen(text) == listen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "*:8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "::1:8080",
        "[::1]",
        "[x]:1",
        "[::1:1",
    ],
)
def test_other_listen_addresses_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.listen(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/0"])
def test_networks(text: str) -> None:
    assert units.network(text) == ip_network(text)


def test_an_address_alone_is_a_network_of_one() -> None:
    assert units.network("192.0.2.7") == ip_network("192.0.2.7/32")


def test_host_bits_are_refused_with_both_things_that_may_be_meant() -> None:
    with pytest.raises(Malformed) as caught:
        units.network("10.1.2.3/8")
    assert caught.value.hint == "write 10.0.0.0/8 for the network, or 10.1.2.3/32 for the address"


@pytest.mark.parametrize("text", ["", "10", "10.0.0.0/33", "office", "10.0.0.0/x"])
def test_other_networks_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        units.network(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "https://app.example.org/base", "http://[::1]:8000"])
def test_http_addresses(text: str) -> None:
    assert http_url(text) == text


def test_a_slash_at_the_end_would_be_doubled() -> None:
    assert http_url("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "http:///x",
        "//host",
        "ftp://host",
        "http://host:x",
        "http://host:0",
        "http://host:70000",
        "http://host?a",
        "http://host/#a",
        "http://me@host",
        "http://ho st",
        "http://ho\nst",
        "http://[::1",
    ],
)
def test_other_http_addresses_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        http_url(text)


def test_a_password_is_not_repeated_even_when_more_is_wrong() -> None:
    with pytest.raises(Malformed) as caught:
        http_url("ftp://me:hunter2@host:port/?a")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["embedded", "redis://127.0.0.1:6379/0", "rediss://:secret@store.example.org", "unix:///run/valkey.sock"]
)
def test_store_addresses(text: str) -> None:
    assert store_url(text) == text


@pytest.mark.parametrize("text", ["", "memory", "redis://", "unix://", "http://host", "redis+sentinel://host"])
def test_other_store_addresses_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        store_url(text)


@pytest.mark.parametrize("text", ["/", "/**", "/api", "/api/", "/api/*/x", "/api/{session}/**", "/a%20b"])
def test_paths(text: str) -> None:
    assert pattern(text) == text


@pytest.mark.parametrize(
    "text", ["", "api", "/**/a", "/a*", "/{a", "/{a b}", "/{a}{b}", "//", "/a//b", "/../a", "/a?b", "/{a}/{a}"]
)
def test_other_paths_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        pattern(text)


def test_captures_are_the_names_in_braces() -> None:
    assert captures("/{tenant}/sessions/{session}/**") == ("tenant", "session")
