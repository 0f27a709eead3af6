"""The members of an upstream, which are its addresses, and which of them a request goes to. No I/O.

A member that fails once is left out while others are there. One request a second finds out whether it is back, one that
is safe to repeat; where the policies have members checked (`health`), only the check does. While all are left out, all
are asked as if none were: the circuit of the upstream as a whole decides whether anybody is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from time import monotonic

from gateway import metrics
from sluice.observe.log import Log

LOG = Log("gateway")
PROBE_EVERY = 1.0
"""Seconds from the end of one probe of a member that is left out to the next."""


class Member:
    """One address, as one gateway process sees it. `requests`: how many are under way to it; `checked`: by a check of
    its own, so that no request has to find out whether it is back."""

    __slots__ = ("_requests", "_since", "address", "checked", "next_probe", "out", "removed", "upstream", "websockets")

    def __init__(self, upstream: str, address: str, requests: Callable[[], int], *, checked: bool = False) -> None:
        self.upstream = upstream
        self.address = address
        self.checked = checked
        self.out = False
        """It failed, and has not answered since."""
        self.next_probe = 0.0
        self.websockets = 0
        """Open or opening."""
        self.removed = False
        """The policies do not name it any more."""
        self._requests = requests
        self._since = 0.0
        metrics.upstream_member_out(upstream, address, out=False)

    @property
    def connections(self) -> int:
        """In use now."""
        return self._requests() + self.websockets

    def failed(self, why: str) -> None:
        if not self.out and not self.removed:
            self.out, self._since = True, monotonic()
            self.next_probe = self._since + PROBE_EVERY
            metrics.upstream_member_out(self.upstream, self.address, out=True)
            LOG.warning("upstream.member_out", upstream=self.upstream, member=self.address, why=why)

    def probed(self) -> None:
        """Whatever came of it."""
        self.next_probe = monotonic() + PROBE_EVERY

    def answered(self) -> None:
        """It is well, as an answer to a request shows. Where it is checked, the check has the say."""
        if self.out and not self.checked:
            self.back()

    def back(self) -> None:
        if self.out:
            self.out = False
            metrics.upstream_member_out(self.upstream, self.address, out=False)
            seconds = round(monotonic() - self._since, 1)
            LOG.info("upstream.member_back", upstream=self.upstream, member=self.address, after_s=seconds)

    def remove(self) -> None:
        self.back()
        self.removed = True


def chosen(
    members: Sequence[Member], tried: Collection[Member], last: Member | None, now: float, *, may_probe: bool
) -> tuple[Member, bool]:
    """Whom a request is sent to, and whether as a probe. Not all of them have been tried.

    First a member that is left out and due for a probe, where the request may be one and there are others to go on to;
    then, of those that are in, or else of all, the one with the fewest connections in use. Of several such the next one
    after the `last` that was chosen, in turn.
    """
    left = [member for member in members if member not in tried]
    present = [member for member in left if not member.out]
    if may_probe and present and len(present) < len(left):
        for member in left:
            if member.out and not member.checked and now >= member.next_probe:
                return member, True
    first = 0 if last is None else members.index(last) + 1
    in_turn = [member for member in (*members[first:], *members[:first]) if member in (present or left)]
    return min(in_turn, key=lambda member: member.connections), False
