"""What people write for time, size, pace and address, as numbers. Pure; raises Malformed."""

from __future__ import annotations

import calendar
import re
from datetime import date, datetime
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network

import limits

from sluice.config.model import Listen, Rate
from sluice.config.problems import Malformed, quoted

Network = IPv4Network | IPv6Network
NAT64 = IPv6Network("64:ff9b::/96")
IPV4_IN_IPV6 = (IPv6Network("::ffff:0:0/96"), NAT64)

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
LONGEST = 64
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
OFFSET = re.compile(r"Z|[+-][0-9]{2}:[0-9]{2}")
PERCENTAGE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?%")
DAY = 86400.0
MAX_DURATION = 3650 * DAY
"""Everything that lasts ends within ten years: so it stays exact in the store, whose scripts count microseconds in
doubles, and whose expiry is a whole number of milliseconds."""
MAX_PERIOD = 366 * DAY
MAX_PER_SECOND = 1_000_000
MAX_AMOUNT = 10**9
MAX_SIZE = 2**50
NO_PERIOD = re.compile(r"(/|per)\s*0+\s*[a-z]", re.IGNORECASE)


def duration(text: str) -> float:
    """`250ms 5s 2m 1h 1d` in seconds; more than zero."""
    amount, unit = _amount_and_unit(text)
    if unit not in SECONDS:
        raise Malformed(f"{quoted(text)} is not a duration", "write 250ms, 5s, 2m, 1h or 1d")
    if not amount:
        raise Malformed(f"{quoted(text)} is no time at all", "write 1ms or more")
    seconds = amount / 1000 if unit == "ms" else amount * SECONDS[unit]
    if seconds > MAX_DURATION:
        raise Malformed(f"{quoted(text)} is more than ten years", f"write {MAX_DURATION / DAY:.0f}d or less")
    return seconds


def size(text: str) -> int:
    """`512B 64KiB 1MiB 1GiB` in bytes; more than zero."""
    amount, unit = _amount_and_unit(text)
    if unit not in BYTES:
        raise Malformed(f"{quoted(text)} is not a size", "write 512B, 64KiB, 1MiB or 1GiB")
    if not amount:
        raise Malformed(f"{quoted(text)} is no size at all", "write 1B or more")
    if amount * BYTES[unit] > MAX_SIZE:
        raise Malformed(f"{quoted(text)} is too much", f"write {MAX_SIZE // 2**30}GiB or less")
    return amount * BYTES[unit]


def rate(text: str) -> Rate:
    """The notation of `limits.parse`, one rate only.

    `limits.parse` itself drops a second rate in silence, and takes `5/0 seconds` for `5/1 second`.
    """
    malformed = Malformed(f"{quoted(text)} is not a rate", "write 1000/minute or 5/10 seconds")
    if len(text) > LONGEST or NO_PERIOD.search(text):
        raise malformed
    try:
        items = limits.parse_many(text)
    except ValueError:
        raise malformed from None
    if len(items) > 1:
        raise Malformed(f"{quoted(text)} is more than one rate", "write one, and a second limit for the other")
    if not items[0].amount:
        raise Malformed(f"{quoted(text)} lets nothing through", "write 1/minute or more")
    return _bounded(text, items[0].amount, items[0].get_expiry())


def _bounded(text: str, amount: int, period: int) -> Rate:
    # As whole numbers: what is written may be more than a double holds.
    if period > MAX_PERIOD:
        raise Malformed(f"{quoted(text)} counts over more than a year", "write a shorter time, such as 1000/day")
    if amount > MAX_PER_SECOND * period:
        raise Malformed(f"{quoted(text)} is too fast", f"write {MAX_PER_SECOND}/second or less")
    if amount > MAX_AMOUNT:
        raise Malformed(f"{quoted(text)} is too much at once", "write the same over a shorter time")
    return Rate(amount, float(period))


def percentage(text: str) -> float:
    """`25%` or `0.5%` as a share; more than none, at most all."""
    if not PERCENTAGE.fullmatch(text):
        raise Malformed(f"{quoted(text)} is not a percentage", "write 25%")
    share = float(text[:-1]) / 100
    if not 0 < share <= 1:
        raise Malformed(f"{quoted(text)} is out of range", "write more than 0% and at most 100%")
    return share


def until(text: str) -> float:
    """The first moment, in Unix seconds, after a day (in UTC) or at a time of RFC 3339."""
    malformed = Malformed(f"{quoted(text)} is not a date or time", "write 2026-12-31 or 2026-12-31T18:00:00Z")
    day, _, rest = text.upper().partition("T")
    time = TIME.match(rest)
    if not DATE.fullmatch(day) or (rest and not time) or text[-1] in "tT":
        raise malformed
    zone = rest[time.end() :] if time else "Z"
    if not zone:
        raise Malformed(f"{quoted(text)} is in no time zone", f"write {text}Z, or +01:00 for Z")
    if not OFFSET.fullmatch(zone):
        raise malformed
    try:
        if not time:
            return calendar.timegm(date.fromisoformat(day).timetuple()) + DAY
        return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        raise malformed from None


def listen(text: str) -> Listen:
    """`host:port` or `[::1]:8080`. Port 0: any free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or not is_host(host):
        raise Malformed(f"{quoted(text)} is not an address to listen on", "write 127.0.0.1:8080 or [::1]:8080")
    return Listen(host.strip("[]"), int(port))


def network(text: str) -> Network:
    """A CIDR or a single address. Host bits are refused: whoever wrote them meant another network or one address.

    IPv4 addresses in IPv6 form become IPv4: as such clients are known (`ipv4_inside`).
    """
    try:
        return _without_ipv6_form(text, ip_network(text))
    except ValueError:
        pass
    try:
        meant = ip_interface(text)
    except ValueError:
        raise Malformed(f"{quoted(text)} is not a network", "write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32") from None
    hint = f"write {meant.network} for the network, or {meant.ip}/{meant.max_prefixlen} for the address"
    raise Malformed(f"{quoted(text)} has host bits set", hint)


def _without_ipv6_form(text: str, found: Network) -> Network:
    if not isinstance(found, IPv6Network):
        return found
    if found in IPV4_IN_IPV6:
        raise Malformed(f"{quoted(text)} stands for every IPv4 address", "write 0.0.0.0/0 if that is meant")
    inside = ipv4_inside(found.network_address) if found.prefixlen > 96 else None
    return found if inside is None else IPv4Network((inside, found.prefixlen - 96))


def ipv4_inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address whose IPv6 form this is: mapped (RFC 4291 section 2.5.5.2), or behind NAT64 (RFC 6052).

    No translator makes a loopback address of its own (RFC 6052 section 3.1), so one that says so is a pretender's.
    """
    if address.ipv4_mapped is not None or address not in NAT64:
        return address.ipv4_mapped
    inside = IPv4Address(int(address) & 0xFFFFFFFF)
    return None if inside.is_loopback or inside.is_unspecified else inside


def _amount_and_unit(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"([0-9]{1,15})([A-Za-z]{1,3})", text)
    return (int(match[1]), match[2]) if match else (0, "")


def is_host(text: str) -> bool:
    if not text.startswith("["):
        return bool(HOST.fullmatch(text))
    try:
        IPv6Address(text.removeprefix("[").removesuffix("]"))
    except AddressValueError:
        return False
    return text.endswith("]")
