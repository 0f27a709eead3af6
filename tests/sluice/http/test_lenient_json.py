from __future__ import annotations

import json
import math
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from sluice.http.lenient_json import is_json, loads

CUT = "�"
_TEXT = st.text().filter(lambda text: "Infinity" not in text)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (rb'{"a":"\ud83d"}', {"a": CUT}),
        (rb'{"a":"\udE00 x"}', {"a": f"{CUT} x"}),
        (rb'{"a":"\ud83d\ude00"}', {"a": "😀"}),
        (rb'{"a":"\ud83d\ud83d\ude00"}', {"a": f"{CUT}😀"}),
        (rb'{"a":"\ude00\ude00","b":"\ud83d"}', {"a": CUT * 2, "b": CUT}),
        (rb'{"a":"\\ud83d","b":"\ud83d"}', {"a": r"\ud83d", "b": CUT}),
        (rb'{"a":"\\\ud83d"}', {"a": f"\\{CUT}"}),
        (rb'{"a":"\ud83d\\ude00"}', {"a": f"{CUT}\\ude00"}),
        (rb'{"\ud83d":1}', {CUT: 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":"\\ud83d"}', {"a": CUT}),
        (b'{"a":1e9999,"b":-1e9999}', {"a": math.inf, "b": -math.inf}),
        (b'{"a":"\xff"}', {"a": CUT}),
        (b'{"a":"\xed\xa0\xbd"}', {"a": CUT * 3}),
        (b"[1e9999,18446744073709551615,18446744073709551616]", [math.inf, 2**64 - 1, float(2**64)]),
        (b'{"a":1e9999,"b":%b}' % (b"9" * 5000), {"a": math.inf, "b": math.inf}),
        (b'{"a":1e9999,"b":-%b}' % (b"9" * 5000), {"a": math.inf, "b": -math.inf}),
    ],
)
def test_what_can_be_read_is_read(body: bytes, found: Any) -> None:
    assert loads(body) == found
    orjson.dumps(loads(body))  # so that it can be stored and shown


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "Input is a zero-length, empty document: line 1 column 1 (char 0)"),
        (b"{", "unexpected end of data: line 1 column 2 (char 1)"),
        (b"a=b", "unexpected character, expected a JSON value: line 1 column 1 (char 0)"),
        (b"[NaN]", "unexpected character, expected a JSON value: line 1 column 2 (char 1)"),
        (b"[1e9999,Infinity]", "number is infinity when parsed as double: line 1 column 2 (char 1)"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "UTF-8 byte order mark (BOM) is not supported: line 1 column 1 (char 0)"),
        (b"\x1f\x8b\x08\x00", "it is compressed with gzip"),
        (b"[" * 5000 + b"]" * 5000, "it is nested too deeply"),
        (b"[1e9999" + b",1" * 100_000 + b"]", "number is infinity when parsed as double: line 1 column 2 (char 1)"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        loads(body)
    assert str(caught.value) == why


def test_a_large_body_with_half_an_emoji_takes_little_time() -> None:
    """A video in base64, with a caption that JavaScript has cut; and one that is nothing but halves."""
    for body in (b'{"media":"%b","caption":"\\ud83d"}' % (b"QUJD" * 6_000_000), b'["%b"]' % (rb"\ud83d" * 40_000)):
        begin = time.process_time()
        loads(body)
        assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (b'{"a":1}', True),
        (rb'["\ud83d"]', True),
        (b"1e9999", True),
        (b'\xef\xbb\xbf{"a":1}', False),
        (b'"\xff"', False),
        (b"NaN", False),
        (b"", False),
        (b"[" + b"1," * 1_000_000 + b"1]", True),
        (b"[" + b"1," * 2_000_000 + b"1]", False),
    ],
)
def test_what_may_stand_in_an_array(body: bytes, is_one: bool) -> None:
    assert is_json(body) is is_one


@given(
    st.recursive(
        st.none() | st.floats(allow_nan=False) | _TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    )
)
def test_whatever_the_standard_library_writes_is_read(value: Any) -> None:
    text = json.dumps(value).replace("-Infinity", "-1e999").replace("Infinity", "1e999")
    assert loads(text.encode()) == value


@given(st.text(alphabet=st.characters(codec=None, categories=["Cs", "Ll", "So", "Po"]), max_size=12))
def test_no_string_has_half_a_character_in_it(text: str) -> None:
    found = loads(json.dumps(text).encode())
    assert found == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") or found.isprintable()
    found.encode()
