"""What the scoreboard says of what it has found; finding it takes minutes."""

from __future__ import annotations

from typing import Any

import scoreboard

FINE = {
    "sent": 600,
    "taken": 600,
    "arrived": 600,
    "let_go": 0,
    "duplicate_rows": 0,
    "duplicate_phones": 0,
    "conflicts": 0,
    "held": 50,
}
FAULTS = {"gateway": 2, "relay": 1, "a worker": 1, "store": 1}
ASKED = {"requests": 2000, "well": 1999, "others": {"page: 502": 1}, "faults": FAULTS}
FOUND = {
    "before": {**FINE, "taken": 240, "arrived": 90, "conflicts": 300, "per_minute": 99.6},
    "after": FINE,
    "after_kills": FINE,
    "stages": {"1": (50, 50), "10": (50, 50), "50": (50, 50)},
    "per_minute": 1000.0,
    "restarts": ASKED,
    "kills": {**ASKED, "well": 1},
}


def missed(**changed: Any) -> list[str]:
    return [one.what for one in scoreboard._figures({**FOUND, **changed}) if one.met is False]


def test_a_board_on_which_all_bars_are_kept() -> None:
    assert missed() == []
    lines = [one.line() for one in scoreboard._figures(FOUND)]
    assert lines[0] == "before: webhooks of messages that Laravel took: 40% of 600"
    assert lines[1] == "before: messages that it kept, too: 15% of 600"
    assert "planned restarts: requests answered as if nothing were wrong: 99.95% of 2,000 (at least 99.9%)" in lines
    assert "kill -9: requests answered otherwise: page: 502 1" in lines


def test_each_bar_that_is_missed_is_named() -> None:
    worse = {**FINE, "arrived": 599, "duplicate_rows": 1, "duplicate_phones": 1, "conflicts": 1, "held": 49}
    assert missed(after=worse) == [
        "planned restarts: webhooks that arrived",
        "planned restarts: session conflicts",
        "planned restarts: duplicate phones",
        "planned restarts: duplicate rows",
        "planned restarts: sessions held",
    ]
    assert missed(stages={"1": (0, 0), "10": (49, 50)}) == [
        "with 1 of 50 sessions behind Sluice: webhooks that arrived",
        "with 10 of 50 sessions behind Sluice: webhooks that arrived",
    ]
    assert missed(per_minute=999.9) == ["messages a minute, of 1,500 that come"]
    assert missed(restarts={**ASKED, "faults": {"gateway": 5}}) == ["planned restarts: of what"]
    assert missed(restarts={**ASKED, "well": 1997}) == ["planned restarts: requests answered as if nothing were wrong"]


def test_what_laravel_lets_go_has_arrived_and_is_a_miss_only_where_nothing_was_killed() -> None:
    let_go = {**FINE, "arrived": 598, "let_go": 2}
    what = "of these not saved by Laravel, whose own question to the worker failed"
    assert missed(after=let_go) == [f"planned restarts: {what}"]
    assert missed(after_kills=let_go) == []
    found = {**FOUND, "after_kills": let_go}
    assert f"kill -9: {what}: 2" in [one.line() for one in scoreboard._figures(found)]


def test_a_share_is_never_rounded_up_to_all_of_it() -> None:
    assert scoreboard._percent(99_999, 100_000) == "99.99% of 100,000"
    assert scoreboard._percent(0, 0) == "none was sent"
