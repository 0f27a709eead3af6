"""What receivers are told: JSON, text for chats, and a mail. Pure.

Texts hold words of strangers: names of sessions, answers of receivers. In every form they are text: no line of a mail's
head, no link, mention or formatting of a chat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

import orjson

from gateway.alerts.decide import Due
from sluice.observe.printable import on_one_line

MAX_AT_ONCE = 100
"""Alerts in one message."""
_SHOWN = 20
_MAX_LINE, _MAX_SUBJECT = 1000, 150
_WORDING = {"firing": "Wrong", "still_firing": "Still wrong", "resolved": "Well again", "test": "Test"}
_TEST = "This is a test, sent by a person with sluice alerts test; nothing is wrong."


def payload(dues: Sequence[Due], now: float, gateway: str) -> bytes:
    """For webhooks and commands: JSON with `text`, as Slack, Mattermost and others show it, and typed fields.

    `gateway`: where it comes from, for people who have several.
    """
    lines = [_chat(f"{_WORDING[due.event]}: {due.alert.text}") for due in dues[:_SHOWN]]
    lines += [f"and {len(dues) - _SHOWN} more"] if len(dues) > _SHOWN else []
    alerts = [_fields(due) for due in dues]
    return orjson.dumps(_message("\n".join(lines), "alerts", now, gateway, alerts))


def test_payload(now: float, gateway: str) -> bytes:
    """Marked as a test: `kind` is `test`, and there are no alerts."""
    return orjson.dumps(_message(_chat(f"{_WORDING['test']}: {_TEST}"), "test", now, gateway, []))


def mail(dues: Sequence[Due], now: float, gateway: str, sender: str, to: Sequence[str]) -> EmailMessage:
    first = dues[0]
    more = f" (and {len(dues) - 1} more)" if len(dues) > 1 else ""
    subject = _shortened(f"[Sluice] {_WORDING[first.event]}: {first.alert.text}", _MAX_SUBJECT - len(more)) + more
    lines = [f"{_WORDING[due.event]}: {_line(due.alert.text)}\n  since {_moment(due.alert.since)}" for due in dues]
    return _mail(subject, [*lines, _foot(gateway)], now, sender, to)


def test_mail(now: float, gateway: str, sender: str, to: Sequence[str]) -> EmailMessage:
    return _mail("[Sluice] Test", [_TEST, _foot(gateway)], now, sender, to)


def identity(due: Due) -> str:
    """The same for all that is told of one outage, so that a receiver can put it together."""
    alert = due.alert
    text = f"{alert.rule}\0{alert.subject}\0{alert.since:.3f}" + (f"\0{alert.machine}" if alert.machine else "")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _message(text: str, kind: str, now: float, gateway: str, alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """`mrkdwn`: Slack formats nothing."""
    return {"text": text, "mrkdwn": False, "kind": kind, "at": _moment(now), "from": gateway, "alerts": alerts}


def _fields(due: Due) -> dict[str, Any]:
    alert = due.alert
    return {
        "id": identity(due),
        "event": due.event,
        "kind": alert.kind,
        "subject": on_one_line(alert.subject),
        "machine": on_one_line(alert.machine) or None,
        "text": _line(alert.text),
        "since": _moment(alert.since),
    }


def _chat(text: str) -> str:
    """Slack's three escapes, which leave no mention or link (docs.slack.dev, "Formatting message text"). The chats that
    read an @ of plain text as a mention find a character of no width behind it.
    """
    escaped = _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("@", "@\u200b")


def _line(text: str) -> str:
    return _shortened(on_one_line(text), _MAX_LINE)


def _shortened(text: str, most: int) -> str:
    text = on_one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _foot(gateway: str) -> str:
    where = f"-- \nSent by Sluice on {on_one_line(gateway)}."
    return f"{where} What is wrong now: sluice status. Not to be told for a while: sluice alerts silence"


def _mail(subject: str, paragraphs: Sequence[str], now: float, sender: str, to: Sequence[str]) -> EmailMessage:
    """The head is checked by EmailMessage, too: it refuses line ends."""
    made = EmailMessage()
    made["Subject"] = subject
    made["From"] = sender
    made["To"] = ", ".join(to)
    made["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    made["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    made["Auto-Submitted"] = "auto-generated"
    made.set_content("\n\n".join(paragraphs) + "\n", cte="quoted-printable")
    return made


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
