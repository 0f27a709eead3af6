"""Which bucket a limit has for a subject that is known by name, and why it has none."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.limits.by_subject import Names, bucket_of
from gateway.policies import Policies, load

POLICIES = """
version: 1
trust: {lists: {office: [192.0.2.0/24], partner: [198.51.100.0/24]}}
limits:
  - {id: send, event: message_send, per: [session], rate: 30/minute, burst: 5}
  - {id: both, per: [session, event], rate: 1/hour}
  - {id: all, rate: 10/second}
  - {id: address, per: [ip/24], rate: 1/second, except: [office]}
  - {id: special, per: [session], rate: 1/second, burst: 2, overrides: [
      {session: vip-*, rate: 5/second, burst: 9}, {session: free, unlimited: true}, {list: partner, unlimited: true}]}
"""
NOW = 1_800_000_000.0


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    return load(file, environment={})


def found(policies: Policies, limit: str, **names: str) -> tuple[str, int, str | None] | str:
    """Key, burst and override of the bucket, or why there is none."""
    address = ip_address(names.pop("ip")) if "ip" in names else None
    (meant,) = [one for one in policies.limits if one.id == limit]
    one = bucket_of(meant, Names(address=address, **names), policies, NOW)
    if one.bucket is None:
        return one.why_none
    return one.bucket.key.removeprefix("sl:{l}:"), one.bucket.burst, one.override and one.override.names[0]


@pytest.mark.parametrize(
    ("limit", "names", "expected"),
    [
        ("send", {"session": "s1"}, ("send\0s1", 5, None)),
        ("send", {"workspace": "w"}, "counts per session: say which session"),
        ("send", {"session": "s1", "event": "typing"}, "is not about typing"),
        ("both", {"session": "s1"}, "counts per session and event: say which event type"),
        ("both", {"session": "s1", "event": "typing"}, ("both\0s1\0typing", 1, None)),
        ("all", {}, ("all", 10, None)),
        ("address", {"session": "s1"}, "counts per ip: say which address"),
        ("address", {"ip": "203.0.113.7"}, ("address\x00203.0.113.0/24", 1, None)),
        ("address", {"ip": "192.0.2.7"}, "leaves office alone (except)"),
        ("special", {"session": "s1"}, ("special\0s1", 2, None)),
        ("special", {"session": "vip-1"}, ("special\0vip-1", 9, "vip-*")),
        ("special", {"session": "free"}, "has no numbers for session free (unlimited)"),
        ("special", {"session": "s1", "ip": "198.51.100.1"}, "has no numbers for list partner (unlimited)"),
    ],
)
def test_the_bucket_of_a_subject_is_that_of_its_requests(
    policies: Policies, limit: str, names: dict[str, str], expected: object
) -> None:
    assert found(policies, limit, **names) == expected
