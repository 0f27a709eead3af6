from __future__ import annotations

import timeit
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given, strategies as st

from gateway.policies import AddressList, ListEntry
from sluice.config.units import network

FAMILIES = st.sampled_from([(ip_address("192.0.2.0"), 32), (ip_address("2001:db8::"), 128)])
ENDS = st.one_of(st.none(), st.floats(0, 100))
ADDRESSES = st.builds(lambda family, last: family[0] + last, FAMILIES, st.integers(0, 255))
ENTRIES = st.builds(
    lambda family, last, wider, until: ListEntry(
        ip_network((family[0] + last, family[1] - wider), strict=False), until
    ),
    FAMILIES,
    st.integers(0, 255),
    st.integers(0, 8),
    ENDS,
)


def an_entry(network: str, until: float | None = None) -> ListEntry:
    return ListEntry(ip_network(network), until)


def test_an_entry_counts_until_its_end_and_not_at_it() -> None:
    listed = AddressList((an_entry("192.0.2.0/24", until=100.0),))
    address = ip_address("192.0.2.7")
    assert [listed.holds(address, now) for now in (0.0, 99.9, 100.0, 1e12)] == [True, True, False, False]


def test_an_entry_without_an_end_counts_for_ever() -> None:
    assert AddressList((an_entry("192.0.2.0/24"),)).holds(ip_address("192.0.2.7"), 1e12)


def test_an_address_stays_in_a_list_by_any_entry_that_counts() -> None:
    listed = AddressList((an_entry("192.0.2.7", until=1.0), an_entry("192.0.2.0/24", until=2.0)))
    assert [listed.holds(ip_address("192.0.2.7"), now) for now in (0.0, 1.0, 2.0)] == [True, True, False]


def test_the_longest_prefix_is_one_that_still_counts() -> None:
    listed = AddressList((an_entry("192.0.2.0/24"), an_entry("192.0.2.7", until=1.0), an_entry("2001:db8::/32")))
    assert [listed.max_prefix(ip_address("192.0.2.7"), now) for now in (0.0, 1.0)] == [32, 24]
    assert listed.max_prefix(ip_address("192.0.3.7"), 0.0) is None
    assert listed.max_prefix(ip_address("2001:db8::7"), 0.0) == 32


def test_a_network_in_ipv6_form_is_the_ipv4_network_it_stands_for() -> None:
    written = ("::ffff:192.0.2.0/120", "::ffff:192.0.2.7", "64:ff9b::192.0.2.0/120", "::ffff:0:0/97")
    meant = ("192.0.2.0/24", "192.0.2.7/32", "192.0.2.0/24", "0.0.0.0/1")
    assert tuple(str(network(one)) for one in written) == meant


def test_an_empty_list_holds_nobody() -> None:
    assert not AddressList()
    assert not AddressList().holds(ip_address("192.0.2.7"), 0.0)
    assert AddressList().max_prefix(ip_address("192.0.2.7"), 0.0) is None


def test_lists_are_equal_by_their_entries() -> None:
    one, other = AddressList((an_entry("192.0.2.7"),)), AddressList((an_entry("192.0.2.7"),))
    assert one.holds(ip_address("192.0.2.7"), 0.0)
    assert one == other
    assert hash(one) == hash(other)
    assert AddressList.joined([one, AddressList((an_entry("192.0.2.8", until=1.0),))]).entries == (
        an_entry("192.0.2.7"),
        an_entry("192.0.2.8", until=1.0),
    )


@given(st.lists(ENTRIES, max_size=40), ADDRESSES, st.lists(st.floats(0, 120), min_size=1, max_size=5))
def test_what_is_found_by_bisection_is_what_looking_at_each_network_finds(
    entries: list[ListEntry], address: IPv4Address | IPv6Address, moments: list[float]
) -> None:
    listed = AddressList(tuple(entries))
    for now in moments:
        met = [it.network.prefixlen for it in entries if address in it.network and (it.until is None or now < it.until)]
        assert listed.holds(address, now) is bool(met)
        assert listed.max_prefix(address, now) == max(met, default=None)


@given(st.lists(ENTRIES, max_size=40), ENTRIES, st.floats(0, 120))
def test_a_network_is_covered_by_one_that_holds_all_of_it(entries: list[ListEntry], one: ListEntry, now: float) -> None:
    covering = [
        it
        for it in entries
        if it.network.version == one.network.version
        and one.network.subnet_of(it.network)  # type: ignore[arg-type]
        and (it.until is None or now < it.until)
    ]
    assert AddressList(tuple(entries)).covers(one.network, now) is bool(covering)


def test_ten_thousand_networks_are_looked_up_in_microseconds() -> None:
    networks = [f"{number >> 8}.{number & 255}.0.0/{16 + number % 9}" for number in range(10_000)]
    listed = AddressList(tuple(an_entry(network, until=1e12) for network in networks))
    for address in map(ip_address, ("20.5.0.1", "200.0.0.1", "2001:db8::1")):
        assert min(timeit.repeat(lambda it=address: listed.holds(it, 0.0), number=100, repeat=20)) / 100 < 50e-6
    assert listed.max_prefix(ip_address("20.5.0.1"), 0.0) == 16 + (20 * 256 + 5) % 9
