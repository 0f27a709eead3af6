"""The judge of the outbox finds what is wrong, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.outbox.checker import check, early_by

INTERVAL, BURST, SLACK = 1.0, 2, 0.1


def begun(number: int) -> dict[str, Any]:
    return {"at": 0.0, "kind": "begun", "session": "s", "text": f"m{number}", "number": number}


def told(text: str, status: int = 202, identity: str | None = "ours") -> dict[str, Any]:
    return {"at": 0.0, "kind": "told", "session": "s", "text": text, "status": status, "id": identity}


def sent(text: str, at: float, identity: str = "its") -> dict[str, Any]:
    return {"at": at, "kind": "sent", "session": "s", "text": text, "id": identity, "worker": "w1"}


def unknown(text: str) -> dict[str, Any]:
    return {"at": 9.0, "kind": "unknown", "text": text, "why": "it was given to w1"}


def delivered(message: str, kind: str = "message_read", text: str | None = None) -> dict[str, Any]:
    return {"at": 9.0, "kind": "delivered", "session": "s", "type": kind, "message": message, "text": text}


def wrong(*entries: dict[str, Any]) -> Sequence[str]:
    return check(entries, interval=INTERVAL, burst=BURST, slack=SLACK).wrong


def test_what_went_well_is_not_wrong() -> None:
    first = [begun(0), told("m0"), sent("m0", 1.0), delivered("ours", "message_sent", "m0"), delivered("ours")]
    second = [
        begun(1),
        told("m1", 200, "W"),
        sent("m1", 2.0, "W"),
        delivered("W", "message_sent", "m1"),
        delivered("W"),
    ]
    gave_up = [
        begun(2),
        told("m2", 0, None),
        sent("m2", 3.0, "X"),
        delivered("X", "message_sent", "m2"),
        delivered("X"),
    ]
    lost = [begun(3), told("m3", 202, "lost"), unknown("m3")]
    broken = [
        begun(4),
        told("m4", 202, "broken"),
        unknown("m4"),
        sent("m4", 4.0, "Y"),
        delivered("Y", "message_sent", "m4"),
    ]
    others = [{**delivered("Z"), "type": "session_ready"}]
    assert wrong(*first, *second, *gave_up, *lost, *broken, *others) == ()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([begun(0), told("m0"), sent("m0", 1.0), sent("m0", 5.0)], "m0: sent 2 times"),
        ([begun(0), told("m0")], "m0: its caller was told 202, and it was neither sent nor listed as unknown"),
        ([begun(0), told("m0", 429, None)], "m0: its caller was told 429"),
        ([begun(0), begun(1), sent("m1", 1.0), sent("m0", 2.0)], "m0: sent after number 1"),
        (
            [begun(0), told("m0"), sent("m0", 1.0), delivered("its")],
            "m0: message_read calls it its, and its caller knows it as ours",
        ),
        (
            [begun(0), told("m0"), sent("m0", 1.0), delivered("else", "message_sent", "m0")],
            "m0: message_sent calls it else, and its caller knows it as ours",
        ),
        ([delivered("else")], "message_read of s: nobody knows else"),
    ],
)
def test_each_fault_is_found(entries: list[dict[str, Any]], said: str) -> None:
    assert wrong(*entries) == (said,)


@pytest.mark.parametrize(
    ("times", "early"),
    [
        ([], 0.0),
        ([5.0, 5.0], 0.0),
        ([5.0, 5.0, 5.0], 1.0),
        ([5.0, 5.0, 6.0, 7.0, 8.0], 0.0),
        ([5.0, 5.0, 5.7], 0.3),
        ([5.0, 5.0, 7.0, 7.0, 7.5], 0.5),
    ],
)
def test_the_bucket_is_an_exact_one(times: list[float], early: float) -> None:
    assert early_by([(at, at) for at in times], INTERVAL, BURST) == pytest.approx(early)


@pytest.mark.parametrize(
    ("sends", "early"),
    [
        ([(5.0, 6.0), (5.0, 6.0), (5.0, 6.0)], 0.0),  # tokens at 5, 6 and 6: the first was a second on its way
        ([(5.0, 6.0), (5.0, 6.0), (5.0, 6.0), (5.0, 6.5)], 0.5),
        ([(5.0, 5.0), (5.0, 5.0), (5.0, 5.9)], 0.1),
    ],
)
def test_what_a_send_is_late_on_its_way_is_no_hurry_of_the_next(sends: list[tuple[float, float]], early: float) -> None:
    assert early_by(sends, INTERVAL, BURST) == pytest.approx(early)


def test_a_pace_above_the_bucket_is_wrong_and_told() -> None:
    entries = [each for n in range(3) for each in ({**begun(n), "at": 1.0}, sent(f"m{n}", 1.0))]
    assert wrong(*entries) == ("a message left 1000 ms before the bucket had its token",)
