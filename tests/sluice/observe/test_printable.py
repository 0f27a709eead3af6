from __future__ import annotations

import json
import unicodedata

import orjson

from sluice.observe.printable import on_one_line, printable, printable_json

STEERS = ("Cc", "Zl", "Zp", "Cs")


def test_no_character_that_steers_a_terminal_is_left() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = [char for char in printable(every) if unicodedata.category(char) in STEERS and char != "\n"]
    assert left == []
    assert not set("\u202a\u202b\u202d\u202e\u2066\u2069\u200e\u200f\u061c\ufeff\U000e0041") & set(printable(every))


def test_what_is_only_written_differently_stays() -> None:
    text = "Grüße, 你好, שלום, 👩‍👩‍👧 \\x1b\n"
    assert printable(text) == text


def test_each_is_shown_as_python_writes_it() -> None:
    assert printable("a\x1b[2J\r\0\x9b1m\u202e\ud83d\U000e0041") == (r"a\x1b[2J\x0d\x00\x9b1m\u202e\ud83d\U000e0041")
    assert on_one_line("a\nb\t") == r"a\nb\x09"


def test_json_says_the_same_as_before() -> None:
    value = {"a\x7f": "\x9b\u202e\U000e0041\x1b\u2028é"}
    shown = printable_json(orjson.dumps(value).decode())
    assert json.loads(shown) == value
    assert printable(shown) == shown
