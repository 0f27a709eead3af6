"""The policies in force, and how an edit of their file takes their place.

An edit is checked apart and swapped in whole, or not at all: a wrong file, or one that may be only half written
(`sluice.config.whole`), is logged, counted and told to whoever asks, and what was in force stays so. Secrets in files
(`file:`) are watched with the policies; those in the environment stay what they were when the process began.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml

from sluice.config import PolicyError, Problem, last_good, metrics, watching, whole
from sluice.config.model import Snapshot
from sluice.observe.log import Log
from sluice.process.loops import Stop

LOG = Log("policies")
_STABLE_FOR = 0.1  # seconds for which the contents must not change: nothing half written is read
_MISSING_FOR = 1.0  # the same for what is missing or empty: an editor may be about to write it
_EMPTY = hashlib.sha256(b"").digest()
_REVISION = 6  # bytes of the digest

Digests = dict[Path, bytes | None]
"""None: not there, or nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The file is live. `changed`: the keys in which it differs from before; none when it only became right again."""

    revision: str
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]
    """The keys whose new values count from the next start on."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The file is wrong, and changed nothing."""

    problems: tuple[Problem, ...]


Outcome = Loaded | Refused


P = TypeVar("P", bound=Snapshot)


class LivePolicies(Generic[P]):
    """What is in force: `current` is a whole snapshot at any moment. `problems`: of the file, while it is wrong.

    `load` reads the file and raises PolicyError; `hold` takes out of an edit what cannot change while we run, and names
    it; `changed` names what else is new.
    """

    def __init__(
        self,
        policies: P,
        load: Callable[[Path], P],
        hold: Callable[[P, P], tuple[P, tuple[str, ...]]],
        changed: Callable[[P, P], tuple[str, ...]],
    ) -> None:
        self._load, self._hold, self._changed = load, hold, changed
        self.current = policies
        self.problems: tuple[Problem, ...] = ()
        self.needs_restart: tuple[str, ...] = ()
        self.loaded_at = time.time()
        self._file = policies.source
        self._last_digests: Digests | None = None
        self._in_force: whole.Look | None = None
        """The file as it was when it went live; None: it had changed by the first look, and there is no copy."""
        self._doubted_until: float | None = None
        metrics.policies_loaded(self.loaded_at)

    async def watch(
        self, stop: Stop, apply: Callable[[P], None], report: Callable[[Outcome], None] = lambda outcome: None
    ) -> None:
        """Until stopped. `apply` puts a snapshot to work, or raises and has changed nothing; after the stop it is no
        longer called.
        """
        if _is_stream(self._file):
            LOG.warning("policies.not_watched", file=str(self._file), reason="not a file, so it can be read only once")
            await stop.wait()
            return
        await self._keep_copy()
        await self._check_and_report(stop, apply, report)
        async for _ in watching.hints(lambda: self._last_digests or (self._file,), stop):
            await self._check_and_report(stop, apply, report)

    async def _check_and_report(
        self, stop: Stop, apply: Callable[[P], None], report: Callable[[Outcome], None]
    ) -> None:
        outcome = await self.check(stop, apply)
        if outcome is not None:
            report(outcome)

    async def check(self, stop: Stop, apply: Callable[[P], None]) -> Outcome | None:
        """Reads the file once, and does what follows. None: it is as it was."""
        digests = await self._stable_digests(stop)
        if digests is not None:
            is_first, self._last_digests = self._last_digests is None, digests
            self._doubted_until = time.monotonic() + whole.STILL_FOR
            if is_first and self._is_in_force(digests):
                self._in_force = await asyncio.to_thread(whole.look, self._file)
                return None
            if is_first:
                self._in_force = await asyncio.to_thread(self._copy_in_force)
        elif self._doubted_until is None or time.monotonic() < self._doubted_until:
            return None
        return await self._take_over(stop, apply)

    async def _take_over(self, stop: Stop, apply: Callable[[P], None]) -> Outcome | None:
        until, self._doubted_until = self._doubted_until, None
        looked = await asyncio.to_thread(whole.look, self._file)
        try:
            edited = await asyncio.to_thread(self._load, self._file)
            self._refuse_if_cut_off(looked, until)
            running, needs_restart = self._hold(self.current, edited)
            if stop.requested:
                return None
            if running != self.current:
                apply(running)
        except PolicyError as error:
            return self._refused(tuple(_while_running(problem) for problem in error.problems))
        except Exception as error:  # noqa: BLE001 - what the check let through must not end a process that does its work
            LOG.error("policies.crashed", exception=error, revision=self.current.revision)
            message = f"could not be put to work ({type(error).__name__}: {error})"
            return self._refused((Problem(0, 0, "", message, "see the log, and report it", str(self._file)),))
        outcome = self._loaded(running, needs_restart)
        self._in_force = looked
        if outcome is not None:
            await self._keep_copy()
        return outcome

    def _copy_in_force(self) -> whole.Look | None:
        """What we began with where the file has another content: that of the last good copy, or it is not known."""
        copy = last_good.find_in(self.current.data, self._file)
        looked = whole.look(self._file)
        return (
            replace(looked, content=copy.content)
            if copy and looked and copy.revision == self.current.revision
            else None
        )

    def _refuse_if_cut_off(self, looked: whole.Look | None, until: float | None) -> None:
        """Raises PolicyError while the file may be only half written, which ends by itself at `until` if at all."""
        doubt = whole.doubt(self._in_force, looked) if self._in_force and looked else None
        if doubt is None or (doubt.ends and until is not None and time.monotonic() >= until):
            return
        self._doubted_until = until if doubt.ends else None
        raise PolicyError([Problem(0, 0, "", doubt.why.message, doubt.why.hint, str(self._file))])

    async def _keep_copy(self) -> None:
        current = self.current
        try:
            await asyncio.to_thread(last_good.keep, self._file, current.revision, current.data)
        except OSError as error:
            LOG.warning("policies.not_kept", folder=str(current.data), reason=str(error))

    async def _stable_digests(self, stop: Stop) -> Digests | None:
        """What the files hold, once they hold still; None while that is what was last seen, and when stopped."""
        digests = await asyncio.to_thread(_digests, self._file)
        while digests != self._last_digests:
            is_missing = any(digest in (None, _EMPTY) for digest in digests.values())
            previous = digests
            if not await stop.sleep(_MISSING_FOR if is_missing else _STABLE_FOR):
                return None
            digests = await asyncio.to_thread(_digests, self._file)
            if digests == previous:
                return digests
        return None

    def _is_in_force(self, digests: Digests) -> bool:
        """A secret may have changed between the start and the first look, so those are read once more."""
        digest = digests[self._file]
        return len(digests) == 1 and digest is not None and digest.hex()[: 2 * _REVISION] == self.current.revision

    def _refused(self, problems: tuple[Problem, ...]) -> Refused:
        self.problems = problems
        metrics.policies_refused()
        LOG.warning("policies.refused", in_force=self.current.revision, problems=[as_fields(one) for one in problems])
        return Refused(problems)

    def _loaded(self, running: P, needs_restart: tuple[str, ...]) -> Loaded | None:
        previous, held_previously = self.current, self.needs_restart
        if running == previous and needs_restart == held_previously and not self.problems:
            return None
        self.current, self.needs_restart, self.problems, self.loaded_at = running, needs_restart, (), time.time()
        metrics.policies_loaded(self.loaded_at)
        changed_keys = self._changed(previous, running)
        LOG.info("policies.loaded", revision=running.revision, changed=changed_keys)
        if needs_restart:
            LOG.warning("policies.needs_restart", keys=needs_restart, revision=running.revision)
        return Loaded(running.revision, changed_keys, needs_restart)


def as_fields(problem: Problem) -> dict[str, Any]:
    """As logs and the console have it."""
    return {name: getattr(problem, name) for name in ("line", "column", "key", "message", "hint")}


def _while_running(problem: Problem) -> Problem:
    """What is exported now reaches only processes that begin now."""
    if not problem.hint.startswith("export "):
        return problem
    return replace(problem, hint=f"{problem.hint} and restart Sluice, or write file:PATH, which needs no restart")


# --- the files


def _digests(file: Path) -> Digests:
    content = _content(file)
    secrets = _secret_files(content, file.parent) if content else ()
    return {file: _digest(content), **{secret: _digest(_content(secret)) for secret in secrets}}


def _is_stream(file: Path) -> bool:
    with contextlib.suppress(OSError):
        mode = file.stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def _content(file: Path) -> bytes | None:
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(file.stat().st_mode):
            return file.read_bytes()
    return None


def _digest(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


@lru_cache(maxsize=4)
def _secret_files(content: bytes, folder: Path) -> tuple[Path, ...]:
    """Every `file:` of the text. A text that cannot be read names none: it has to be written anew anyway."""
    try:
        texts = [token.value for token in yaml.scan(content) if isinstance(token, yaml.ScalarToken)]
    except yaml.YAMLError:
        return ()
    return tuple(dict.fromkeys(folder / text.removeprefix("file:") for text in texts if text.startswith("file:")))
