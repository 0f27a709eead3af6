"""Who starts what: a table."""

from __future__ import annotations

import pytest

from sessions.division import Account, first_homes

W = ("w1", "w2", "w3", "w4")


@pytest.mark.parametrize(
    ("workspace", "home"), [(0, "w1"), (1, "w2"), (2, "w3"), (3, "w4"), (4, "w1"), (5, "w2"), (7, "w4"), (402, "w3")]
)
def test_a_session_nobody_knows_begins_where_laravel_would_have_created_it(workspace: int, home: str) -> None:
    """`whatsapp.instances[workspace_id % instance_count]`, counted from 0: WHATSAPP_INSTANCE_1 is the first worker."""
    assert first_homes([Account("s", workspace)], W) == {"s": home}


def test_all_sessions_of_a_workspace_begin_at_one_worker() -> None:
    homes = first_homes([Account(f"s{i}", 6) for i in range(9)], W)
    assert set(homes.values()) == {"w3"}


def test_where_logins_are_shared_the_least_loaded_worker_takes_the_next_one() -> None:
    accounts = [Account(f"s{i}", 0) for i in range(5)]
    assert first_homes(accounts, W, {"w1": 2, "w2": 0, "w4": 1}) == {
        "s0": "w2",
        "s1": "w2",
        "s2": "w4",
        "s3": "w1",
        "s4": "w2",
    }


def test_among_equals_the_order_of_the_policies_decides() -> None:
    assert first_homes([Account("s", 3)], W, dict.fromkeys(W, 7)) == {"s": "w1"}
