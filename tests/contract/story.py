"""The whole story: unmodified workers behind one Sluice, killed and started again at random under load, and its judge.

All of it is real: `sluice up` and its children, a contract Laravel, contract workers, each a process. What the workers
did is told by WhatsApp's record, what Laravel made of it by Laravel.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from gateway.policies import load
from sluice.cli.errors import CommandError
from tests.contract.fleet import ENVIRONMENT, KEY, shipped
from tests.contract.running import ContractLaravel, ContractWorker, laravel, log_in, worker
from tests.contract.whatsapp import Emitted, WhatsApp, whatsapp
from tests.e2e.deployment import deployment
from tests.waiting import until

ANSWERED = "202"


@dataclass(frozen=True, slots=True)
class Course:
    """`seconds` of kills; `scale`: of what browsers take; a kill each `between` seconds, from and to."""

    seconds: float
    seed: int
    workers: int = 8
    accounts: int = 50
    scale: float = 0.1
    between: tuple[float, float] = (1.0, 4.0)
    down: tuple[float, float] = (0.2, 5.0)
    settled: float = 0.0
    """Seconds for which a session has been logged in before people write to it. When its worker dies between the login
    and the gateway's next look, status is answered as it was before, and Laravel loses what came meanwhile."""


@dataclass(slots=True)
class Verdict:
    """What of the story is not as it shall be, by promise, and how much happened."""

    figures: dict[str, object] = field(default_factory=dict)
    ran_twice: list[str] = field(default_factory=list)
    disconnected: list[str] = field(default_factory=list)
    without_row: list[str] = field(default_factory=list)
    with_more_rows: list[str] = field(default_factory=list)
    not_back: list[str] = field(default_factory=list)
    sent_twice: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """What `status` says in the end."""

    @property
    def promises(self) -> dict[str, list[str]]:
        return {
            "sessions that ran twice": self.ran_twice,
            "rows disconnected while the session was connected or being restored": self.disconnected,
            "webhooks without a row": self.without_row,
            "webhooks with more than one row": self.with_more_rows,
            "sessions that are not back": self.not_back,
            "messages sent more than once": self.sent_twice,
        }

    @property
    def kept(self) -> bool:
        return not any(self.promises.values())

    def __str__(self) -> str:
        lines = ["| figure | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in self.figures.items())]
        lines += ["", "| promise | broken | examples |", "|---|---:|---|"]
        for name, broken in self.promises.items():
            lines.append(f"| {name} | {len(broken)} | {'; '.join(broken[:3])} |")
        return "\n".join([*lines, "", f"status: {self.messages or 'all is well'}"])


async def story(folder: Path, free_port: Callable[[], int], course: Course) -> Verdict:
    """From the common start to the verdict. Fails if the sessions do not come up at all."""
    async with _stage(folder, free_port, course) as stage:
        began = time.monotonic()
        await asyncio.gather(*(one.start() for one in stage.workers))
        await until(lambda: not stage.not_connected(), timeout=120, what="all sessions to be connected")
        started = time.monotonic() - began
        await stage.run()
        return await stage.judge(started)


class Stage:
    """Sessions s0, s1, …; that of account n is of workspace n, and its login lies where Laravel's modulo leads."""

    def __init__(
        self,
        course: Course,
        gateway: str,
        app: ContractLaravel,
        workers: Sequence[ContractWorker],
        phones: WhatsApp,
        status: Callable[[], Any],
    ) -> None:
        self.app = app
        self.workers = workers
        self.phones = phones
        self.sessions = [f"s{number}" for number in range(course.accounts)]
        self._course = course
        self._gateway = gateway
        self._status = status
        self._random = random.Random(course.seed)
        self._kills: Counter[str] = Counter()
        self._said: Counter[str] = Counter()
        self._sent: dict[str, int] = {}
        self._received = 0
        self._over = False

    def not_connected(self) -> list[str]:
        return [session for session in self.sessions if not self.phones.connected(session)]

    async def run(self) -> None:
        """The kills, and the traffic beside them."""
        beside = [self._receiving(), self._checking(), self._sending()]
        tasks = [asyncio.create_task(one) for one in beside]
        ends = time.monotonic() + self._course.seconds
        restarts: dict[str, asyncio.Task[None]] = {}
        while time.monotonic() < ends:
            await asyncio.sleep(self._random.uniform(*self._course.between))
            victim, how = self._random.choice(self.workers), self._random.choice(("kill -9", "SIGTERM"))
            down = self._random.uniform(*self._course.down)
            under_way = restarts.get(victim.url)
            if under_way is None or under_way.done():
                restarts[victim.url] = asyncio.create_task(self._restart(victim, how, down))
        await asyncio.gather(*restarts.values())
        self._over = True
        await asyncio.gather(*tasks)

    async def _restart(self, victim: ContractWorker, how: str, down: float) -> None:
        self._kills[how] += 1
        await (victim.kill() if how == "kill -9" else victim.terminate(within=5.0))
        await asyncio.sleep(down)
        await victim.start()

    async def _receiving(self) -> None:
        """People write to sessions that are connected."""
        while not self._over:
            await asyncio.sleep(0.05)
            session, since = self._random.choice(self.sessions), time.monotonic() - self._course.settled
            browsers = [one for one in self.phones.connected(session) if (one.logged_in or since) <= since]
            one = next((one for one in self.workers if browsers and one.alive and one.pid == browsers[0].pid), None)
            if one is not None:
                self._received += 1
                await _though_killed(one.receive(session, identity=f"in-{self._received}"))

    async def _checking(self) -> None:
        while not self._over:
            await asyncio.sleep(0.1)
            said = await self.app.do("check", self._random.choice(self.sessions))
            self._said[f"check {said['status']}"] += 1

    async def _sending(self) -> None:
        while not self._over:
            await asyncio.sleep(0.5)
            message = f"out-{len(self._sent)}"
            said = await self.app.do("send", self._random.choice(self.sessions), to="4915123456", message=message)
            self._sent[message] = said["status"]
            self._said[f"send {said['status']}"] += 1

    # --- the verdict

    async def judge(self, started: float) -> Verdict:
        verdict = Verdict()
        try:
            await until(lambda: not self.not_connected(), timeout=120)
        except AssertionError:
            verdict.not_back = self.not_connected()
        await self._all_arrived()
        webhooks, marks = await self.app.shown("webhooks"), await self.app.shown("marks")
        status = await self._status()
        emitted = list(self.phones.emitted.values())
        verdict.ran_twice = [str(twice) for twice in self.phones.ran_twice()]
        verdict.disconnected = [_mark(mark) for mark in marks if mark["after"] in ("disconnected", "failed")]
        verdict.not_back += [row["session_id"] for row in await self._rows() if row["status"] != "connected"]
        self._judge_messages(verdict, await self.app.shown("messages"), emitted, webhooks)
        superseded = status["endpoints"]["laravel"]["superseded"]
        self._judge_others(verdict, emitted, webhooks, superseded)
        sent = Counter(one.message for one in self.phones.sent)
        verdict.sent_twice = [message for message, times in sent.items() if times > 1]
        verdict.messages = status["messages"]
        verdict.figures = {
            "workers, accounts": f"{len(self.workers)}, {len(self.sessions)}",
            "seed": self._course.seed,
            "seconds until all were connected": f"{started:.1f}",
            "killed": dict(self._kills),
            "browsers opened": self.phones.starts.total(),
            "webhooks emitted": len(emitted),
            "their outcomes": dict(Counter(str(one.outcome) for one in emitted)),
            "webhooks at Laravel": len(webhooks),
            "of session_ready, superseded": superseded,
            "Laravel's calls": dict(sorted(self._said.items())),
            "sends that were answered 200 and went out": sum(
                status == 200 and sent[message] == 1 for message, status in self._sent.items()
            ),
        }
        return verdict

    def _judge_messages(
        self, verdict: Verdict, rows: Sequence[Any], emitted: Sequence[Emitted], webhooks: Sequence[Any]
    ) -> None:
        """Of incoming messages: one row each, unless its worker died before it was answered."""
        saved = Counter(row["message_id"] for row in rows if row["event"] == "message_received")
        became = {hook["message_id"]: hook["became"] for hook in webhooks}
        for one in emitted:
            if one.event == "message_received" and one.id:
                if not saved[one.id] and one.outcome is not None:
                    verdict.without_row.append(f"{one.id} of {one.session}: {one.outcome}, {became.get(one.id)}")
                if saved[one.id] > 1:
                    verdict.with_more_rows.append(f"{one.id}: {saved[one.id]}")

    def _judge_others(
        self, verdict: Verdict, emitted: Sequence[Emitted], webhooks: Sequence[Any], superseded: int
    ) -> None:
        """Those without an id, by session and event: as many at Laravel as were answered, and no more than emitted. A
        session_ready may be missing where a newer one of its phone came, which `status` counts."""
        arrived = Counter((hook["session_id"], hook["event"]) for hook in webhooks if hook["status"] == 200)
        some = Counter((one.session, one.event) for one in emitted)
        sure = Counter((one.session, one.event) for one in emitted if one.outcome is not None)
        for kind, times in some.items():
            if kind[1] == "message_received":
                continue
            missing = sure[kind] - arrived[kind]
            if kind[1] == "session_ready" and arrived[kind] and 0 < missing <= superseded:
                superseded -= missing
            elif missing > 0:
                verdict.without_row.append(f"{kind[1]} of {kind[0]}: {arrived[kind]} of {sure[kind]}")
            if arrived[kind] > times:
                verdict.with_more_rows.append(f"{kind[1]} of {kind[0]}: {arrived[kind]} of {times}")

    async def _all_arrived(self) -> None:
        """Until nothing more comes for two seconds, a minute at most."""
        ends, count, since = time.monotonic() + 60, -1, time.monotonic()
        while time.monotonic() < min(ends, since + 2):
            await asyncio.sleep(0.2)
            now = await self.app.test("count")
            if now != count:
                count, since = now, time.monotonic()

    async def _rows(self) -> list[dict[str, Any]]:
        return list((await self.app.accounts()).values())


def _mark(mark: dict[str, Any]) -> str:
    return f"{mark['session_id']}: {mark['before']} to {mark['after']} by {mark['why']}"


async def _though_killed(asking: Any) -> None:
    try:
        await asking
    except httpx2.HTTPError:
        return


@asynccontextmanager
async def _stage(folder: Path, free_port: Callable[[], int], course: Course) -> AsyncIterator[Stage]:
    gateway, laravel_port = free_port(), free_port()
    ports = [free_port() for _ in range(course.workers)]
    url = f"http://127.0.0.1:{gateway}"
    known = [
        {"name": f"w{n}", "url": f"http://127.0.0.1:{port}", "key": "env:NODE_KEY", "prefix": f"/w/w{n}"}
        for n, port in enumerate(ports)
    ]
    written = shipped("embedded", gateway, laravel_port, known, advertise=url)
    written["store"] = {"url": "embedded", "promise": "second"}
    written["data"] = str(folder / "data")
    async with AsyncExitStack() as stack:
        deployed = await stack.enter_async_context(deployment(folder, (gateway, laravel_port)))
        deployed.file.write_text(yaml.safe_dump(written))
        deployed.policies = load(deployed.file, environment=ENVIRONMENT)
        deployed.environment.update(ENVIRONMENT)
        phones = await stack.enter_async_context(whatsapp())
        app = await stack.enter_async_context(
            laravel(laravel_port, [url] * course.workers, folder, "--api-key", KEY, "--limiter", "1000000")
        )
        await deployed.start_up()
        workers = []
        for n, port in enumerate(ports):
            given = ("--api-key", KEY, "--name", f"w{n}")
            one = worker(port, f"{url}/w/w{n}", folder, phones, *given, scale=course.scale, start=False)
            workers.append(await stack.enter_async_context(one))
        for n in range(course.accounts):
            await app.add(f"s{n}", n, status="connected", phone_number=f"49{n:04}", assigned_instance_url=url)
            log_in(folder / f"profiles-{ports[n % len(ports)]}", f"s{n}", n, f"49{n:04}")

        async def status() -> dict[str, Any]:
            """On a busy machine an answer may take longer than a command waits."""
            told: dict[str, Any] = {}

            async def answered() -> bool:
                with contextlib.suppress(CommandError):
                    told.update(await deployed.status())
                    return True
                return False

            await until(answered, timeout=60, what="status")
            return told

        yield Stage(course, url, app, workers, phones, status)
