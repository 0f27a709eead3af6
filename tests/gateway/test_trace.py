"""The trace of a request: passed on where it is sound, and in the access log."""

from __future__ import annotations

import pytest

from tests.gateway.running import Gate, Receiver, lines
from tests.gateway.test_access_log import row_of
from tests.heard import Heard

pytestmark = pytest.mark.anyio

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT, STATE = f"00-{ID}-00f067aa0ba902b7-01", "vendor=value,tenant@other=2"
"""As other systems begin it."""


def traces(head: bytes) -> list[bytes]:
    """The lines of a head that are about the trace, as they arrived."""
    return [line for line in lines(head) if line.lower().startswith((b"traceparent", b"tracestate"))]


async def test_it_goes_on_to_the_upstream_and_is_in_the_log(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    await gate.http.get("/page", headers={"traceparent": PARENT, "tracestate": STATE})
    assert traces(laravel.heads[0]) == [f"traceparent: {PARENT}".encode(), f"tracestate: {STATE}".encode()]
    assert (await row_of(heard))["trace"] == ID


@pytest.mark.parametrize(
    "given",
    [
        [("traceparent", PARENT.upper()), ("tracestate", STATE)],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", PARENT + "-x")],
        [("tracestate", STATE)],
    ],
    ids=["upper case", "two", "longer", "a state alone"],
)
async def test_one_that_is_not_sound_is_passed_over(
    gate: Gate, laravel: Receiver, heard: Heard, given: list[tuple[str, str]]
) -> None:
    assert (await gate.http.get("/page", headers=given)).status_code == 200
    assert traces(laravel.heads[0]) == []
    assert "trace" not in await row_of(heard)


async def test_a_state_that_is_not_sound_leaves_the_parent(gate: Gate, laravel: Receiver) -> None:
    await gate.http.get("/page", headers={"traceparent": PARENT, "tracestate": "a=1,a=2"})
    assert traces(laravel.heads[0]) == [f"traceparent: {PARENT}".encode()]


async def test_without_one_none_is_made_up(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    await gate.http.get("/page")
    assert traces(laravel.heads[0]) == []
    assert "trace" not in await row_of(heard)
