"""The text of the policies in force, and what another one would do: its mistakes, its changes, whom it would refuse."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson

from gateway.policies import Policies
from sluice.config import last_good
from sluice.console.actions.deployment import Deployment, Problem, moment, unavailable
from sluice.console.status import PolicyProblem
from sluice.http.decode import Bounds
from sluice.process.ending import kill

MAX_TEXT = 1_000_000
"""Characters."""
WITHIN = 60.0
"""Seconds for the whole of it: less than a page waits."""
_MAX_AT_ONCE = 2
_PASSWORD = re.compile(r"(://[^\s:/@\"']*:)[^\s@/\"']+@")
_under_way: set[object] = set()


@dataclass(frozen=True, slots=True)
class ShowPolicies:
    pass


@dataclass(frozen=True, slots=True)
class PoliciesText:
    """What is in force in the gateway that is asked."""

    source: str
    revision: str
    text: str | None
    """As it was read; a password in an address is `***`. Null: the file has changed, and no copy of it was kept."""


@dataclass(frozen=True, slots=True)
class TryPolicies:
    text: Annotated[str, Bounds(1, MAX_TEXT)]
    """Read as if it stood in the file of the policies. `***` in an address is the password that is in force there."""
    seconds: Annotated[int, Bounds(60, 86400)] = 3600
    """How far to look back in the access log."""
    secrets: bool = True
    """Whether the secrets that it names have to be there."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    key: str
    old: str | None
    """Null: it is new."""
    new: str | None
    """Null: it is gone."""
    needs_restart: bool
    """It counts from the next start on."""


@dataclass(frozen=True, slots=True)
class LimitTrial:
    """Of the requests that the limit would meet."""

    passed: int
    refused: int
    dropped: int
    delayed: int
    held: int
    would_reject: int
    """Only counted."""
    max_delay: float
    """Seconds."""
    max_hold: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class SubjectTrial:
    subject: str
    times: int
    """How often it would be refused, dropped, delayed or held."""
    in_force: int
    """The same by the policies in force, as far as they are among the worst there."""


@dataclass(frozen=True, slots=True)
class TriedLimit:
    limit: str
    tried: LimitTrial | None
    """Null: it is gone."""
    in_force: LimitTrial | None
    """By the same reckoning; null: it is new, or the text in force is not known."""
    worst: tuple[SubjectTrial, ...]


@dataclass(frozen=True, slots=True)
class TriedRequests:
    """An estimate: of what the access log of this machine holds, with buckets that begin full, and without what only
    bodies tell (costs, workspaces)."""

    began: datetime
    ended: datetime
    complete: bool
    """The log reaches back as far as was asked; else it holds less, or more than 40,000 requests."""
    requests: int
    refused_then: int
    """Answered 429."""
    refused: int
    refused_in_force: int | None
    """By the policies in force, by the same reckoning."""
    limits: tuple[TriedLimit, ...]


@dataclass(frozen=True, slots=True)
class TriedPolicies:
    valid: bool
    problems: tuple[PolicyProblem, ...]
    warnings: tuple[str, ...]
    revision: str | None
    """It would have; null: it is not valid."""
    in_force: str
    """The revision that it is compared with."""
    changes: tuple[PolicyChange, ...] | None
    """Null: it is not valid, or the text in force is not known any more."""
    log: TriedRequests | None
    """Null: it is not valid, or the log of this machine has no request of that time."""


async def show_policies(deployment: Deployment, request: ShowPolicies) -> PoliciesText:
    """The text of the policies in force."""
    policies = deployment.policies
    text = await asyncio.to_thread(text_of, policies)
    return PoliciesText(str(policies.source), policies.revision, text if text is None else _masked(text))


async def try_policies(deployment: Deployment, request: TryPolicies) -> TriedPolicies | Problem:
    """What another text would do: mistakes with line and cure, what changes, who would have been refused lately."""
    policies = deployment.policies
    old = await asyncio.to_thread(text_of, policies)
    new = request.text if old is None else _unmasked(request.text, old)
    found = await trial(policies, old, new, request.seconds, secrets=request.secrets)
    if isinstance(found, Problem):
        return found
    valid = not found["problems"]
    return TriedPolicies(
        valid=valid,
        problems=tuple(PolicyProblem(**one) for one in found["problems"]),
        warnings=tuple(found["warnings"]),
        revision=found["revision"],
        in_force=policies.revision,
        changes=tuple(PolicyChange(**one) for one in found["changes"]) if valid and old is not None else None,
        log=_tried(found["log"]) if found["log"] is not None else None,
    )


async def trial(
    policies: Policies, old: str | None, new: str | None, seconds: float, *, secrets: bool = False
) -> dict[str, Any] | Problem:
    """What `sluice.console.policies_trial` finds."""
    if len(_under_way) >= _MAX_AT_ONCE:
        return unavailable("two trials of policies are under way in this gateway; try again when they are over")
    wanted = {"source": str(policies.source), "data": str(policies.data), "old": old, "new": new, "secrets": secrets}
    token = object()
    _under_way.add(token)
    try:
        return await asyncio.wait_for(_run(orjson.dumps({**wanted, "since": time.time() - seconds})), WITHIN)
    except TimeoutError:
        return unavailable(f"the trial took longer than {WITHIN:g} s; look back less far")
    finally:
        _under_way.discard(token)


async def _run(wanted: bytes) -> dict[str, Any] | Problem:
    command = (sys.executable, "-P", "-m", "sluice.console.policies_trial")
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        return unavailable(f"no process can be started ({(error.strerror or str(error)).lower()})")
    try:
        out, err = await process.communicate(wanted)
    except asyncio.CancelledError:
        await kill(process)
        raise
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it says nothing"]
        return unavailable(f"the trial failed ({last[0][:300]})")
    found: dict[str, Any] = orjson.loads(out)
    return found


def _tried(log: Mapping[str, Any]) -> TriedRequests:
    new, old = log["new"], log["old"]
    before = old["limits"] if old else {}
    names = [*new["limits"], *(name for name in before if name not in new["limits"])]
    return TriedRequests(
        began=moment(log["began"]),
        ended=moment(log["ended"]),
        complete=log["complete"],
        requests=new["requests"],
        refused_then=new["refused_then"],
        refused=new["refused"],
        refused_in_force=old["refused"] if old else None,
        limits=tuple(_limit(name, new["limits"].get(name), before.get(name)) for name in names),
    )


def _limit(name: str, tried: Mapping[str, Any] | None, in_force: Mapping[str, Any] | None) -> TriedLimit:
    known = {" ".join(subject): times for subject, times in in_force["worst"]} if in_force else {}
    worst = ((" ".join(subject), times) for subject, times in tried["worst"]) if tried else ()
    return TriedLimit(
        name,
        _of(tried),
        _of(in_force),
        tuple(SubjectTrial(subject or "everybody", times, known.get(subject, 0)) for subject, times in worst),
    )


def _of(counts: Mapping[str, Any] | None) -> LimitTrial | None:
    return LimitTrial(**{name: counts[name] for name in LimitTrial.__slots__}) if counts else None


# --- the text


def text_of(policies: Policies) -> str | None:
    """What these policies were read from: their file, or the copy that was kept of it. Blocks. None: it is gone."""
    copy = last_good.find_in(policies.data, policies.source)
    try:
        contents = [policies.source.read_bytes()]
    except OSError:
        contents = []
    for content in [*contents, *([copy.content] if copy else [])]:
        if hashlib.sha256(content).hexdigest().startswith(policies.revision):
            return content.decode("utf-8", "replace")
    return None


def _masked(text: str) -> str:
    return _PASSWORD.sub(r"\1***@", text)


def _unmasked(text: str, in_force: str) -> str:
    for found in _PASSWORD.finditer(in_force):
        text = text.replace(f"{found[1]}***@", found[0])
    return text
