from __future__ import annotations

import random
import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from sluice.config.model import Rate
from sluice.http.websocket import Allowance
from sluice.http.websocket.frames import PIECE, Frames


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, mask: bool = True, rsv1: bool = False) -> bytes:
    made = bytearray(Frame(opcode, data, fin).serialize(mask=mask))
    made[0] |= 0x40 if rsv1 else 0
    return bytes(made)


def cut(frames: Frames, *reads: bytes) -> list[bytes]:
    """What is handed on of these reads."""
    given = []
    for read in reads:
        if frames.passes(read):
            given.append(read)
            continue
        frames.add(read)
        while piece := frames.next():
            given.append(piece)
    return given


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_frames_of_one_read_are_given_one_by_one(size: int, *, mask: bool) -> None:
    sent = [frame(Opcode.BINARY, b"x" * size, mask=mask), frame(Opcode.PING, b"?"), frame(Opcode.TEXT, b"y" * size)]
    assert cut(Frames(), b"".join(sent)) == sent


def test_a_large_frame_is_given_as_it_comes() -> None:
    sent, ping = frame(Opcode.BINARY, b"x" * 100_000), frame(Opcode.PING)
    reads = [sent[:7], sent[7:20], sent[20:50_000], sent[50_000:], ping]
    assert cut(Frames(), *reads) == [sent[:20], sent[20:50_000], sent[50_000:], ping]


def test_a_head_waits_until_it_is_whole() -> None:
    frames, sent = Frames(), frame(Opcode.BINARY, b"x" * 70_000)
    assert cut(frames, *(sent[i : i + 1] for i in range(13))) == []
    assert cut(frames, sent[13:14]) == [sent[:14]]
    assert frames.held == 0


@pytest.mark.parametrize("seed", range(5))
def test_however_the_bytes_come_nothing_is_lost_or_changed(seed: int) -> None:
    rng = random.Random(seed)
    sent = b"".join(
        frame(
            *rng.choice(
                [(Opcode.PING, b"?" * rng.choice([0, 125])), (Opcode.TEXT, b"z" * rng.choice([0, 5, 126, 70_000]))]
            )
        )
        for _ in range(40)
    )
    frames, given, at = Frames(), [], 0
    while at < len(sent):
        size = rng.choice([1, 2, 3, 100, 70_000])
        given += cut(frames, sent[at : at + size])
        at += size
    assert b"".join(given) == sent


@pytest.mark.parametrize(
    ("opcode", "data", "fin", "nothing"),
    [
        (Opcode.PING, b"?", True, True),
        (Opcode.PONG, b"", True, True),
        (Opcode.CLOSE, b"", True, True),
        (Opcode.TEXT, b"", False, True),
        (Opcode.CONT, b"", False, True),
        (Opcode.CONT, b"", True, False),
        (Opcode.TEXT, b"", True, False),
        (Opcode.TEXT, b"x", False, False),
        (Opcode.BINARY, b"x", True, False),
    ],
)
def test_what_carries_nothing_is_known_once_for_each_frame(
    opcode: Opcode, data: bytes, *, fin: bool, nothing: bool
) -> None:
    frames = Frames()
    frames.add(frame(opcode, data, fin=fin))
    frames.next()
    assert frames.carries_nothing is nothing
    frames.next()
    assert not frames.carries_nothing


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_long_compressed_frame_is_given_in_fragments_that_mean_the_same(fragments: int) -> None:
    message = bytes(random.Random(1).choices(b"abcdefgh", k=200_000))
    deflated = zlib.compressobj(wbits=-15)
    data = deflated.compress(message) + deflated.flush(zlib.Z_SYNC_FLUSH)
    data = data[:-4]
    at = [len(data) * n // fragments for n in range(fragments + 1)]
    sent = [
        frame(Opcode.CONT if n else Opcode.BINARY, data[at[n] : at[n + 1]], fin=n == fragments - 1, rsv1=not n)
        for n in range(fragments)
    ]
    frames = Frames()
    frames.inflates = True
    server = ServerProtocol(max_size=None)
    server.parser = super(ServerProtocol, server).parse()
    next(server.parser)
    server.extensions = [PerMessageDeflate(False, False, 15, 15)]
    whole = b""
    for piece in cut(frames, b"".join(sent), frame(Opcode.TEXT, b"plain")):
        assert len(piece) <= PIECE + 8
        server.receive_data(piece)
        assert server.parser_exc is None, server.parser_exc
    *received, last = [event for event in server.events_received() if isinstance(event, Frame)]
    whole = b"".join(event.data for event in received)
    assert whole == message
    assert [event.fin for event in received] == [False] * (len(received) - 1) + [True]
    assert bytes(last.data) == b"plain"


def test_an_uncompressed_message_with_a_reserved_bit_is_left_to_its_parser() -> None:
    sent = frame(Opcode.BINARY, b"x" * 5000, rsv1=True)
    assert cut(Frames(), sent) == [sent]


def test_an_allowance_is_full_at_first_and_fills_evenly() -> None:
    allowance = Allowance(Rate(2, 1.0), 10.0)
    assert [allowance.take(10.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(10.5), allowance.take(10.6)] == [True, False]
    assert [allowance.take(99.0) for _ in range(3)] == [True, True, False]
