"""Circuits over the admin API: what `sluice circuit` does.

GET  circuits              {"circuits": [{"endpoint", "state", "retry_after", "why", "held"}]}
POST circuits/{endpoint}   {"hold": "open" | "closed", "why": "…"} or {"hold": null}: let go; {"changed": bool}
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from gateway.problems import Refusal
from gateway.reload import Resources
from relay.circuit import Circuit, CircuitStatus
from relay.process import open_circuit
from sluice.console.request_body import members
from sluice.observe.log import Log

LOG = Log("console")
_MAX_WHY = 500


async def circuits(parts: Resources, _: Request) -> dict[str, Any]:
    return {"circuits": [_told(name, await _circuit(parts, name).view()) for name in parts.policies.relay.endpoints]}


async def hold(parts: Resources, request: Request) -> dict[str, Any]:
    """Raises Refusal."""
    name = request.path_params["endpoint"]
    circuit = _circuit(parts, name)
    asked = await members(request, {"hold", "why"})
    state, why = asked.get("hold", ""), asked.get("why", "")
    if state not in ("open", "closed", None):
        raise Refusal(400, 'hold: say "open", "closed", or null to let go')
    if not isinstance(why, str) or len(why) > _MAX_WHY:
        raise Refusal(400, f"why: say it in at most {_MAX_WHY} characters")
    changed = await (circuit.release() if state is None else circuit.hold(state, why))
    LOG.info("circuit.held", endpoint=name, state=state, why=why, changed=changed)
    return {"changed": changed, "circuit": _told(name, await circuit.view())}


def _circuit(parts: Resources, name: str) -> Circuit:
    endpoints = parts.policies.relay.endpoints
    if name not in endpoints:
        raise Refusal(404, f"there is no endpoint of this name; there are {', '.join(endpoints) or 'none'}")
    return open_circuit(parts.store, endpoints[name])


def _told(name: str, view: CircuitStatus) -> dict[str, Any]:
    return {
        "endpoint": name,
        "state": view.state,
        "retry_after": view.retry_after,
        "why": view.why or None,
        "held": view.held,
    }
