"""How often an address may be wrong about `console.token`."""

from __future__ import annotations

import pytest

from gateway.policies import ConsolePolicy
from gateway.tokens import TokenGuard
from sluice.config import Rate, Secret
from sluice.http.problem import Refusal
from tests.gateway.making import a_client

POLICY = ConsolePolicy(Secret(b"the-right-one"), Secret(b"the-one-to-read"))
RIGHT, WRONG = "Bearer the-right-one", "Bearer guessed"


def status(guard: TokenGuard, authorization: str, now: float, address: str = "192.0.2.7") -> int:
    try:
        guard.check(authorization, POLICY, a_client(address), now)
    except Refusal as refusal:
        return refusal.status
    return 200


def test_tries_come_back_one_by_one() -> None:
    guard = TokenGuard(Rate(2, 60.0))
    assert [status(guard, WRONG, at) for at in (0, 0, 0, 29.9, 30.1, 30.2)] == [401, 401, 429, 429, 401, 429]
    assert [status(guard, RIGHT, at) for at in (59.9, 60.2)] == [429, 200]


def test_an_ipv6_customer_is_one_address() -> None:
    guard = TokenGuard(Rate(1, 60.0))
    assert status(guard, WRONG, 0.0, "2001:db8::1") == 401
    assert status(guard, RIGHT, 0.0, "2001:db8::2") == 429
    assert status(guard, RIGHT, 0.0, "2001:db8:0:1::1") == 200


def test_the_right_token_uses_up_nothing() -> None:
    guard = TokenGuard(Rate(1, 60.0))
    assert [status(guard, RIGHT, 0.0) for _ in range(100)] == [200] * 100


def test_another_rate_counts_from_an_edit_on() -> None:
    guard = TokenGuard(Rate(1, 60.0))
    assert [status(guard, WRONG, 0.0) for _ in range(2)] == [401, 429]
    guard.apply(Rate(10, 60.0))
    assert status(guard, RIGHT, 0.0) == 200


def test_a_flood_of_addresses_does_not_fill_the_memory() -> None:
    guard = TokenGuard(Rate(1, 3600.0))
    for number in range(20_000):
        status(guard, WRONG, 0.0, f"2001:db8:{number:x}::1")
    assert guard._full_at.used <= 2**20
    assert status(guard, RIGHT, 0.0, "2001:db8:4e1f::1") == 429, "the last one is still known"


@pytest.mark.parametrize("token", [None, Secret(b"")])
def test_without_a_token_in_the_policies_nobody_gets_in(token: Secret | None) -> None:
    with pytest.raises(Refusal, match="console.token is not set"):
        TokenGuard().check("Bearer ", ConsolePolicy(token, Secret(b"x")), a_client(), 0.0)


def test_each_token_has_its_role() -> None:
    guard = TokenGuard(Rate(1, 60.0))
    assert guard.check(RIGHT, POLICY, a_client(), 0.0) == "operator"
    assert guard.check("bearer the-one-to-read", POLICY, a_client(), 0.0) == "reader"


def test_without_a_token_to_read_an_empty_one_opens_nothing() -> None:
    for read in (None, Secret(b"")):
        with pytest.raises(Refusal, match="send Authorization"):
            TokenGuard().check("Bearer ", ConsolePolicy(POLICY.token, read), a_client(), 0.0)
