"""What a history must not show. Pure: entries come in, sentences about what is wrong come out.

login, logout    an own worker opens and closes a login: session, worker, pid, fence
act              it was entitled to act for the session at this moment: session, worker, pid, fence, event
accepted         the event of an act was answered 2xx: event, status
refused          it was refused for good: event, status
delivered        the receiver got it: event, session, worker, fence
answer           a request that only the owner answers: session, status, began
status           a request for the status of a session: session, status
double           the judge of the existing workers' logins saw one twice: session, workers
outage           nobody could act or answer for so long: until, why
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    wrong: tuple[str, ...]
    """Empty: nothing is."""
    longest_gap: float
    """Seconds in which a session of an own worker had no answer, without the outages in between."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often each kind of entry is there."""


def check(entries: Sequence[Entry], *, longest_gap: float, own: Iterable[str]) -> Verdict:
    """`longest_gap` in seconds, for the sessions that are in `own`; the others cannot be moved."""
    gaps = dict(_gaps(entries, frozenset(own)))
    too_long = [f"{session}: no answer for {gap:.2f} s" for session, gap in gaps.items() if gap > longest_gap]
    wrong = (
        *_falling_fences(entries),
        *_shared_fences(entries),
        *_acts_after_the_next_owner(entries),
        *_double_logins(entries),
        *_lost(entries),
        *_lies(entries),
        *too_long,
    )
    return Verdict(wrong, max(gaps.values(), default=0.0), _counts(entries))


def _falling_fences(entries: Sequence[Entry]) -> Iterator[str]:
    """In the order in which the receiver got the events first, the fences of a session never fall."""
    highest: dict[str, int] = {}
    seen: set[str] = set()
    for entry in _of(entries, "delivered"):
        session, fence = entry["session"], entry["fence"]
        if fence is None or entry["event"] in seen:
            continue
        seen.add(entry["event"])
        if fence < highest.get(session, 0):
            yield f"{session}: fence {fence} was delivered after {highest[session]}"
        highest[session] = max(fence, highest.get(session, 0))


def _shared_fences(entries: Sequence[Entry]) -> Iterator[str]:
    holders: dict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
    for entry in _of(entries, "login", "act"):
        holders[entry["session"], entry["fence"]].add((entry["worker"], entry["pid"]))
    for (session, fence), workers in holders.items():
        if len(workers) > 1:
            yield f"{session}: fence {fence} was acted under by {sorted(workers)}"


def _acts_after_the_next_owner(entries: Sequence[Entry]) -> Iterator[str]:
    """Once somebody has acted under a fence, nobody acts under a lower one."""
    newest: dict[str, Entry] = {}
    for entry in _of(entries, "act"):
        last = newest.get(entry["session"])
        if last is None or entry["fence"] >= last["fence"]:
            newest[entry["session"]] = entry
        else:
            late = entry["at"] - last["at"]
            yield f"{entry['session']}: {entry['worker']} acted {late:.3f} s after {last['worker']}, which has it"


def _double_logins(entries: Sequence[Entry]) -> Iterator[str]:
    return (f"{entry['session']}: its login ran twice, at {entry['workers']}" for entry in _of(entries, "double"))


def _lost(entries: Sequence[Entry]) -> Iterator[str]:
    delivered = {entry["event"] for entry in _of(entries, "delivered")}
    for entry in _of(entries, "accepted"):
        if entry["event"] not in delivered:
            yield f"{entry['event']}: it was accepted and never delivered"


def _lies(entries: Sequence[Entry]) -> Iterator[str]:
    """A status that is not 2xx marks the session disconnected at Laravel."""
    for entry in _of(entries, "status"):
        if not 200 <= entry["status"] < 300:
            yield f"{entry['session']}: its status was answered {entry['status']}"


def _gaps(entries: Sequence[Entry], own: frozenset[str]) -> Iterator[tuple[str, float]]:
    """Session → the longest time between two answers of its owner, less what lies within an outage."""
    outages = _merged([(entry["at"], entry["until"]) for entry in _of(entries, "outage")])
    answered: dict[str, list[float]] = defaultdict(list)
    for entry in _of(entries, "answer"):
        if entry["session"] in own and 200 <= entry["status"] < 300:
            answered[entry["session"]].append(entry["at"])
    for session in sorted(own):
        moments = answered[session]
        gaps = [after - before - _within(before, after, outages) for before, after in pairwise(moments)]
        yield session, max(gaps, default=float("inf"))


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(ended, merged[-1][1]))
        else:
            merged.append((began, ended))
    return merged


def _within(began: float, ended: float, spans: Iterable[tuple[float, float]]) -> float:
    return sum(max(0.0, min(ended, until) - max(began, since)) for since, until in spans)


def _counts(entries: Iterable[Entry]) -> Mapping[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for entry in entries:
        counts[entry["kind"]] += 1
    return counts


def _of(entries: Iterable[Entry], *kinds: str) -> Iterator[Entry]:
    return (entry for entry in entries if entry["kind"] in kinds)
