"""Events that a receiver handles while it is asked, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sluice.console.messages.wording import some
from sluice.console.status import Handled

_SLOW = 0.5  # seconds: sixteen at a time make 32 events a second, twice what the shipped rate lets through
_ENOUGH = 10  # events: of fewer a mean says little


def handled(endpoint: str, recent: Mapping[str, Handled]) -> Iterator[str]:
    """In one minute, by what the answers say: inline, queued."""
    for how, one in recent.items():
        if one.events < _ENOUGH or one.mean_s < _SLOW:
            continue
        events = some(one.events, "event", "events")
        if how == "inline":
            yield (
                f"{endpoint}: it handled {events} of the last minute inline, which took {one.mean_s:.1f}s each, and "
                "Sluice waits meanwhile: have them queued (examples/laravel), with QUEUE_CONNECTION=redis or database "
                "and php artisan queue:work"
            )
        else:
            yield (
                f"{endpoint}: it says that it queued {events} of the last minute, and took {one.mean_s:.1f}s for each: "
                "with QUEUE_CONNECTION=sync a job runs before the answer; set redis or database, and run php artisan "
                "queue:work"
            )
