from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.limits.applicable import OBSERVE, REFUSE, Bucket, Enforcement
from gateway.limits.headers import header_lines
from gateway.policies import LimitHeader
from sluice.config import Rate
from tests.gateway.making import a_limit

Standing = tuple[Bucket, float]


def standing(name: str, rate: Rate, burst: int, level: float, mode: Enforcement = REFUSE) -> Standing:
    limit = a_limit(name, rate=rate, burst=burst)
    return Bucket(limit, name, mode, rate.interval, burst, cost=1), level


SEND = standing("send", Rate(30, 60.0), 5, 3.5)
ADDRESS = standing("address", Rate(3000, 60.0), 500, 499.0)


def said(*standings: Standing, violated: tuple[str, ...] = (), wanted: LimitHeader = "ratelimit") -> list[bytes]:
    return header_lines([bucket for bucket, _ in standings], [level for _, level in standings], violated, {wanted})


def test_quota_and_what_is_left_are_structured_fields() -> None:
    assert said(SEND) == [b'RateLimit-Policy: "send";q=30;w=60\r\n', b'RateLimit: "send";r=3;t=1\r\n']


def test_several_limits_are_one_list() -> None:
    assert said(SEND, ADDRESS) == [
        b'RateLimit-Policy: "send";q=30;w=60,"address";q=3000;w=60\r\n',
        b'RateLimit: "send";r=3;t=1,"address";r=499;t=1\r\n',
    ]


@pytest.mark.parametrize(
    ("level", "left"),
    [
        (5.0, b"r=5"),
        (4.0, b"r=4;t=2"),
        (0.0, b"r=0;t=2"),
        (0.9999999999, b"r=1;t=2"),
        (0.25, b"r=0;t=2"),
        (-3.0, b"r=0;t=8"),
    ],
)
def test_the_next_token_is_that_many_whole_seconds_away(level: float, left: bytes) -> None:
    assert said(standing("send", Rate(30, 60.0), 5, level))[1] == b'RateLimit: "send";%b\r\n' % left


def test_a_window_shorter_than_a_second_is_told_as_one() -> None:
    assert said(standing("burst", Rate(5, 0.25), 5, 5.0))[0] == (b'RateLimit-Policy: "burst";q=20;w=1\r\n')


def test_laravel_clients_are_told_of_the_one_with_the_least_left() -> None:
    address = standing("address", Rate(3000, 60.0), 500, 50.0)
    assert said(SEND, address, wanted="x-ratelimit") == [
        b"X-RateLimit-Limit: 500\r\n",
        b"X-RateLimit-Remaining: 50\r\n",
    ]


def test_what_only_observes_is_nobodys_business() -> None:
    trial = standing("trial", Rate(30, 60.0), 5, 1.0, mode=OBSERVE)
    assert said(trial) == []
    assert b"trial" not in b"".join(said(SEND, trial))


def test_a_refusal_tells_of_the_limits_that_refuse() -> None:
    assert said(SEND, ADDRESS, violated=("send",)) == said(SEND)


@pytest.mark.parametrize(("cost", "said_to_wait"), [(4, b"r=3;t=1"), (5, b"r=3;t=3")])
def test_a_refusal_tells_when_there_is_as_much_as_it_costs(cost: int, said_to_wait: bytes) -> None:
    bucket, level = SEND
    refused = said((replace(bucket, cost=cost), level), violated=("send",))
    assert refused[1] == b'RateLimit: "send";%b\r\n' % said_to_wait


def test_nothing_is_said_where_nothing_is_to_be_said() -> None:
    assert said() == []
    assert header_lines([SEND[0]], [1.0], (), ()) == []
