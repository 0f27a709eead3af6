from __future__ import annotations

import pytest

from sessions.instances import Instances, instance_of


@pytest.mark.parametrize(
    ("header", "instance"),
    [
        (b"http://localhost:3001", "http://localhost:3001"),
        (b"http://LocalHost:3001/", "http://localhost:3001"),
        (b"https://node/base", "https://node:443"),
        (b"http://[::1]:3001", "http://[::1]:3001"),
        (b"localhost:3001", None),
        (b"http://", None),
        (b"http://user:secret@node", None),
        (b"http://n\xc3\xb6de", None),
        (b"http://node:99999", None),
        (b"javascript:alert(1)", None),
        (b"http://" + b"n" * 200, None),
        (b"", None),
    ],
)
def test_an_instance_is_an_address_or_nothing(header: bytes, instance: str | None) -> None:
    assert instance_of(header) == instance


def test_the_last_one_of_each_worker_is_known() -> None:
    instances = Instances()
    instances.note("w1", b"http://localhost:3001")
    instances.note("w2", None)
    instances.note("w1", b"http://localhost:3009")
    instances.note("w1", b"no address")
    assert (instances.of("w1"), instances.of("w2")) == ("http://localhost:3009", None)
