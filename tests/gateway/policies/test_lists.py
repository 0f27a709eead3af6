from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given, strategies as st

from gateway.policies import AddressList, ListEntry

ENDS = st.one_of(st.none(), st.floats(0, 100))
ADDRESSES = st.integers(0, 255).map(lambda last: ip_address(f"192.0.2.{last}"))
ENTRIES = st.builds(
    lambda last, bits, until: ListEntry(ip_network((f"192.0.2.{last}", bits), strict=False), until),
    st.integers(0, 255),
    st.integers(24, 32),
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


@given(st.lists(ENTRIES, max_size=8), ADDRESSES, st.lists(st.floats(0, 120), min_size=1, max_size=5))
def test_what_is_remembered_of_an_address_is_what_looking_each_time_finds(
    entries: list[ListEntry], address: object, moments: list[float]
) -> None:
    listed = AddressList(tuple(entries))
    for now in moments:
        met = [it.network.prefixlen for it in entries if address in it.network and (it.until is None or now < it.until)]
        assert listed.holds(address, now) is bool(met)  # type: ignore[arg-type]
        assert listed.max_prefix(address, now) == max(met, default=None)  # type: ignore[arg-type]
