"""What the simulation says of a number of sessions and events, as text and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from simulating import check
from simulating.costs import Costs
from simulating.flow import Situation, flow
from simulating.needs import ROOM, Load, ceiling, in_flight, memory, parts
from simulating.region import Loss, recover

GIB = 2**30
_COHORTS = 200  # of a second: enough to see queues, few enough for minutes of millions


def main() -> int:
    options = _options()
    if options.check:
        return check.main(options.seed, options.json)
    costs, cells = Costs(), options.cells
    load = Load(options.sessions // cells, options.events / cells, options.requests / cells, options.lease)
    load = Load(**{**asdict(load), "per_worker": options.per_worker, "receiver": options.receiver})
    found = {
        "cells": cells,
        "parts": [asdict(part) | {"filled": part.filled, "needed": part.needed} for part in parts(load, costs)],
        "memory": asdict(memory(load, costs)),
        "in_flight": in_flight(load),
        "flow": asdict(_flow(load, costs, options)),
        "region": asdict(_region(load, costs, options)),
    }
    _print(load, found, costs, options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--events", type=float, default=100_000.0, help="webhooks a second")
    parser.add_argument("--requests", type=float, default=0.0, help="of Laravel to workers, a second")
    parser.add_argument(
        "--cells", type=int, default=1, help="deployments with a store each, among which they are shared"
    )
    parser.add_argument("--regions", type=int, default=3, help="over which each of them is spread; one is lost")
    parser.add_argument("--gateways", type=int, help="of each; else two, or as many as the load needs")
    parser.add_argument("--per-worker", type=int, default=100, help="sessions of a worker")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--receiver", type=float, default=0.02, help="seconds that a receiver takes for an event")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without the receiver")
    parser.add_argument("--start", type=float, default=Costs().browser_start, help="seconds that one browser takes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="predictions beside what is measured here, in 3 minutes")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _gateways(load: Load, costs: Costs, options: argparse.Namespace) -> int:
    needed = [part.needed for part in parts(load, costs) if part.name == "gateways"]
    return options.gateways or max(2, *needed)


def _flow(load: Load, costs: Costs, options: argparse.Namespace) -> Any:
    """An outage of the receiver within six minutes, with half as many places again as the load needs."""
    relays = max(2, *(part.needed for part in parts(load, costs) if part.name == "relays"))
    cohort = max(1, round(load.events / _COHORTS))
    given = Situation(
        rate=load.events,
        seconds=60.0 + 3 * options.outage,
        receiver=load.receiver,
        concurrency=max(round(1.5 * load.events * load.receiver), cohort),
        sessions=load.sessions,
        gateways=_gateways(load, costs, options),
        relays=relays,
        cohort=cohort,
        away=(30.0, 30.0 + options.outage),
        seed=options.seed,
    )
    return flow(given, costs)


def _region(load: Load, costs: Costs, options: argparse.Namespace) -> Any:
    workers = max(options.regions, round(load.sessions / load.per_worker))
    lost = max(1, workers // options.regions)
    gateways = max(1, _gateways(load, costs, options) * (options.regions - 1) // options.regions)
    loss = Loss(workers, lost, load.per_worker, gateways, load.lease, options.start, options.seed)
    return recover(loss, costs)


def _print(load: Load, found: dict[str, Any], costs: Costs, options: argparse.Namespace) -> None:
    cells = found["cells"]
    print(f"{options.sessions:,} sessions, {options.events:,.0f} events/s, {cells} deployment(s), each with a store\n")
    print(f"of one: {load.sessions:,} sessions, {load.events:,.0f} events/s; of a core {ROOM:.0%} is used at most")
    for part in parts(load, costs):
        bound = f"{part.filled:6.0%} of what one deployment can have; {part.why}" if part.most else part.why
        print(f"  {part.name:36}{part.cores:7.2f} cores busy, {part.needed:4} needed   {bound}")
    first = parts(load, costs)[0]
    print(f"  full first: {first.name}" + ("; it does not fit" if first.filled > 1 else ""))
    sessions, events = ceiling(costs, load.lease)
    print(f"  one deployment has room for {sessions:,} sessions and {events:,} events/s")
    print(f"  deliveries under way: {found['in_flight']:,} at a time, with a receiver of {load.receiver * 1000:.0f} ms")
    print("  memory: " + ", ".join(f"{name} {size / GIB:,.1f} GiB" for name, size in found["memory"].items()))
    went = found["flow"]
    print(
        f"\nthe receiver is away for {options.outage:.0f} s: {went['most_waiting']:,} wait at most, "
        f"drained {went['drained_at'] - 30 - options.outage:.0f} s later; accepted {went['accepted']:,}, "
        f"delivered {went['delivered']:,}"
    )
    back = found["region"]
    print(
        f"one of {options.regions} regions is lost, with {back['sessions']:,} sessions of it: all have an owner after "
        f"{back['granted']:.0f} s, half run after {back['half']:.0f} s, 99 % after {back['most']:.0f} s, all after "
        f"{back['all']:.0f} s; the registry was {back['registry']:.0%} busy"
    )


if __name__ == "__main__":
    sys.exit(main())
