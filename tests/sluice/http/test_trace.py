"""traceparent and tracestate, read as W3C Trace Context (level 2) says: what is sound goes on, nothing else does."""

from __future__ import annotations

import pytest

from sluice.http.fields import Fields, fields_of
from sluice.http.trace import TRACE, TRACESTATE, id_in, id_of, is_sound, is_sound_state, kept_of, parent_of, unsound

ID, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
SOUND = b"00-%b-%b-01" % (ID, SPAN)


@pytest.mark.parametrize(
    "parent",
    [
        SOUND,
        b"00-%b-%b-00" % (ID, SPAN),
        b"00-%b-%b-ff" % (ID, SPAN),
        b"cc-%b-%b-01" % (ID, SPAN),
        b"cc-%b-%b-01-what-the-future-brings" % (ID, SPAN),
        b"01-%b-%b-01-" % (ID, SPAN),
    ],
)
def test_what_is_sound(parent: bytes) -> None:
    assert is_sound(parent)
    assert id_of(parent) == ID.decode()


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        SOUND + b"-x",
        SOUND + b"-",
        SOUND + b" ",
        SOUND + b"\n",
        SOUND[:-1],
        SOUND.upper(),
        b"ff-%b-%b-01" % (ID, SPAN),
        b"0-%b-%b-01" % (ID, SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (ID, b"0" * 16),
        b"00-%b-%b-0g" % (ID, SPAN),
        b"00-%b-%b-1" % (ID, SPAN),
        b"00-%b-%b" % (ID, SPAN),
        b"cc-%b-%b-01.what" % (ID, SPAN),
        b"00_%b_%b_01" % (ID, SPAN),
        b"00-%b-%b-01" % (ID[:-1], SPAN),
        b"00-%b-%b-01" % (ID + b"0", SPAN),
    ],
)
def test_what_is_not(parent: bytes) -> None:
    assert not is_sound(parent)


def of(*pairs: tuple[bytes, bytes]) -> Fields:
    return fields_of(pairs)


def test_two_of_them_are_none() -> None:
    assert parent_of(of((b"traceparent", SOUND), (b"TraceParent", SOUND))) is None
    assert unsound(of((b"traceparent", SOUND), (b"TraceParent", SOUND))) == TRACE
    assert parent_of(of((b"TraceParent", SOUND))) == SOUND
    assert parent_of(of((b"Host", b"a"))) is None


@pytest.mark.parametrize(
    ("values", "sound"),
    [
        ([b"vendor=value"], True),
        ([b"a=1,b=2", b"c=3"], True),
        ([b" a=1 ,\tb=2 , "], True),
        ([b""], True),
        ([b"tenant@vendor=opaque Value!~"], True),
        ([b"0a=1"], True),
        ([b",".join(b"k%d=v" % i for i in range(32))], True),
        ([b",".join(b"k%d=v" % i for i in range(33))], False),
        ([b"a=1,a=2"], False),
        ([b"a=1", b"a=2"], False),
        ([b"A=1"], False),
        ([b"a"], False),
        ([b"a="], False),
        ([b"=1"], False),
        ([b"a=b=c"], False),
        ([b"a=\xc3\xa4"], False),
        ([b"a=" + b"v" * 257], False),
    ],
)
def test_a_state_is_sound_as_a_whole_or_not_at_all(values: list[bytes], sound: bool) -> None:
    assert is_sound_state(values) is sound
    fields = of((b"traceparent", SOUND), *((b"tracestate", value) for value in values))
    assert unsound(fields) == (0 if sound else TRACESTATE)


def test_a_state_without_a_parent_is_passed_over() -> None:
    assert unsound(of((b"tracestate", b"a=1"))) == TRACE
    assert unsound(of((b"traceparent", b"00-x"), (b"tracestate", b"a=1"))) == TRACE


def test_what_goes_with_an_event_is_sound_and_short() -> None:
    both = ((b"Traceparent", SOUND), (b"tracestate", b"a=1"))
    assert kept_of(of((b"Host", b"x"), *both)) == both
    assert kept_of(of(both[0], (b"tracestate", b"a=" + b"v" * 256 + b",b=" + b"v" * 256))) == both[:1]
    assert kept_of(of((b"traceparent", b"00-x"), both[1])) == ()
    assert kept_of(of((b"Host", b"x"))) == ()
    assert id_in(both) == ID.decode()
    assert id_in(((b"Content-Type", b"text/plain"),)) is None
