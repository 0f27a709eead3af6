"""Whom to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sluice.http import client as http1

FENCE = b"X-Sluice-Fence"


@dataclass(frozen=True, slots=True)
class Target:
    """A worker. `fence` None: it has no lease on the session, and is asked as it would be directly. `existing`: a
    service that knows nothing of leases, and may be busy for longer than one."""

    worker: str
    url: str
    fence: int | None = None
    existing: bool = False
    takes_ids: bool = False
    """It sends what has an id only once while the fence stays."""
    fields: Sequence[http1.Field] = field(init=False, compare=False)
    """What it is told beside the client's own."""

    def __post_init__(self) -> None:
        fields = [] if self.fence is None else [http1.Field(FENCE, b"%d" % self.fence)]
        object.__setattr__(self, "fields", fields)
