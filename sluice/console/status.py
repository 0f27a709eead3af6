"""Everything a person wants on one screen, as of one moment: the contract of API, page and terminal.

`sluice.console.actions.status` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sluice.console.actions.circuits import CircuitOfEndpoint
from sluice.console.cleanup import CleanupStatus
from sluice.console.outbox import OutboxStatus


@dataclass(frozen=True, slots=True)
class ShowStatus:
    pass


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    line: int
    """From 1; 0: the file as a whole."""
    column: int
    key: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class PoliciesStatus:
    source: str
    loaded_at: datetime
    problems: tuple[PolicyProblem, ...]
    """Of the file, which then is not in force."""
    needs_restart: tuple[str, ...]
    """Keys whose new values count from the next start on."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the store does not say of itself is null."""

    ok: bool
    why: str | None
    version: str | None = None
    up_s: float | None = None
    """Seconds since it was started."""
    memory: int | None = None
    max_memory: int | None = None
    """Bytes; 0: as much as its machine has."""
    machine: int | None = None
    """Bytes of memory that its machine has."""
    appends: bool | None = None
    """It has an append-only file."""
    failing: str = ""
    """What it could not write the last time it tried; empty: nothing."""


@dataclass(frozen=True, slots=True)
class ClockJump:
    """Of the store's clock, the last one of an hour."""

    jumped_s: float
    """Less than 0: back."""
    ago_s: float
    offset_s: float
    """By so much the moments that are shown are ahead of it now."""


@dataclass(frozen=True, slots=True)
class RequestCounts:
    total: int
    by_status: Mapping[str, int]
    """By class: `2xx`, `4xx` …"""


@dataclass(frozen=True, slots=True)
class LimitDecisions:
    allowed: int = 0
    delayed: int = 0
    held: int = 0
    """Had to wait for tokens, and were allowed or rejected afterwards: they are counted there as well."""
    dropped: int = 0
    rejected: int = 0
    would_reject: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Since this deployment was started."""

    requests: RequestCounts
    events: Mapping[str, int]
    """Accepted, by type."""
    refused: Mapping[str, int]
    """By reason."""
    limits: Mapping[str, LimitDecisions]


@dataclass(frozen=True, slots=True)
class Share:
    these: int
    total: int


@dataclass(frozen=True, slots=True)
class Handled:
    events: int
    mean_s: float
    """Seconds that one attempt took."""


@dataclass(frozen=True, slots=True)
class LastMinute:
    """Of all processes on this machine, as of two seconds ago at most."""

    limits: Mapping[str, LimitDecisions] = field(default_factory=dict)
    undecided: int = 0
    """Requests whose limits were decided without the store."""
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Events not stored, by endpoint and reason."""
    handled: Mapping[str, Mapping[str, Handled]] = field(default_factory=dict)
    """By endpoint, and by what its answers say that it did with the event: inline, queued."""
    unsigned: Mapping[str, Share] = field(default_factory=dict)
    """Requests that were refused with 401, by route, of those with `verify`."""
    unrouted: Share | None = None
    """Requests that match no route."""
    unknown_prefixes: int = 0
    """Requests under a prefix that no worker of `sessions.workers` has."""
    ambiguous_paths: int = 0
    """Requests refused as their path can be read in more than one way, and their route depends on it."""
    returned: int = 0
    """Requests refused with 508, as they had passed this gateway before, or very many others."""
    handshakes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """TLS handshakes that failed, by listener and reason: certificate, version, no_tls, other."""
    twins: int = 0
    """Registrations of workers that were refused, as another live process has their id."""
    registrations: int = 0
    """Registrations of workers that were refused for their id or url."""
    signed_calls: Mapping[str, int] = field(default_factory=dict)
    """Calls of workers and publishers that were refused with 401, by the key that names their signature."""
    bodies: int = 0
    """Requests refused because `bodies` was used up."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Connections of clients that were cut, by the key of `clients` that says when."""
    shares: Mapping[str, int] = field(default_factory=dict)
    """Requests refused as their client's address uses its share of the connections to an upstream, by its name."""
    sends: Mapping[str, int] = field(default_factory=dict)
    """What the shield of sends did, and what it could not do: joined, unknown, unshielded, given_up."""
    outbox: Mapping[str, int] = field(default_factory=dict)
    """What became of sends that limits keep (`sluice_outbox_sends_total`)."""
    connections_refused: int = 0
    """Connections that got 503, as the open files of a gateway are used up."""
    websockets_cut: Mapping[str, int] = field(default_factory=dict)
    """WebSockets that were closed with 1008, by the side that sent too many control frames: client, upstream."""
    websockets_stuck: int = 0
    """WebSockets that were closed with 1013, as the memory for messages was used up."""
    held: int = 0
    """Webhooks that wait right now to be stored or decided."""
    reserved: Mapping[str, int] = field(default_factory=dict)
    """Requests for `/_sluice/` that were refused, by what for: denied, not_allowed, host, listener, token, limited."""
    log_writes: int = 0
    """Batches of log lines that were lost."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One address of an upstream with several, or with a check."""

    url: str
    out: bool
    """Some process leaves it out, as it failed and has not answered since."""


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    url: str
    """The first of its addresses; empty for the workers together."""
    circuit: Literal["closed", "half-open", "open"]
    """The worst of all processes."""
    outcomes: Mapping[str, int]
    """Of its requests in the last minute: answered, 500 (any other 5xx), 502, 503, 504, unreachable, timeout,
    broken_off, busy, circuit_open."""
    failing_s: float
    """Seconds for which a large share has failed; 0: it does not."""
    members: tuple[MemberStatus, ...] = ()
    """Empty where there is one address, and no check of it."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """Of the gateway process that was asked."""

    name: str
    address: str
    admin: bool
    """Only `/_sluice/` answers there."""
    certificate: str | None = None
    """The file; null: it has no TLS."""
    ends_s: float | None = None
    """Seconds until the certificate in force ends; less than 0: since."""
    problem: str | None = None
    """Why newer files are not in force."""


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """Of the data folder, in bytes."""

    path: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    process: str
    restarts: int
    """Since `sluice up` began."""
    up_s: float | None
    """Seconds; null: not known."""
    files: int | None = None
    """Open files; null: not known."""
    max_files: int | None = None
    """The most that it may have; null: any number, or not known."""


@dataclass(frozen=True, slots=True)
class DisputedSession:
    session: str
    owner: str
    also_at: str


@dataclass(frozen=True, slots=True)
class ExistingWorkerStatus:
    """What this process last saw of a worker of `sessions.workers`."""

    worker: str
    url: str
    why: str | None
    """Why it does not answer; null: it does."""
    since_s: float
    """Seconds for which that has been so."""
    answered: bool
    """At least once since it is watched."""
    disputed: tuple[DisputedSession, ...] = ()
    keyed: bool = False
    """The policies give its key."""
    refused: bool = False
    """It refuses us, for the key or for want of one."""
    several: bool = False
    """Several processes answer at its url."""
    up_s: float | None = None
    """Seconds since its process began, as far as it says that."""
    missing: int = 0
    """Sessions that it has and does not list."""
    restoring_s: float = 0.0
    """Seconds for which they may still come back, as it was started again; 0: they should be there."""
    odd: int = 0
    """Items of its list that cannot be read."""
    example: str = ""
    """One of those, short."""
    instance: str | None = None
    """What it calls itself in X-Instance-Url, as this gateway process has heard it."""


@dataclass(frozen=True, slots=True)
class UndividedWorker:
    """It was started, and did not get its list of sessions from us."""

    worker: str
    prefix: str
    up_s: float
    """Seconds since it was started."""


@dataclass(frozen=True, slots=True)
class DivisionStatus:
    """How existing workers come to know which sessions are their own."""

    without_prefix: tuple[str, ...] = ()
    """Workers that start the sessions of all of them."""
    undivided: tuple[UndividedWorker, ...] = ()


@dataclass(frozen=True, slots=True)
class LateSnapshot:
    session: str
    age_s: float | None
    """Of its newest snapshot; null: there is none."""


@dataclass(frozen=True, slots=True)
class ShrunkSnapshot:
    session: str
    size: int
    """Bytes of the newest."""
    before: int
    """Of the older one, which stays until the newest has grown again or a person drops it."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key that sealed generations and that `sessions.vault.key` does not name."""

    key: str
    generations: int
    sessions: int
    lost: int
    """Sessions of which no generation can be opened."""


@dataclass(frozen=True, slots=True)
class ProfileTrouble:
    kind: Literal["save", "restore", "fell_back", "stale"]
    """It could not be saved; it could not be restored; an older generation was restored; an older start was refused."""
    session: str
    times: int
    since_s: float
    last_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingLogin:
    """On a disk, and left by `sluice sessions migrate`, as its browser runs."""

    session: str
    source: str
    """Its folder."""
    host: str
    """On which that lies."""
    age_s: float
    """Seconds since it was left first."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """As the gateway process that was asked has seen it within the last half minute."""

    place: str
    """`store`, or where the chunks of profiles lie."""
    away: str | None
    """Why nothing can be read or written there; null: it answers."""
    misplaced: str | None
    """A session that was saved, and of which nothing lies there: it is another place. Null: there is none."""
    disk: DiskStatus | None
    """Of its folder; null: it is no folder."""
    sessions: int
    """Of which a login is kept."""
    generations: int
    keep: int
    """So many of each session."""
    size: int
    """Bytes of the newest profiles, as they are on a disk."""
    stored: int
    """Bytes that were written for all generations that are kept."""
    expected: int
    """Bytes that they may come to need, with the connected sessions that are not kept yet."""
    every_s: float
    late: tuple[LateSnapshot, ...] = ()
    """Some of the connected sessions that were not saved for three times `every`, the oldest first."""
    late_total: int = 0
    old_key: int = 0
    """Generations that an older key of `sessions.vault.key` has sealed."""
    unknown_keys: tuple[UnknownKey, ...] = ()
    shrunk: tuple[ShrunkSnapshot, ...] = ()
    """Some of the sessions whose newest snapshots are far smaller than one before them."""
    shrunk_total: int = 0
    deleted: int = 0
    """Sessions whose login was deleted, and of which generations are kept still."""
    deleted_stored: int = 0
    to_prune: int = 0
    """Those of them that were deleted over a week ago."""
    waiting: tuple[WaitingLogin, ...] = ()
    """Some of the logins that wait to be moved from a disk, the one that waits longest first."""
    waiting_total: int = 0
    complete: bool = True
    """False: there are too many sessions, and not all of them were looked at."""
    troubles: tuple[ProfileTrouble, ...] = ()
    """The latest first."""


@dataclass(frozen=True, slots=True)
class Backlog:
    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Lately:
    """What a person has to know until it has not happened for a day."""

    times: int
    since_s: float
    """Seconds since it happened first, with no day between two times."""
    last_s: float
    """Seconds since it happened last."""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What only the store knows is null while it is away."""

    circuit: CircuitOfEndpoint | None
    waiting: int | None
    leased: int | None
    dead: int | None
    bytes: int | None
    """Of what waits."""
    oldest_due_s: float | None
    """Seconds for which the oldest that is due has been waiting."""
    accepted: int | None
    """This and the next four since the store is in use."""
    delivered: int | None
    retried: int | None
    replaced: int | None
    expired: int | None
    inflow: float | None
    """Events per second, of the last minutes."""
    rate: float | None
    """Attempts per second that its policy allows; null: as many as it takes."""
    max_per_second: float | None
    """Events that its rate lets through."""
    backlog: Backlog
    """The most that may wait."""
    superseded: int | None = None
    """Not sent, as a newer event made them harmful."""
    stalled_s: float = 0.0
    """Seconds for which no relay has taken what is due, though it may be sent; 0: all is taken."""
    dead_bytes: int | None = None
    refused: Lately | None = None
    """Events, as the backlog was full."""
    left_out: Lately | None = None
    """Events that other endpoints took while the backlog was full."""
    sorting: bool = False
    """What waits is put in the order of its sessions, and nothing is sent meanwhile."""
    dead_dropped: Lately | None = None
    """Dead letters, as there were too many."""
    kept_bytes: int | None = None
    """Of delivered events that can be sent once more."""
    bodies_dropped: Lately | None = None
    """Bodies of delivered events, before their time, as they had too many bytes."""

    @property
    def stale(self) -> int | None:
        """Events that were not sent, as the policies say."""
        return None if self.replaced is None else self.replaced + (self.expired or 0) + (self.superseded or 0)


@dataclass(frozen=True, slots=True)
class RemovedEndpoint:
    """The policies do not name it, by an edit or a restart with others; this is what lies in the store for it."""

    endpoint: str
    waiting: int
    leased: int
    dead: int


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    worker: str
    url: str
    existing: bool
    """A service that we do not run."""
    sessions: int
    capacity: int
    """The most sessions it runs."""
    lost: bool
    last_beat_s: float | None
    """Seconds since; null when it is lost."""
    beat_left_s: float
    """Seconds until it counts as lost."""
    reserved: int = 0
    """Places that are held for creates."""
    waiting: int = 0
    """Sessions that nobody has, and whose login lies there."""
    draining: bool = False
    """It takes no more sessions."""
    memory: float = 0.0
    cpu: float = 0.0
    """By its own account, 0 to 1; from 0.9 on it takes no more sessions."""
    drains_s: float | None = None
    """Seconds for which it is to drain: its sessions go to others, as fewer workers are wanted; null: it is not."""
    dropped_events: int = 0
    """Of its sessions: those that it could not pass on within the last hour."""
    named: bool = True
    """Of an existing one: the policies name it still."""
    notes: tuple[str, ...] = ()
    """What is worth a word, in a few words each."""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """null or empty while the store is away."""

    total: int | None
    connected: int | None
    """The state of a session that nobody runs is only its last known one, so it is not counted here."""
    states: Mapping[str, int]
    unowned: int | None
    ended: int | None = None
    """Beside them: kept, and run by nobody until they are created again or restored."""


@dataclass(frozen=True, slots=True)
class MovedSessionStatus:
    """The session that was sent to another worker last, without a person."""

    session: str
    left: str
    to: str
    by: str
    """rebalancing; drain: the worker that it leaves is to drain; a person."""
    ago_s: float


@dataclass(frozen=True, slots=True)
class ScalingStatus:
    """How many workers of ours are wanted, and what they are wanted for."""

    wanted: int
    live: int
    """Without those that drain."""
    sessions: int
    """That they are to run, with the next two."""
    unowned: int
    unplaced: int
    """Creates that were refused within the last minute, as all workers were full."""
    per_worker: float
    """Sessions that one of them runs."""
    full: bool
    """All of them take no more, by their own account of memory and CPU."""
    gives: str | None = None
    """The worker whose sessions go to others now, to balance them."""
    last: MovedSessionStatus | None = None
    most: int | None = None
    """How many `sluice up --workers` has at most; null: nobody starts workers by itself."""


@dataclass(frozen=True, slots=True)
class FaultStatus:
    """Sessions that are not well though somebody runs them, for one kind of reason."""

    kind: str
    """silent, flapping, or the state in which they are stuck."""
    sessions: int
    examples: tuple[str, ...]
    """Some of them, by name."""
    restarted: bool
    """The policies have them restarted."""


@dataclass(frozen=True, slots=True)
class RivalStatus:
    """A session that is connected on an existing worker, while another one of its workspace has its phone."""

    session: str
    stays: str
    worker: str


@dataclass(frozen=True, slots=True)
class UntoldEndings:
    """Sessions that were ended, of which Laravel has not been told yet: a hundred at most."""

    sessions: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class AlertReceiverStatus:
    """Of one that did not take the last message, or `(heartbeat)`."""

    receiver: str
    failing_s: float
    failures: int
    """One after the other."""
    why: str


@dataclass(frozen=True, slots=True)
class AlertsStatus:
    """As the gateway process that was asked has read it a few seconds ago."""

    firing: int
    """What is wrong by a rule, for long enough."""
    silences: int
    failing: tuple[AlertReceiverStatus, ...] = ()
    never: tuple[str, ...] = ()
    """Rules that cannot fire, and why."""
    full: bool = False
    """So much is wrong by the rules that the rest is not told."""


@dataclass(frozen=True, slots=True)
class Status:
    at: datetime
    revision: str
    """Of the policies in force."""
    policies: PoliciesStatus
    promise: str
    """What an accepted webhook has bought: store.promise."""
    store: StoreStatus
    relays: int | None
    """Relay processes that run."""
    traffic: Traffic
    endpoints: Mapping[str, EndpointStatus]
    removed: tuple[RemovedEndpoint, ...]
    workers: tuple[WorkerStatus, ...]
    sessions: SessionCounts
    clock_jump: ClockJump | None = None
    upstreams: Mapping[str, UpstreamStatus] = field(default_factory=dict)
    existing: tuple[ExistingWorkerStatus, ...] = ()
    advertise: str | None = None
    """What Laravel is told instead of the existing workers' own addresses."""
    rivals: tuple[RivalStatus, ...] = ()
    """Some of them."""
    one_phone_enforced: bool = False
    one_phone: str = "newest"
    """Which of several connected sessions of a phone stays."""
    cleanup: CleanupStatus | None = None
    """Null: stale sessions are not ended by themselves, or the store does not tell."""
    untold: UntoldEndings | None = None
    """Null while there is none."""
    faults: tuple[FaultStatus, ...] = ()
    division: DivisionStatus = field(default_factory=DivisionStatus)
    last_minute: LastMinute = field(default_factory=LastMinute)
    listeners: tuple[ListenerStatus, ...] = ()
    unserved: tuple[str, ...] = ()
    """Addresses of listeners that were taken out of the policies, at which clients connect still and nobody answers."""
    disk: DiskStatus | None = None
    processes: tuple[ProcessStatus, ...] = ()
    up_s: float = 0.0
    """Seconds since this gateway process was started."""
    vault: VaultStatus | None = None
    """Null: there is none, or it was not looked at yet."""
    scaling: ScalingStatus | None = None
    """Null: there are no workers of ours, and none is wanted."""
    outbox: OutboxStatus | None = None
    """Null: no limit keeps sends, or the store does not tell."""
    alerts: AlertsStatus | None = None
    """Null: the policies ask for none."""
    messages: tuple[str, ...] = ()
    """What needs a person, in sentences; empty: all is well."""
    message_topics: tuple[str, ...] = ()
    """What each of them is about: the same whatever its numbers say, such as `endpoint laravel` or `store`."""
