from __future__ import annotations

import socket

import pytest

from sluice.config import Listen
from sluice.process.addresses import leads_to


def address_of_this_machine() -> str:
    """One that is not loopback; where it has none, loopback all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found


HERE = address_of_this_machine()


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (Listen("127.0.0.1", 8080), "http://LOCALHOST:8080/base"),
        (Listen("127.0.0.1", 8080), "http://0.0.0.0:8080"),
        (Listen("127.0.0.1", 8080), "http://[::ffff:127.0.0.1]:8080"),
        (Listen("::1", 80), "http://localhost"),
        (Listen("::1", 443), "https://[::1]"),
        (Listen("0.0.0.0", 8080), "http://127.0.0.7:8080"),
        (Listen("0.0.0.0", 8080), f"http://{HERE}:8080"),
        (Listen("::", 8080), f"http://{HERE}:8080"),
        (Listen("gateway.internal", 8080), "http://Gateway.Internal:8080"),
    ],
)
def test_a_url_leads_to_the_gateway_whose_address_it_names(listen: Listen, url: str) -> None:
    assert leads_to(listen, url)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("127.0.0.1", 8080), "http://127.0.0.1:8081"),
        (Listen("127.0.0.1", 8080), "https://127.0.0.1"),
        (Listen("127.0.0.1", 8080), "http://127.0.0.2:8080"),
        (Listen("127.0.0.1", 8080), "http://laravel.internal:8080"),
        (Listen("0.0.0.0", 8080), "http://192.0.2.1:8080"),
        (Listen("0.0.0.0", 8080), "http://[2001:db8::1]:8080"),
        (Listen("10.0.0.1", 8080), "http://localhost:8080"),
    ],
)
def test_any_other_leads_elsewhere(listen: Listen, url: str) -> None:
    assert not leads_to(listen, url)
