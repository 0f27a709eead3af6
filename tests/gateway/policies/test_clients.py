"""The section `clients` of policies.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.policies import Clients, Policies, load
from sluice.config import PolicyError
from sluice.http.server import ClientBounds

DEFAULT = Path(__file__).parents[3] / "policies.yaml"
LISTS = "trust: {proxies: [10.0.0.0/8], lists: {laravel: [192.0.2.7/32], office: [203.0.113.0/28]}}\n"
Read = Callable[[str], Policies]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str) -> Policies:
        path = tmp_path / "policies.yaml"
        path.write_text(f"version: 1\n{text}\n")
        return load(path, environment={})

    return read_text


def test_what_the_shipped_file_says_is_what_counts_without_it(read: Read) -> None:
    shipped = load(DEFAULT, environment={"WHATSAPP_HMAC_SECRET": "hmac", "SLUICE_CONSOLE_TOKEN": "token"})
    assert shipped.clients == read("").clients == Clients()
    assert shipped.clients.bounds() == ClientBounds()


def test_each_bound_of_a_connection_is_a_key(read: Read) -> None:
    times = "first_byte: 1s, head: 2s, body: 3s, send: 4s, keep_alive: 5s"
    sizes = "head_size: 6KiB, websocket: {message: 7KiB, control: 8/second, memory: 9MiB}"
    bounds = read(f"clients: {{{times}, {sizes}}}").clients.bounds()
    assert asdict(bounds) == {
        "first_byte": 1.0,
        "head": 2.0,
        "body": 3.0,
        "send": 4.0,
        "keep_alive": 5.0,
        "head_size": 6144,
        "websocket": {"message": 7168, "control": {"amount": 8, "period": 1.0}, "memory": 9 * 2**20},
    }
    assert {field.name for field in fields(ClientBounds)} <= {field.name for field in fields(Clients)}


@pytest.mark.parametrize(
    ("text", "exempted"),
    [
        (LISTS, ["10.1.2.3", "192.0.2.7"]),
        (LISTS + "clients: {exempt: [office]}", ["10.1.2.3", "203.0.113.1"]),
        (LISTS + "clients: {exempt: []}", ["10.1.2.3"]),
        ("", []),
    ],
)
def test_proxies_and_the_lists_in_exempt_have_no_share(read: Read, text: str, exempted: list[str]) -> None:
    """By default laravel and workers, as far as there are such lists."""
    policies = read(text)
    lists = policies.clients.exempted(policies.trust)
    addresses = ("10.1.2.3", "192.0.2.7", "203.0.113.1", "198.51.100.1")
    assert [one for one in addresses if lists.holds(ip_address(one), 0.0)] == exempted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clients: {first_byte: 10}", 'clients.first_byte: "10" is not a duration; write 250ms, 5s, 2m, 1h or 1d'),
        ("clients: {share: 25}", 'clients.share: "25" is not a percentage; write 25%'),
        ("clients: {share: 0%}", 'clients.share: "0%" is out of range; write more than 0% and at most 100%'),
        ("clients: {head_size: 512B}", 'clients.head_size: "512B" holds no usual head; write 1KiB or more'),
        (
            "clients: {websocket: {message: 1GiB}}",
            'clients.websocket.message: "1GiB" is too much for one message; write 256MiB or less',
        ),
        (
            "clients: {websocket: {control: 10/minute}}",
            'clients.websocket.control: "10/minute" cuts off who answers pings; write 1/second or more',
        ),
        (
            "clients: {websocket: {pings: 1/second}}",
            "clients.websocket.pings: unknown key; known here: message, control, memory",
        ),
        ("clients: {head_size: 2MiB}", 'clients.head_size: "2MiB" is too much for one head; write 1MiB or less'),
        ("clients: {keepalive: 5s}", "clients.keepalive: unknown key; did you mean keep_alive"),
        (LISTS + "clients: {exempt: [ofice]}", 'clients.exempt[0]: no list is called "ofice"; did you mean office'),
    ],
)
def test_a_mistake_is_named_with_its_cure(read: Read, text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        read(text)
    assert said in str(refused.value)
