"""Workers that are late, lost or silent, and sessions that nobody runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from sessions.orphans import FULL_AT
from sluice.console.messages.wording import age, some
from sluice.console.status import ExistingWorkerStatus, RivalStatus, SessionCounts, WorkerStatus

_MAX_DISPUTED = 5


def sessions(
    workers: Sequence[WorkerStatus], counts: SessionCounts, existing: Sequence[ExistingWorkerStatus] = ()
) -> Iterator[str]:
    silent = {one.worker: one for one in existing if one.why is not None}
    spare = any(not w.existing and not w.lost and w.sessions < w.capacity for w in workers)
    for worker in workers:
        yield from _worker(worker, silent.get(worker.worker), spare=spare)
        if worker.dropped_events:
            yield _dropped(worker)
    elsewhere = sum(one.sessions if one.lost else one.waiting for one in workers)
    orphans = (counts.unowned or 0) - elsewhere
    if orphans > 0:
        yield f"{some(orphans, 'session has', 'sessions have')} no worker; {_next_worker(spare)}"
    known = {worker.worker for worker in workers if worker.lost and worker.existing}
    for one in existing:
        if one.why is not None and one.worker not in known:
            yield _silent(one)
        yield from _odd(one)
        yield from _missing(one)
        yield from _disputed(one)


def rivals(found: Sequence[RivalStatus], *, keep: str = "newest", enforced: bool) -> Iterator[str]:
    """Of one phone two sessions are connected, and an existing worker is told nothing."""
    for one in found:
        cure = (
            "it is being closed there (sessions.one_phone)"
            if enforced
            else "end it: sluice sessions clean --duplicates, or let Sluice do it: sessions.one_phone: "
            f"{{keep: {keep}, enforce: true}}"
        )
        untold = ", and Laravel is not told that it is ready (one_phone: oldest)" if keep == "oldest" else ""
        both = f"session {one.session} at {one.worker} is connected with the phone of session {one.stays}"
        yield f"{both}{untold}: {cure}"


def past_us(existing: Sequence[ExistingWorkerStatus], advertise: str | None) -> Iterator[str]:
    """Where Laravel is led past the gateway."""
    if existing and advertise is None:
        heard = next((f", such as {one.instance}" for one in existing if one.instance), "")
        yield (
            f"Laravel is given the workers' own addresses{heard}, and calls them past Sluice from then on: write "
            "sessions.advertise with this gateway's address, as Laravel reaches it"
        )


def _silent(worker: ExistingWorkerStatus) -> str:
    never = "has not answered" if worker.answered else "has never answered"
    since = f"{never} for {age(worker.since_s)} ({worker.why})"
    return f"worker {worker.worker} of sessions.workers {since}: {_cure(worker)}"


def _cure(worker: ExistingWorkerStatus) -> str:
    if worker.refused and worker.keyed:
        return "its key in sessions.workers is wrong; where it has none, take key out, as it refuses who sends one"
    if worker.refused:
        return "it wants a key: write key: env:NAME beside its url in sessions.workers"
    return f"start it, or take it out of sessions.workers; curl -i {worker.url} shows whether it answers"


def _odd(worker: ExistingWorkerStatus) -> Iterator[str]:
    """What it answers that cannot be right."""
    if worker.several:
        yield (
            f"several processes answer at {worker.url} of worker {worker.worker} in turn, so nobody can tell which of "
            "them runs a session: give each a port and a LARAVEL_URL of its own (examples/pm2)"
        )
    if worker.odd:
        items = some(worker.odd, "item that names no session", "items that name no session")
        yield (
            f"worker {worker.worker} lists {items} and so cannot be routed to, such as {worker.example}: see what its "
            "GET /api/sessions answers"
        )


def _missing(worker: ExistingWorkerStatus) -> Iterator[str]:
    if worker.missing and worker.restoring_s:
        up = f"was started {age(worker.up_s)} ago" if worker.up_s is not None else "answers again"
        of = some(worker.missing, "session is", "sessions are")
        yield f"worker {worker.worker} {up} and restores its sessions: {of} still to come (sessions.restore)"
    elif worker.missing:
        yield (
            f"worker {worker.worker} does not list {some(worker.missing, 'session', 'sessions')} that it had: create "
            f"them again, or sluice sessions forget SESSION (sluice sessions list --worker {worker.worker})"
        )


def _disputed(worker: ExistingWorkerStatus) -> Iterator[str]:
    key = " -d api_key=KEY" if worker.keyed else ""
    for one in worker.disputed[:_MAX_DISPUTED]:
        yield (
            f"session {one.session} runs at {one.owner} and at {one.also_at}, where its requests do not go: close it "
            f"there: curl -X DELETE{key} {worker.url}/api/sessions/{quote(one.session, safe='')}"
        )
    more = len(worker.disputed) - _MAX_DISPUTED
    if more > 0:
        yield f"{some(more, 'more session runs', 'more sessions run')} at {worker.worker} and at another worker too"


def _worker(worker: WorkerStatus, seen: ExistingWorkerStatus | None, *, spare: bool) -> Iterator[str]:
    name, sessions = worker.worker, worker.sessions
    if not worker.named:
        if worker.lost and sessions:
            its = some(sessions, "session is", "sessions are")
            yield (
                f"worker {name} is not in sessions.workers any more, and its {its} without a worker, as the logins lie "
                "there: put it back, or sluice sessions move SESSION --to WORKER (sluice sessions list --orphaned)"
            )
    elif worker.existing:
        if worker.lost:
            its = some(sessions, "session cannot move: its login is", "sessions cannot move: their logins are")
            since = f" (for {age(seen.since_s)}: {seen.why})" if seen else ""
            cure = _cure(seen) if seen else "start it again"
            yield f"worker {name} does not answer{since}; its {its} there: {cure}"
        elif worker.waiting:
            its = some(worker.waiting, "session that it is to run", "sessions that it is to run")
            yield f"worker {name} has not begun {its}: it does when it restores them, or when they are created again"
    elif worker.lost:
        if sessions:
            its = some(sessions, "session has", "sessions have")
            yield f"worker {name} is lost; its {its} no worker; {_next_worker(spare)}"
    elif worker.last_beat_s is not None and worker.last_beat_s > worker.beat_left_s:
        late, left = age(worker.last_beat_s), age(worker.beat_left_s)
        its = some(sessions, "session moves", "sessions move")
        yield f"worker {name} has not beaten for {late}; its {its} when its lease ends in {left}"
    elif max(worker.memory, worker.cpu) >= FULL_AT:
        what = (
            f"its memory is at {worker.memory:.0%}" if worker.memory >= FULL_AT else f"its CPU is at {worker.cpu:.0%}"
        )
        yield f"worker {name} takes no more sessions, as {what}: give it more, or start one more of yours"


def _dropped(worker: WorkerStatus) -> str:
    events = some(worker.dropped_events, "event", "events")
    return (
        f"worker {worker.worker} could not pass on {events} of its sessions within the last hour: its log says of "
        "which, and why; sluice sessions restart SESSION looks in that one's chats for what Laravel was not told"
    )


def _next_worker(spare: bool) -> str:
    return (
        "a worker with free capacity takes over with its next beat"
        if spare
        else "no worker has free capacity, start one more of yours (docs/workers.md)"
    )
