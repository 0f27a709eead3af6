"""What others have written, made fit for a terminal and a log: it must not steer the one or forge lines in the other.

Receivers' answers, names of workers, sessions and event types come from outside. Escaped are the control characters
of ISO 6429 (C0 and C1, ESC and CSI among them), the controls that reorder or hide text (Unicode UAX #9, and the tag
characters), the line and paragraph separators, and halves of surrogate pairs, which no terminal can be sent.
"""

from __future__ import annotations

import re

_REORDERING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSEEN = "\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
_CONTROL = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f{_REORDERING}{_UNSEEN}]")
_IN_JSON = re.compile(rf"[\x7f-\x9f{_REORDERING}{_UNSEEN}]")


def printable(text: str) -> str:
    """The same text with what is not to be printed escaped as in Python, `\\x1b` or `\\u202e`; a line end stays."""
    return _CONTROL.sub(_escaped, text)


def on_one_line(text: str) -> str:
    """`printable`, with line ends escaped too: for a cell of a table, or one line among others."""
    return printable(text).replace("\n", "\\n")


def printable_json(document: str) -> str:
    """JSON that says the same with what is not to be printed as `\\u009b`; JSON itself escapes only C0."""
    return _IN_JSON.sub(_escaped_in_json, document)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
