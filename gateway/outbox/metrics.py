"""What is counted of sends that are stored. Of their queue, endpoint `outbox`, there is what each endpoint has."""

from __future__ import annotations

from sluice.observe.metrics import counts, recent

_SENDS = counts(
    "sluice_outbox_sends_total", "What became of sends that were stored, as their gateways saw it.", ["what"]
)
recent(_SENDS, "sluice_outbox_sends_total", ["what"])
_PUT_OFF = counts("sluice_outbox_put_off_total", "How often a send was not given to its worker yet, by why.", ["why"])


def send(what: str) -> None:
    """`accepted`; `refused`: not stored; `answered`: its caller got the worker's answer; `promised`: he was told
    our id; `sent`; `rejected`: by its worker; `unknown`: nobody knows whether it went out; `given_up`."""
    _SENDS.add(what)


def put_off(why: str) -> None:
    """`pace`, `hours`, `unreached`, `refused` (by the policies of now), `asked` (another gateway is at it)."""
    _PUT_OFF.add(why)
