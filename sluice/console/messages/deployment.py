"""What concerns everything: the store, the relay processes, the policies file."""

from __future__ import annotations

from collections.abc import Iterator

from relay.policies import OUTBOX
from sluice.console.messages.wording import age, listed, some
from sluice.console.status import ClockJump, Status, StoreStatus


def store_away(store: StoreStatus) -> Iterator[str]:
    if not store.ok:
        yield f"the store does not answer ({store.why}): webhooks are held, then refused; nothing accepted is lost"


def clock(jump: ClockJump | None) -> Iterator[str]:
    if jump is None:
        return
    direction = "back" if jump.jumped_s < 0 else "forward"
    early = "leases, waits and times to live may have ended early"
    what = "nothing waits longer for it" if jump.jumped_s < 0 else early
    shown = f", and times are shown {age(jump.offset_s)} ahead of it" if jump.offset_s >= 1 else ""
    yield (
        f"the store's clock jumped {direction} by {age(abs(jump.jumped_s))}, {age(jump.ago_s)} ago: "
        f"{what}{shown}; keep the clock of the store's machine right: timedatectl set-ntp true"
    )


def relays(status: Status) -> Iterator[str]:
    if status.relays == 0 and status.endpoints.keys() - {OUTBOX}:
        yield "no relay is running: events are accepted and wait"


def policies(status: Status) -> Iterator[str]:
    file = status.policies
    if file.problems:
        first, others = file.problems[0], len(file.problems) - 1
        place = f"line {first.line}: " if first.line else ""
        key = f"{first.key}: " if first.key else ""
        more = f"; {some(others, 'mistake', 'mistakes')} more: sluice check" if others else ""
        yield (
            f"{file.source} is wrong, so revision {status.revision} stays in force: "
            f"{place}{key}{first.message}; {first.hint}{more}"
        )
    if file.needs_restart:
        keys = file.needs_restart
        yield f"{file.source}: {listed(keys)} changed, which counts from the next start on; restart Sluice"
