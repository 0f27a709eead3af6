"""The section `alerts`: what is worth telling a person, whom, and how often. Durations are seconds, shares 0 to 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from sluice.config import Secret, headers, parsers, references, units
from sluice.config.fields import Fields, Value, section, setting
from sluice.config.parsers import choice, each, named, of, one_or_each
from sluice.config.problems import Malformed, quoted

Unit = Literal["duration", "share", "count"]
THRESHOLDS: Mapping[str, tuple[Unit, float]] = {
    "backlog_age": ("duration", 300.0),
    "backlog_full": ("share", 0.8),
    "dead_letters": ("count", 0.0),
    "dead_letters_growing": ("count", 0.0),
    "limit_refusing": ("share", 0.5),
    "store_nearly_full": ("share", 0.8),
}
"""Of the kinds that have one: how it is written, and what counts without it. Wrong is what is over it."""
KINDS: tuple[str, ...] = (
    "store_away",
    "no_relay",
    "policies_rejected",
    "clock_jumped",
    "store_nearly_full",
    "circuit_open",
    "backlog_age",
    "backlog_full",
    "dead_letters",
    "dead_letters_growing",
    "limit_refusing",
    "upstream_failing",
    "worker_lost",
    "worker_never_seen",
    "session_stuck",
    "session_flapping",
    "session_silent",
    "session_disputed",
    "vault_stale",
    "anything_wrong",
)
"""docs/alerts.md says what each means."""
REPEAT_AT_LEAST, EVERY_AT_LEAST = 60.0, 5.0
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_HOST_PORT = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_SMTP_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_MAX_ARGUMENT, _MAX_ARGUMENTS = 4096, 64

_address = parsers.matching(_ADDRESS, "a mail address", "write ops@example.com")


def _hook(value: Value) -> Secret:
    """An http address, never quoted: whoever knows it may post there."""
    found = parsers.secret_value(value)
    if found.reveal():
        hook_of(found)
    return found


def hook_of(secret: Secret) -> SplitResult:
    """Raises Malformed, without a word of it."""
    text, malformed = secret.reveal().decode("utf-8", "replace"), Malformed("is not an http address", "it is https://…")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise malformed
    try:
        parts = urlsplit(text)
        if parts.port == 0:
            raise malformed
    except ValueError:
        raise malformed from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise malformed
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise Malformed("has a user, password or fragment in it", "write it without")
    return parts


def _argument(text: str) -> str:
    if "\0" in text or len(text) > _MAX_ARGUMENT:
        raise Malformed(f"{quoted(text)} cannot be an argument", f"write at most {_MAX_ARGUMENT} characters")
    return text


def _command(value: Value) -> tuple[str, ...]:
    if not value.items():
        raise Malformed("names no program", "write [/usr/local/bin/page]")
    if len(value.items()) > _MAX_ARGUMENTS:
        raise Malformed("has too many arguments", f"write {_MAX_ARGUMENTS} at most")
    return each(of(_argument))(value)


def _addresses(value: Value) -> tuple[str, ...]:
    if value.is_list and not value.items():
        raise Malformed("names nobody", "write mail: ops@example.com")
    return one_or_each(of(_address))(value)


@dataclass(frozen=True, slots=True)
class Receiver:
    """One of `webhook`, `mail` and `command`."""

    name: str
    webhook: Secret | None = setting(_hook, None)
    """Address of a webhook, as Slack and others have it."""
    sign: str | None = setting(references.signature, None)
    """Name of the signature by which the webhook knows us."""
    mail: tuple[str, ...] = setting(_addresses, ())
    """Addresses, one or a list, to which `alerts.mail` brings it."""
    command: tuple[str, ...] = setting(_command, ())
    """Program and arguments, run without a shell; what is told comes to it as JSON on standard input."""

    @property
    def kind(self) -> Literal["webhook", "mail", "command"]:
        return "webhook" if self.webhook is not None else "mail" if self.mail else "command"

    @property
    def shown(self) -> str:
        """Where it sends, without a secret."""
        if self.webhook is None:
            return ", ".join(self.mail) or self.command[0]
        try:
            return f"{hook_of(self.webhook).scheme}://{hook_of(self.webhook).netloc}/***"
        except Malformed:
            return "***"


def _receiver(name: str, value: Value) -> Receiver:
    with value.fields() as fields:
        fields.only_one(("webhook", "mail", "command"), "sends nowhere")
        found = fields.read(Receiver, name=name)
        if "sign" in fields and "webhook" not in fields:
            fields.wrong("sign", Malformed("is for a webhook only", "remove it"))
        return found


@dataclass(frozen=True, slots=True)
class Server:
    host: str
    """As it is written; an IPv6 address in brackets."""
    port: int | None


def _server(text: str) -> Server:
    found = _HOST_PORT.fullmatch(text)
    if not found or (found[3] and not 0 < int(found[3]) < 65536):
        raise Malformed(f"{quoted(text)} is not a mail server", "write smtp.example.com:587")
    return Server(found[1], int(found[3]) if found[3] else None)


@dataclass(frozen=True, slots=True)
class MailServer:
    server: Server = setting(of(_server), Server("localhost", None), missing="server: smtp.example.com:587")
    """Host and port; without a port the usual one of `tls`."""
    sender: str = setting(of(_address), "", name="from", missing="from: sluice@example.com")
    """Address of the sender."""
    tls: Literal["starttls", "tls", "none"] = setting(choice("starttls", "tls", "none"), "starttls")
    """`starttls`: encrypted before anything is said, or nothing is sent; `tls`: from the first byte on."""
    user: Secret | None = setting(headers.value, None)
    """`env:NAME`, `file:PATH`, or the text itself."""
    password: Secret | None = setting(parsers.secret_value, None)
    """Belongs to `user`."""

    @property
    def port(self) -> int:
        return self.server.port or _SMTP_PORTS[self.tls]


def _check_mail(found: MailServer, fields: Fields) -> None:
    for given, other in (("user", "password"), ("password", "user")):
        if given in fields and other not in fields:
            fields.wrong(given, Malformed(f"does nothing without {other}", f"add {other}: env:NAME or remove {given}"))
    if "password" in fields and found.tls == "none" and found.server.host not in _LOCAL and fields.sound("tls"):
        fields.wrong("tls", Malformed("sends the password unencrypted", "write tls: starttls, or tls: tls"))


def _every(value: Value) -> float:
    seconds = parsers.duration(value)
    if seconds < EVERY_AT_LEAST:
        raise Malformed(f"{quoted(value.text())} is too often", f"write {EVERY_AT_LEAST:g}s or more")
    return seconds


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A request each `every` seconds to a service that tells somebody when none comes: a dead man's switch."""

    url: Secret = setting(_hook, Secret(b""), missing="url: env:HEARTBEAT_URL")
    """Address of that service."""
    every: float = setting(_every, 60.0)
    """From one to the next; 5s or more."""


def _repeat(value: Value) -> float:
    seconds = parsers.duration_or_none(value)
    if 0 < seconds < REPEAT_AT_LEAST:
        raise Malformed(f"{quoted(value.text())} is too often", f"write {REPEAT_AT_LEAST:g}s or more, or none")
    return seconds


def _over(kind: str) -> Callable[[Value], float]:
    """The parser of a threshold of this kind; empty: of one that is not known."""

    def parse(value: Value) -> float:
        value.takes({"anyOf": [parsers.pattern(rf"{parsers.DURATION}|[0-9]+(\.[0-9]+)?%"), {"type": "integer"}]})
        if not kind:
            return 0.0
        if kind not in THRESHOLDS:
            raise Malformed(f"{kind} has no threshold", "remove it")
        match THRESHOLDS[kind][0]:
            case "duration":
                return units.duration(value.text())
            case "share":
                return units.percentage(value.text())
            case "count":
                return float(parsers.count(value))

    return parse


def _to(value: Value) -> tuple[str, ...]:
    if value.is_list and not value.items():
        raise Malformed("names nobody", "write to: [ops]")
    return one_or_each(references.one_of_section("receiver", "alerts", "receivers"))(value)


@dataclass(frozen=True, slots=True)
class Rule:
    when: str = setting(choice(*KINDS), "anything_wrong", missing="when: circuit_open")
    """What is wrong."""
    over: float = 0.0
    """What its measure has to be over."""
    hold: float = setting(parsers.duration_or_none, 120.0, name="for")
    """Seconds for which it must last, and be well again; none: at once."""
    repeat: float = setting(_repeat, 3600.0)
    """Seconds after which it is told once more while it lasts, 1m or more; none: it is told once."""
    to: tuple[str, ...] = setting(_to, (), missing="to: [ops]")
    """Names of receivers."""
    only: tuple[str, ...] = setting(one_or_each(of(parsers.subject_glob)), ())
    """Names or globs of endpoints, upstreams, limits, workers or sessions; empty: all."""

    @property
    def threshold(self) -> float | None:
        """None: its kind has none."""
        return self.over if self.when in THRESHOLDS else None


RULE = {
    "when": "What is wrong.",
    "over": "What its measure has to be over: a time, a share or a number, as its kind has it (docs/alerts.md).",
}


def _rule(value: Value) -> Rule:
    with value.fields(RULE) as fields:
        kind: str = fields.need("when", choice(*KINDS), "", "when: circuit_open")
        default = THRESHOLDS[kind][1] if kind in THRESHOLDS else 0.0
        over = fields.take("over", _over(kind), default)
        return fields.read(Rule, when=kind, over=over)


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    mail: MailServer | None = setting(section(MailServer, _check_mail), None)
    """The server that takes mail for the receivers with `mail`."""
    receivers: Mapping[str, Receiver] = setting(named(_receiver), {})
    """Who can be told, by name."""
    rules: tuple[Rule, ...] = setting(each(_rule), ())
    """What is told to whom."""
    heartbeat: Heartbeat | None = setting(section(Heartbeat), None)
    """A request at intervals to a service that tells somebody when none comes: a dead man's switch."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the rules, in their order: the kind, with a number from the second rule of a kind on. An edit of what
        else a rule says leaves it what it is.
        """
        found: list[str] = []
        for rule in self.rules:
            number = sum(one.partition("#")[0] == rule.when for one in found) + 1
            found.append(rule.when if number == 1 else f"{rule.when}#{number}")
        return tuple(found)


alerts = section(AlertPolicy)
