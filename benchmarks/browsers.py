"""What sessions in browsers of their own cost: memory, time to start and to move, idle CPU.

One worker runs `--sessions` of them on the stand-in for WhatsApp Web (default: as many as the free memory has room for,
50 at most). The real page takes more than the stand-in: what is measured here is the browser, the library and us.

1. A session whose login has 20 MB (`--mib`) is restored on another machine: its size, the time to save it, and from its
   grant to connected. With `--sessions 0` that is all: `--mib 300` takes less than 5 minutes.
2. All sessions are paired: PSS of the browsers, of each; CPU of all while nothing happens.
3. The worker stops, which saves all of them, and starts again: time until all are connected.
4. `--minutes 30`: memory after that time.

Exits with 1 if a bar is missed. 12 sessions take 5 minutes on two busy cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from sessions.profiles.in_use import use_of
from sluice.process.descendants import descendants
from tests.failover.deployment import Deployment, deployment
from tests.ports import free_ports
from tests.waiting import until

_EACH, _SPARE = 160 * 2**20, 2 * 2**30
_MOST = 50
_IDLE = 30.0
_WITHIN = 900.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=_room())
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--mib", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp") as folder, free_ports() as free_port:
        made = _measure(Path(folder), free_port, chosen.sessions, chosen.minutes * 60, chosen.mib)
        return tell(asyncio.run(made))


def _room() -> int:
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return max(1, min(_MOST, (int(free.split()[1]) * 1024 - _SPARE) // _EACH))


async def _measure(folder: Path, free_port: Callable[[], int], count: int, seconds: float, mib: int) -> list[Figure]:
    async with deployment(folder, free_port, lease=15.0, per_worker=_MOST + 1) as made:
        login = Figure.at_most(f"a login of {mib} MB, from its grant to connected", await _move(made, mib), 5, "s")
        if not count:
            return [login]
        await made.workers["w2"].terminate(within=_WITHIN)
        await made.runs("moved", "w1")
        names = [f"s{number}" for number in range(count)]
        began = time.monotonic()
        for number, name in enumerate(names):
            await made.paired(name, f"6281200{number:04}")
        print(f"{count} sessions were paired, one after the other, in {time.monotonic() - began:.0f} s", flush=True)
        before = await _rest(made, names, "after the first minute")
        await made.workers["w1"].terminate(within=_WITHIN)
        began = time.monotonic()
        await made.start_worker("w1")
        phones = [made.phones[name] for name in names]

        def all_connected() -> bool:
            return all((made.whatsapp.connected_since(phone) or 0.0) > began for phone in phones)

        await until(all_connected, timeout=_WITHIN)
        started = time.monotonic() - began
        print(f"started again: all {count} connected after {started:.0f} s", flush=True)
        at_rest = await _rest(made, names, "after a start")
        figures = [
            Figure.at_most("memory of a session (PSS)", round(at_rest.each), 140, "MB"),
            Figure.at_most(f"started again, all {count} connected", round(started), 120, "s"),
            Figure.at_most("idle, all browsers, of a core", round(at_rest.browsers, 1), 10, "%"),
            Figure("idle, worker and driver, of a core", round(at_rest.worker, 1), "%"),
            login,
        ]
        if seconds:
            await asyncio.sleep(seconds)
            after = await _rest(made, names, f"after {seconds / 60:.0f} minutes")
            changed = 100 * (after.each / before.each - 1)
            print(f"memory changed by {changed:+.1f} %")
            figures.append(
                Figure.at_most(f"memory, changed after {seconds / 60:.0f} minutes", round(abs(changed), 1), 5, "%")
            )
        return figures


async def _move(made: Deployment, mib: int) -> float:
    """Seconds from its grant to connected."""
    made.whatsapp.modes["628119"] = {"mib": mib}
    await made.paired("moved", "628119")
    owner, _, _ = await made.owner("moved")
    assert owner is not None
    (other,) = made.workers.keys() - {owner}
    began = time.monotonic()
    await made.workers[owner].terminate(within=_WITHIN)
    saved = time.monotonic() - began
    size = sum(file.lstat().st_size for file in made.profile("moved", owner).rglob("*"))
    fence = await made.runs("moved", other, since=began)
    ago = time.time() - fence / 1e6
    connected = time.monotonic() - (made.whatsapp.connected_since("628119") or 0.0)
    print(
        f"a login of {mib} MB, its profile has {size / 2**20:.0f} MiB: closed and saved in {saved:.1f} s; on another "
        f"machine {ago - connected:.1f} s from its grant to connected",
        flush=True,
    )
    await made.start_worker(owner)
    return round(ago - connected, 1)


@dataclass(frozen=True, slots=True)
class Rest:
    each: float
    """MB of a browser."""
    browsers: float
    worker: float
    """Per cent of a core."""


async def _rest(made: Deployment, names: list[str], when: str) -> Rest:
    await asyncio.sleep(_IDLE)
    heads = [use_of(made.profile(name, "w1")).pid for name in names]
    browsers = {pid for head in heads for pid in (head, *descendants(head))}
    worker = {pid for head in heads[:1] for pid in _above(head)}
    used = _cpu(browsers), _cpu(worker)
    await asyncio.sleep(_IDLE)
    idle, ours = ((_cpu(which) - before) / _IDLE * 100 for which, before in zip((browsers, worker), used, strict=True))
    each = sum(map(_pss, browsers)) / len(names)
    print(f"{when}: {each:.0f} MiB each, {each * len(names) / 1024:.1f} GiB in {len(browsers)} processes; ", end="")
    print(f"idle: browsers {idle:.1f} % of a core, worker and driver {ours:.1f} %", flush=True)
    return Rest(each * 2**20 / 1e6, idle, ours)


def _above(pid: int) -> list[int]:
    """The driver and the worker."""
    found: list[int] = []
    while len(found) < 2:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        found.append(pid)
    return found


def _pss(pid: int) -> float:
    """MiB."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _cpu(pids: set[int]) -> float:
    """Seconds of all of them."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
