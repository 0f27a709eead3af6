"""What a history of sends proves or refutes. Pure.

begun      a caller has this message sent: session, text, its number within the session
told       what that caller was told in the end: status (0: nothing), and the id of the message
sent       a worker has sent it: session, text, id (its own), worker
delivered  Laravel got a webhook: type, session, message (its id), text (of message_sent)
unknown    a dead letter of the outbox: text, and the reason
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.nemesis.history import Entry

RECEIPTS = ("message_status_updated", "message_delivered", "message_read")


@dataclass(frozen=True, slots=True)
class Verdict:
    wrong: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    early: float = 0.0
    """Seconds by which the most hurried message left before its bucket had a token."""


def check(entries: Sequence[Entry], *, interval: float, burst: int, slack: float) -> Verdict:
    """`interval` in seconds, and `burst`: of the bucket of each session. `slack`: seconds by which a message may be
    early, as clocks are read a moment late."""
    sent = list(_of(entries, "sent"))
    told = {entry["text"]: entry for entry in _of(entries, "told")}
    unknown = {entry["text"] for entry in _of(entries, "unknown")}
    begun = {entry["text"]: entry for entry in _of(entries, "begun")}
    early = max((early_by(times, interval, burst) for times in _times(sent, begun).values()), default=0.0)
    wrong = [
        *_twice(sent),
        *_lost(told.values(), {entry["text"] for entry in sent}, unknown),
        *_out_of_order(sent, begun),
        *_strange_receipts(entries, sent, told, unknown),
    ]
    if early > slack:
        wrong.append(f"a message left {early * 1000:.0f} ms before the bucket had its token")
    statuses = Counter(str(entry["status"] or "no answer") for entry in told.values())
    counts = {
        "messages": len(told),
        "sent": len(sent),
        "unknown": len(unknown),
        "unknown, and sent": len(unknown & {entry["text"] for entry in sent}),
        "webhooks": sum(1 for _ in _of(entries, "delivered")),
        **{f"told {status}": count for status, count in sorted(statuses.items())},
    }
    return Verdict(tuple(wrong), counts, early)


def early_by(sends: Iterable[tuple[float, float]], interval: float, burst: int) -> float:
    """By how many seconds the most hurried of a session's sends left before an exact bucket had its token: one that is
    full at first, holds `burst` and gains one each `interval`.

    `sends`: since when there was something to send, and when it left. Its token was taken in between, and not before
    the one before it had left, as a session's sends are given to its worker one after the other.
    """
    full_at = before = float("-inf")  # when the bucket would be full again, and when the send before left
    worst = 0.0
    for begun, left in sorted(sends, key=lambda send: send[1]):
        token = max(begun, before, full_at + interval - burst * interval)
        worst = max(worst, token - left)
        full_at, before = max(full_at, min(token, left)) + interval, left
    return worst


def _times(sent: Iterable[Entry], begun: Mapping[str, Entry]) -> Mapping[str, list[tuple[float, float]]]:
    found = defaultdict(list)
    for entry in sent:
        found[entry["session"]].append((begun[entry["text"]]["at"], entry["at"]))
    return found


def _twice(sent: Iterable[Entry]) -> Iterator[str]:
    for text, count in Counter(entry["text"] for entry in sent).items():
        if count > 1:
            yield f"{text}: sent {count} times"


def _lost(told: Iterable[Entry], sent: set[str], unknown: set[str]) -> Iterator[str]:
    """Whoever was told that a message is sent or will be may rely on it, unless its outcome is unknown and listed. A
    4xx, and a 429 among them, is final for Laravel, so it loses the message."""
    for entry in told:
        text, status = entry["text"], entry["status"]
        if 200 <= status < 300 and text not in sent | unknown:
            yield f"{text}: its caller was told {status}, and it was neither sent nor listed as unknown"
        elif 400 <= status < 500:
            yield f"{text}: its caller was told {status}"


def _out_of_order(sent: Iterable[Entry], begun: Mapping[str, Entry]) -> Iterator[str]:
    highest: dict[str, int] = {}
    for entry in sorted(sent, key=lambda entry: entry["at"]):
        number, session = begun[entry["text"]]["number"], entry["session"]
        if number < highest.get(session, -1):
            yield f"{entry['text']}: sent after number {highest[session]}"
        highest[session] = max(number, highest.get(session, -1))


def _strange_receipts(
    entries: Sequence[Entry], sent: Iterable[Entry], told: Mapping[str, Entry], unknown: set[str]
) -> Iterator[str]:
    """Each webhook about a message has the id that its caller was given, where he was given one and what became of the
    message is known."""
    text_of = {entry["id"]: entry["text"] for entry in sent}
    text_of |= {
        entry["message"]: entry["text"] for entry in _of(entries, "delivered") if entry["type"] == "message_sent"
    }
    text_of |= {entry["id"]: entry["text"] for entry in told.values() if entry["id"]}
    for entry in _of(entries, "delivered"):
        if entry["type"] != "message_sent" and entry["type"] not in RECEIPTS:
            continue
        text = entry["text"] or text_of.get(entry["message"])
        if text is None:
            yield f"{entry['type']} of {entry['session']}: nobody knows {entry['message']}"
            continue
        given = told[text]["id"] if text in told else None
        if given is not None and text not in unknown and given != entry["message"]:
            yield f"{text}: {entry['type']} calls it {entry['message']}, and its caller knows it as {given}"


def _of(entries: Sequence[Entry], kind: str) -> Iterator[Entry]:
    return (entry for entry in entries if entry["kind"] == kind)
