from __future__ import annotations

from sluice.console.status import Handled, LastMinute
from tests.sluice.console.saying import said


def test_events_that_are_handled_slowly_while_sluice_waits_are_told_with_the_cure() -> None:
    slow = {"inline": Handled(812, 1.23), "queued": Handled(310, 0.5)}
    assert said(last_minute=LastMinute(handled={"laravel": slow})) == [
        "laravel: it handled 812 events of the last minute inline, which took 1.2s each, and Sluice waits meanwhile: "
        "have them queued (examples/laravel), with QUEUE_CONNECTION=redis or database and php artisan queue:work",
        "laravel: it says that it queued 310 events of the last minute, and took 0.5s for each: with "
        "QUEUE_CONNECTION=sync a job runs before the answer; set redis or database, and run php artisan queue:work",
    ]


def test_a_few_or_quick_ones_are_nothing_to_say() -> None:
    calm = {"inline": Handled(9, 3.0), "queued": Handled(1000, 0.49)}
    assert said(last_minute=LastMinute(handled={"laravel": calm})) == []
