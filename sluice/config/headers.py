"""Headers that people add to what we send: their names and values. Pure; raises Malformed."""

from __future__ import annotations

import re

from sluice.config import parsers
from sluice.config.fields import Value
from sluice.config.model import Secret
from sluice.config.problems import Malformed, quoted

OURS = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection"),
        *("te", "trailer", "upgrade", "expect", "webhook-id", "x-sluice-attempt", "x-sluice-event-ids"),
    )
)
"""What says where a request goes, how long it is and which event it carries: nobody else may say that."""
VALUE = re.compile(rb"[\x20-\x7e]{0,4096}")
NOT_A_VALUE = "has line breaks or characters beyond ASCII, or is over 4096 bytes"
CURE = "write what a header can carry"


def taken_for(name: str) -> str:
    """The name that PHP has for a header, as for all in which `_` or `.` stands for `-`; in lower case."""
    return name.lower().replace("_", "-").replace(".", "-")


def own_name(text: str) -> str:
    """The name of a header that we may add."""
    if taken_for(text) in OURS:
        raise Malformed(f"{quoted(text)} is written by Sluice alone", "use another header")
    return parsers.header_name(text)


def plain(text: str) -> str:
    """What may stand in a header and is no secret."""
    if not VALUE.fullmatch(text.encode()):
        raise Malformed(NOT_A_VALUE, CURE)
    return text


def carried(secret: Secret) -> Secret:
    """A secret that a header can carry. Never quoted."""
    if not VALUE.fullmatch(secret.reveal()) or secret.reveal() != secret.reveal().strip():
        raise Malformed(f"{NOT_A_VALUE}, or begins or ends with a blank", CURE)
    return secret


def value(given: Value) -> Secret:
    """`env:NAME`, `file:PATH`, or the text itself. Masked in any case: people also put secrets here."""
    text = given.text()
    if text.startswith(("env:", "file:")):
        return carried(parsers.secret_value(given))
    given.reading.secrets[given.key] = Secret(text.encode())
    return carried(given.reading.secrets[given.key])
