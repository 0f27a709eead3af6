"""The situation that Sluice was made for, before and after: `python benchmarks/scoreboard.py --short`.

Four unmodified workers (tests/contract/worker.py) on one folder of logins, and the application of examples/laravel on a
real Laravel. Before: the workers call Laravel, whose limiter takes 100 webhooks a minute. After: Sluice is between
them, the limiter is Sluice's, and Laravel handles each event once; sessions come in stages. Then there are faults:
planned restarts of gateways (two processes), relay and workers, and in a second round `kill -9` of these and of the
store, while somebody asks for sessions, for Laravel's pages and sends webhooks. Exits with 1 where a bar is missed.

With --short it takes at most five minutes on two quiet cores, else an hour of faults.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from gateway.policies import load
from sluice.http.signatures import sign
from tests.contract.fleet import ENVIRONMENT, KEY, shipped
from tests.contract.real_laravel import RealLaravel, real_laravel
from tests.contract.running import ContractWorker, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.e2e.deployment import Deployment, deployment
from tests.ports import free_ports
from tests.waiting import until

WORKERS, STAGES = 4, (1, 10, 50)
RATE = {"before": 250 / 60, "stages": 5.0, "throughput": 25.0, "faults": 5.0}
"""Messages a second."""
ASKED = 10.0
"""Requests a second while there are faults."""
WITHIN = 10.0
"""Seconds: a request that takes longer is not answered as if nothing were wrong. Laravel waits so long for a create."""
RESTARTED = ("gateway", "relay", "a worker")
KILLED = (*RESTARTED, "store")
HELD_WITHIN = 30.0
"""Seconds for sessions to be back, after the last fault: a worker's dozen takes ten on a quiet machine."""
WEBHOOKS = "/api/whatsapp/webhooks/webjs"


@dataclass(slots=True)
class Side:
    """Workers and Laravel, with or without Sluice between them."""

    app: RealLaravel
    workers: list[ContractWorker]
    phones: WhatsApp
    dice: random.Random
    profiles: Path
    sessions: list[str] = field(default_factory=list)
    emitted: int = 0

    async def receive(self, rate: float, seconds: float) -> None:
        """People write to sessions that are connected, at an even pace."""
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            task = asyncio.create_task(self._one_message())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one_message(self) -> None:
        session = self.dice.choice(self.sessions)
        pids = {one.pid for one in self.phones.connected(session)}
        at = next((one for one in self.workers if one.alive and one.pid in pids), None)
        if at is not None:
            self.emitted += 1
            with contextlib.suppress(httpx2.HTTPError):
                await at.receive(session, identity=f"m{self.emitted}")

    async def settled(self, within: float, quiet: float = 5.0) -> None:
        """Until all have come, or nothing has been saved, answered or given up for `quiet` seconds."""
        ends, last, since = time.monotonic() + within, (-1, -1), time.monotonic()
        while time.monotonic() < ends and last[0] < self.emitted and time.monotonic() < since + quiet:
            await asyncio.sleep(0.2)
            now = self.saved(), sum(one.outcome is None for one in self.phones.emitted.values())
            if now != last:
                last, since = now, time.monotonic()

    def saved(self) -> int:
        """Rows of messages."""
        (row,) = self.app.rows("SELECT COUNT(*) AS number FROM messages WHERE event = 'message_received'")
        return int(row["number"])

    async def restored(self) -> bool:
        """The workers have begun with all their sessions."""
        return not any([(await one.state())["restoring"] for one in self.workers])

    def is_quiet(self) -> bool:
        """Nothing has been said for three seconds, and all of it was answered or given up."""
        said = self.phones.emitted.values()
        return all(one.outcome and one.at < time.monotonic() - 3 for one in said)

    def held(self) -> int:
        return sum(bool(self.phones.connected(session)) for session in self.sessions)

    async def all_held(self, within: float) -> None:
        """Until the workers that were started again have restored their sessions, or the time is over."""
        ends = time.monotonic() + within
        while time.monotonic() < ends and self.held() < len(self.sessions):
            await asyncio.sleep(0.2)

    def arrived(self) -> dict[str, Any]:
        """Of the messages up to now; what a worker was killed with is no webhook that was sent."""
        messages = [one for one in self.phones.emitted.values() if one.event == "message_received" and one.outcome]
        sent = {one.id for one in messages}
        rows = Counter(row["message_id"] for row in self.app.messages())
        phones = Counter(
            (row["workspace_id"], row["phone_number"])
            for row in self.app.accounts().values()
            if row["status"] == "connected" and row["deleted_at"] is None
        )
        return {
            "sent": len(sent),
            "taken": sum((one.outcome or "").startswith("2") for one in messages),
            "arrived": len(sent & rows.keys()),
            "let_go": len((sent & self._let_go()) - rows.keys()),
            "duplicate_rows": rows.total() - len(rows),
            "duplicate_phones": phones.total() - len(phones),
            "conflicts": len(self.phones.ran_twice()),
            "held": self.held(),
        }

    def _let_go(self) -> set[str]:
        """Messages that Laravel was told of and did not save: it asks the worker before, and saves none, behind a 200,
        where that question fails. A gateway that is killed meanwhile cuts it."""
        return set(re.findall(r'"message":"(m\d+)"', self.app.log()))

    def log_in(self, number: int) -> str:
        """An account that was connected before."""
        session = f"s{number}"
        self.app.add(session, number, status="connected", phone_number=f"49{number:04}")
        log_in(self.profiles, session, number, f"49{number:04}")
        self.sessions.append(session)
        return session


async def before(folder: Path, free_port: Callable[[], int], seconds: float, seed: int) -> dict[str, Any]:
    port = free_port()
    async with AsyncExitStack() as stack:
        phones = await stack.enter_async_context(whatsapp())
        ports = [free_port() for _ in range(WORKERS)]
        settings = {"WHATSAPP_HMAC_RATE_LIMIT": "100", "WHATSAPP_NODE_API_KEY": KEY}
        settings |= {f"WHATSAPP_INSTANCE_{n + 1}": f"http://127.0.0.1:{one}" for n, one in enumerate(ports)}
        app = await stack.enter_async_context(real_laravel(port, f"http://127.0.0.1:{ports[0]}", folder, **settings))
        side = Side(app, [], phones, random.Random(seed), folder / "profiles")
        for number in range(STAGES[-1]):
            side.log_in(number)
        for n, one in enumerate(ports):
            made = _worker(one, app.url, folder, phones, n, scale=0.02)
            side.workers.append(await stack.enter_async_context(made))
        await asyncio.gather(*(one.start() for one in side.workers))
        await until(side.restored, timeout=120, what="the workers to have begun with all sessions")
        await until(side.is_quiet, timeout=120, what="what they say of their start to be answered")
        await app.artisan("cache:clear")  # the limiter as after a quiet minute, not used up by these starts
        began = time.monotonic()
        await side.receive(RATE["before"], seconds)
        taken = time.monotonic() - began
        await side.settled(30, quiet=6)  # a worker repeats a webhook after 4 s at most
        found = side.arrived()
        return found | {"per_minute": found["arrived"] / taken * 60, "seconds": taken}


def _worker(port: int, laravel: str, folder: Path, phones: WhatsApp, number: int, *, scale: float = 0.1) -> Any:
    """`instance`: as Laravel's settings call it."""
    given = ("--api-key", KEY, "--name", f"w{number}", "--profiles", str(folder / "profiles"))
    instance = ("--instance", f"http://127.0.0.1:{port}")
    return worker(port, laravel, folder, phones, *given, *instance, scale=scale, start=False)


@dataclass(slots=True)
class After:
    side: Side
    deployed: Deployment
    faults: Counter[str] = field(default_factory=Counter)
    _next: list[str] = field(default_factory=list)

    async def stages(self, seconds: float) -> dict[str, tuple[int, int]]:
        """Sessions come behind Sluice; of each stage how many of its messages arrived, and how many were sent."""
        found = {}
        for stage in STAGES:
            known = len(self.side.sessions)
            at_once = asyncio.Semaphore(WORKERS)
            await asyncio.gather(*(self._create(self.side.log_in(n), at_once) for n in range(known, stage)))
            await until(self._all_connected, timeout=120, what="the sessions to be connected")
            before = self.side.arrived()
            await self.side.receive(RATE["stages"], seconds)
            await self.side.settled(60)
            now = self.side.arrived()
            found[str(stage)] = now["arrived"] - before["arrived"], now["sent"] - before["sent"]
        return found

    async def throughput(self, seconds: float) -> float:
        """Messages a minute that became rows, with the last of them."""
        before, began = self.side.saved(), time.monotonic()
        await self.side.receive(RATE["throughput"], seconds)
        await self.side.settled(120)
        return (self.side.saved() - before) / (time.monotonic() - began) * 60

    async def under(self, fault: Callable[[], Awaitable[None]], seconds: float) -> dict[str, Any]:
        """A fault each 6 to 10 s, messages and requests meanwhile."""
        asked: Counter[str] = Counter()
        tasks = [asyncio.create_task(self.side.receive(RATE["faults"], seconds))]
        tasks.append(asyncio.create_task(self._ask(asked, seconds)))
        self.faults.clear()
        self._next.clear()
        ends = time.monotonic() + seconds - 5
        while time.monotonic() < ends:
            await asyncio.sleep(self.side.dice.uniform(6, 10))
            await fault()
        await asyncio.gather(*tasks)
        well = asked.pop("well", 0)
        return {"requests": well + asked.total(), "well": well, "others": dict(asked), "faults": dict(self.faults)}

    async def restart(self) -> None:
        """As at a deployment: SIGTERM, and the next one when it has been started again."""
        before = self._starts()
        if await self._fault(signal.SIGTERM, RESTARTED) != "a worker":
            await until(lambda: self._starts() > before, timeout=60, what="what was restarted")

    async def kill(self) -> None:
        await self._fault(signal.SIGKILL, KILLED)

    def _starts(self) -> int:
        """Of gateways and relays, by their logs."""
        logs = (self.deployed.file.parent / "data" / "logs").glob("*.jsonl")
        return sum(log.read_text(errors="replace").count('.started"') for log in logs)

    async def _fault(self, number: int, victims: Sequence[str]) -> str:
        if not self._next:  # each in turn, in an order by chance
            self._next = self.side.dice.sample(victims, len(victims))
        victim = self._next.pop()
        self.faults[victim] += 1
        if victim == "a worker":
            one = self.side.dice.choice(self.side.workers)
            await (one.kill() if number == signal.SIGKILL else one.terminate())
            await one.start()
            return victim
        names = {"store": "valkey-server", "gateway": "sluice gateway", "relay": "sluice relay"}
        pids = [pid for pid in self.deployed.family()[1:] if names[victim] in _command_line(pid)]
        if pids:  # none is there while it is started again
            os.kill(self.side.dice.choice(pids), number)
        return victim

    async def _ask(self, asked: Counter[str], seconds: float) -> None:
        """A session's status, a page of Laravel, a webhook, in turn; what came of each."""
        under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in range(round(ASKED * seconds)):
            await asyncio.sleep(max(0.0, began + number / ASKED - time.monotonic()))
            task = asyncio.create_task(self._one_request(number, asked))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one_request(self, number: int, asked: Counter[str]) -> None:
        session = self.side.dice.choice(self.side.sessions)
        url, kind = self.deployed.gateway, ("status", "page", "webhook")[number % 3]
        try:
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=WITHIN) as http:
                if kind == "status":
                    answer = await http.get(f"/api/sessions/{session}/status", params={"api_key": KEY})
                elif kind == "page":
                    answer = await http.get("/api/whatsapp/accounts/active")
                else:
                    data = {"session_id": session, "workspace_id": 1, "contact_id": str(number), "is_typing": True}
                    body = json.dumps({"event": "typing_indicator", "data": data}).encode()
                    headers = dict(sign(self.deployed.policies.signatures["workers"], body, time.time()))
                    answer = await http.post(WEBHOOKS, content=body, headers=headers)
            asked["well" if answer.status_code in (200, 202) else f"{kind}: {answer.status_code}"] += 1
        except httpx2.HTTPError as error:
            asked[f"{kind}: {type(error).__name__}"] += 1

    async def _create(self, session: str, at_once: asyncio.Semaphore) -> None:
        fields = {"session_id": session, "workspace_id": int(session[1:]), "account_id": 1, "api_key": KEY}
        http = httpx2.AsyncClient(base_url=self.deployed.gateway, trust_env=False, timeout=60)
        async with at_once, http:
            answer = await http.post("/api/sessions", json=fields)
            assert answer.status_code == 200, answer.text

    def _all_connected(self) -> bool:
        rows = self.side.app.accounts()
        at_laravel = all(rows[session]["assigned_instance_url"] == self.deployed.gateway for session in rows)
        return at_laravel and all(self.side.phones.connected(session) for session in self.side.sessions)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@asynccontextmanager
async def after(folder: Path, free_port: Callable[[], int], seed: int) -> AsyncIterator[After]:
    gateway, port = free_port(), free_port()
    ports = [free_port() for _ in range(WORKERS)]
    url = f"http://127.0.0.1:{gateway}"
    known = [
        {"name": f"w{n}", "url": f"http://127.0.0.1:{one}", "key": "env:NODE_KEY", "prefix": f"/w/w{n}"}
        for n, one in enumerate(ports)
    ]
    written = shipped("embedded", gateway, port, known, advertise=url, shared_profiles=True)
    written["store"] = {"url": "embedded", "promise": "always"}  # a killed store may lose two seconds of `second`
    written["data"] = str(folder / "data")
    receiver = written["relay"]["endpoints"]["laravel"]
    receiver |= {"url": f"http://127.0.0.1:{port}/api/sluice/once", "rate": "2000/minute"}
    settings = {"WHATSAPP_HMAC_RATE_LIMIT": "1000000000", "WHATSAPP_NODE_API_KEY": KEY}
    async with AsyncExitStack() as stack:
        deployed = await stack.enter_async_context(deployment(folder, (gateway, port)))
        deployed.file.write_text(yaml.safe_dump(written))
        deployed.policies = load(deployed.file, environment=ENVIRONMENT)
        deployed.environment.update(ENVIRONMENT)
        phones = await stack.enter_async_context(whatsapp())
        app = await stack.enter_async_context(real_laravel(port, url, folder, **settings))
        await deployed.start_up("--processes", "2")
        side = Side(app, [], phones, random.Random(seed), folder / "profiles")
        for n, one in enumerate(ports):
            side.workers.append(await stack.enter_async_context(_worker(one, f"{url}/w/w{n}", folder, phones, n)))
        await asyncio.gather(*(one.start() for one in side.workers))
        yield After(side, deployed)


async def board(folder: Path, free_port: Callable[[], int], chosen: argparse.Namespace) -> dict[str, Any]:
    for name in ("before", "after"):
        (folder / name).mkdir()
    found: dict[str, Any] = {"before": await before(folder / "before", free_port, chosen.before, chosen.seed)}
    _progress(found["before"])
    async with after(folder / "after", free_port, chosen.seed) as made:
        found["stages"] = await made.stages(min(chosen.seconds / 8, 30.0))
        _progress(found["stages"], *made.side.phones.ran_twice())
        found["per_minute"] = await made.throughput(min(chosen.seconds / 2, 60.0))
        _progress(found["per_minute"])
        found["restarts"] = await made.under(made.restart, chosen.seconds)
        _progress(found["restarts"])
        await made.side.settled(120)
        await made.side.all_held(HELD_WITHIN)
        found["after"] = made.side.arrived()
        _progress(found["after"], *made.side.phones.ran_twice())
        found["kills"] = await made.under(made.kill, chosen.seconds)
        _progress(found["kills"])
        await made.side.settled(120, quiet=20)  # longer than what is started again and tried again takes
        await made.side.all_held(HELD_WITHIN)
        found["after_kills"] = made.side.arrived()
        _progress(found["after_kills"], *made.side.phones.ran_twice())
    return found


def _progress(*found: object) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {' '.join(map(str, found))}\n")


def _figures(found: dict[str, Any]) -> Iterator[Figure]:
    was, now, killed = found["before"], found["after"], found["after_kills"]
    yield Figure("before: webhooks of messages that Laravel took", _percent(was["taken"], was["sent"]))
    yield Figure("before: messages that it kept, too", _percent(was["arrived"], was["sent"]))
    yield Figure("before: messages a minute", round(was["per_minute"]))
    yield Figure("before: session conflicts", was["conflicts"])
    for stage, (arrived, sent) in found["stages"].items():
        what = f"with {stage} of {STAGES[-1]} sessions behind Sluice: webhooks that arrived"
        yield Figure(what, _percent(arrived, sent), wanted="100%", met=arrived == sent > 0)
    minute = found["per_minute"]
    what = f"messages a minute, of {RATE['throughput'] * 60:,.0f} that come"
    yield Figure(what, round(minute), wanted="at least 1,000", met=minute >= 1000)
    for name, one, asked, victims in (
        ("planned restarts", now, found["restarts"], RESTARTED),
        ("kill -9", killed, found["kills"], KILLED),
    ):
        all_of_them = set(victims) <= asked["faults"].keys()
        yield Figure(f"{name}: of what", _listed(asked["faults"]), wanted="each at least once", met=all_of_them)
        came = one["arrived"] + one["let_go"]
        yield Figure(
            f"{name}: webhooks that arrived", _percent(came, one["taken"]), wanted="100%", met=came == one["taken"]
        )
        what = f"{name}: of these not saved by Laravel, whose own question to the worker failed"
        yield Figure.none_of(what, one["let_go"]) if one is now else Figure(what, one["let_go"])
        yield Figure(f"{name}: webhooks in the hands of a killed gateway", one["sent"] - one["taken"])
        yield Figure.none_of(f"{name}: session conflicts", one["conflicts"])
        yield Figure.none_of(f"{name}: duplicate phones", one["duplicate_phones"])
        yield Figure.none_of(f"{name}: duplicate rows", one["duplicate_rows"])
        yield Figure(f"{name}: sessions held", one["held"], wanted=str(STAGES[-1]), met=one["held"] >= STAGES[-1])
    calm, hard = found["restarts"], found["kills"]
    well, requests = calm["well"], calm["requests"]
    what = "planned restarts: requests answered as if nothing were wrong"
    yield Figure(what, _percent(well, requests), wanted="at least 99.9%", met=well >= 0.999 * requests)
    yield Figure("kill -9: requests answered as if nothing were wrong", _percent(hard["well"], hard["requests"]))
    for name, one in (("planned restarts", calm), ("kill -9", hard)):
        yield Figure(f"{name}: requests answered otherwise", _listed(one["others"]))


def _percent(part: int, whole: int) -> str:
    return f"{math.floor(10000 * part / whole) / 100:g}% of {whole:,}" if whole else "none was sent"


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items()) or "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="at most five minutes")
    parser.add_argument("--seconds", type=float, help="of each round of faults; 40 with --short, else 1800")
    parser.add_argument("--before", type=float, default=60.0, help="seconds without Sluice")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    chosen.seconds = chosen.seconds or (40.0 if chosen.short else 1800.0)
    temporary = tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, free_ports() as free_port:
        found = asyncio.run(board(Path(folder), free_port, chosen))
    figures = list(_figures(found))
    sys.stdout.write("\n".join(one.line() for one in figures) + "\n")
    tell(figures)
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    sys.exit(main())
