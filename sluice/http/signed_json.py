"""What programs send to the reserved paths: JSON, signed over the exact bytes of the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import Request
from starlette.responses import Response

from sluice.config import Signature
from sluice.http import foreign_json
from sluice.http.bodies import HeldBody
from sluice.http.negotiation import accepted
from sluice.http.problem import Refusal
from sluice.http.request_id import id_of
from sluice.http.signatures import proof_of
from sluice.observe.metrics import counts, recent

ID_LINE = "sluice.id_line"
"""In a scope: the field line of the request's id."""
WHY = "sluice.why"
"""In a scope: why the request was refused."""
Members = Mapping[str, Any]
_KINDS: dict[type, str] = {
    type(None): "null or absent",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
}


_REFUSED = counts(
    "sluice_signed_calls_refused_total",
    "Calls of the workers' API and of publishers without a right signature.",
    ["verify"],
)
recent(_REFUSED, "sluice_signed_calls_refused_total", ["verify"])


async def read(
    request: Request, held: HeldBody, signature: Signature | None, name: str, most: int, now: float
) -> bytes:
    """The body, proven. `name`: the key of the policies that names the signature; `most`: bytes.

    Raises Refusal 403 when it names none, 401, 413 or 503, and ClientGone.
    """
    if signature is None:
        raise Refusal(403, f"{name} names no signature; set it in policies.yaml")
    proof = proof_of(signature)
    claim = proof.claim(request.headers.raw, now)
    if isinstance(claim, str):
        raise unproven(name, claim)
    body = await body_of(request, held, most)
    reason = proof.refusal(claim, body)
    if reason is not None:
        raise unproven(name, reason)
    return body


def unproven(name: str, reason: str) -> Refusal:
    """The refusal of a call that is not proven, counted under the key of the policies that names who may call."""
    _REFUSED.add(name)
    return Refusal(401, reason)


async def body_of(request: Request, held: HeldBody, most: int) -> bytes:
    """The body, of `most` bytes. Raises Refusal 413 or 503, and ClientGone."""
    stated = request.headers.get("content-length", "")
    body = None if stated.isdigit() and int(stated) > most else await held.read(request.receive, most)
    if body is None:
        raise Refusal(413, f"the body may have {most} bytes")
    return body


def parse(body: bytes) -> Any:
    """Raises Refusal 400."""
    try:
        return foreign_json.loads(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None


def wrong(name: str, wanted: str, value: object) -> NoReturn:
    """Refuses a value of the wrong kind."""
    raise Refusal(400, f"{name}: must be {wanted}, not {_KINDS.get(type(value), 'an object')}")


def problem(request: Request, refusal: Refusal, more: Mapping[str, str] | None = None) -> Response:
    """`more`: fields beside its own."""
    request.scope[WHY] = refusal.detail
    headers, body = refusal.answer(accepted(request.headers.raw), id_of(request.scope.get(ID_LINE, b"")))
    answer = Response(body, refusal.status, more)
    answer.raw_headers = [pair for pair in answer.raw_headers if pair[0] != b"content-length"] + headers
    return answer
