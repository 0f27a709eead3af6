"""Sluice's limiter, with buckets as the gateway makes them of a policies file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.client_ip import Client
from gateway.limits.applicable import Bucket, Limits, Subject
from gateway.policies import load

_CLIENT = Client(IPv4Address("192.0.2.7"), trusted_peer=False, subject="192.0.2.7", text="192.0.2.7")
_PER = ("[session]", "[ip]", "[]")


def session(number: int) -> str:
    """Of the length that the workers' names have."""
    return f"webjs_{1 + number % 5}_{1_700_000_000 + number}_{number:08x}"


@contextmanager
def limits(rate: str, burst: int, count: int = 1) -> Iterator[Limits]:
    """The first per session, a second per address, a third for all; who counts more has a larger burst."""
    rows = [f"- {{id: limit-{n}, per: {_PER[n]}, rate: {rate}, burst: {burst * (n + 1)}}}" for n in range(count)]
    with TemporaryDirectory(prefix="sluice-bench-") as folder:
        file = Path(folder) / "policies.yaml"
        file.write_text("version: 1\nlimits:\n  " + "\n  ".join(rows) + "\n")
        policies = load(file)
        yield Limits(policies.limits, policies.trust.lists)


def buckets(made: Limits, number: int) -> Sequence[Bucket]:
    """Those that a request of this session takes from."""
    return made.buckets(Subject(_CLIENT, None, session(number), relayed=False))
