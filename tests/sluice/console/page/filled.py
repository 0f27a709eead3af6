"""A deployment in which every view of the page has something to show, and hostile text wherever strangers write."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import orjson

from gateway.alerts.board import Board, Memory, Notification, ReceiverState, silence
from gateway.alerts.decide import Alert, Silence
from gateway.resources import Resources
from relay import presence
from relay.circuit import Report
from relay.process import open_circuit
from sessions.existing import WatchedWorker
from sessions.registry import ObservedSession, Worker
from sluice.config.problems import Problem
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.observe.audit_file import path_in
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.sessions.making import place
from tests.sluice.console.deployment import parts_on, policies_in
from tests.sluice.console.test_acting import bury

HOSTILE = '<img src=x onerror="document.title=1">\u202e\x1b[2J"\'&amp;\u2066'
MORE = """console: {token: env:TOKEN, read: env:VAULT_KEY}
sessions: {workers: [{name: kurt, url: "http://127.0.0.1:3100", key: env:VAULT_KEY}]}
alerts:
  receivers: {ops: {command: [/bin/true]}}
  rules: [{when: circuit_open, to: ops}, {when: session_disputed, to: ops}]
"""


async def filled(store: Store, folder: Path) -> Resources:
    policies = policies_in(folder, MORE)
    silent = WatchedWorker("kurt", "http://127.0.0.1:3100", True, f"it answered 500 {HOSTILE}", 0.0)
    parts = replace(parts_on(store, policies), watched=lambda: [silent])
    mistake = Problem(3, 5, f"limits.{HOSTILE}", f"unknown key {HOSTILE}", "take it out")
    parts.live.problems = (mistake,)
    await presence.report(store, "relay-1")
    await _deliveries(parts)
    await _sessions(parts)
    await _told(store)
    await _counted(store)
    _audited(path_in(policies.data))
    return parts


async def _deliveries(parts: Resources) -> None:
    queue = parts.queues["laravel"]
    for number in range(4):
        await bury(parts, f"evt_dead_{number}", session=f"shop-{number}", body=b'{"to":"49170","text":"hello"}')
    body = f'{{"text": "{HOSTILE}'.encode()
    await bury(parts, HOSTILE, type=HOSTILE, session=HOSTILE, body=body, headers=((b"X-A", HOSTILE.encode()),))
    for number in range(4):
        await accept(queue, event(f"shop-{number}", id=f"evt_waits_{number}", type="message_status_updated"))
    await accept(queue, event(HOSTILE, id=f"{HOSTILE}2", type=HOSTILE))
    circuit = open_circuit(parts.store, parts.policies.relay.endpoints["laravel"])
    report = Report()
    report.note_status(500, 40)
    report.note_status(None, 2)
    await circuit.admit(1, [(0, report)])
    await circuit.hold("open", f"moved {HOSTILE}")


async def _sessions(parts: Resources) -> None:
    registry = parts.registry
    await registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 50))
    await registry.register(Worker("w2", "1", f"http://127.0.0.1:3102/{HOSTILE}", 50))
    for number in range(6):
        await place(registry, f"shop-{number}", {"workspace_id": number % 2})
    await place(registry, HOSTILE, {"workspace_id": HOSTILE, "note": HOSTILE})
    states = ("connected", "qr_scanning", "disconnected", HOSTILE)
    found = {f"old-{i}": ObservedSession(state, f"4917012345{i}", {}) for i, state in enumerate(states)}
    found[f"old-{HOSTILE}"] = ObservedSession("connected", HOSTILE, {"workspace_id": HOSTILE})
    await registry.observe(Worker("kurt", "1", "http://127.0.0.1:3100", 50), found)


async def _told(store: Store) -> None:
    now = time.time()
    notified = {"ops": now - 60}
    wrong = Alert("circuit_open", "laravel", f"it is open {HOSTILE}", now - 600, fires=True, notified=notified)
    hostile = Alert("session_disputed", HOSTILE, f"session {HOSTILE} runs twice", now - 30)
    memory = Memory(
        {(one.rule, one.subject): one for one in (wrong, hostile)},
        {"ops": ReceiverState(failing_since=now - 60, failures=3, why=HOSTILE)},
    )
    told = Notification(now - 60, "ops", "firing", wrong.kind, HOSTILE, wrong.text)
    await Board(store, "gateway-1", "web-1").keep(0, memory.encode(), [told])
    await silence(store, "session_disputed", HOSTILE, Silence("session_disputed", HOSTILE, now + 3600, HOSTILE))


async def _counted(store: Store) -> None:
    """Traffic of the last minutes, for the charts."""
    for step in range(60):
        values = [
            Value("sum", Series("requests", "", "2xx"), 100 + 40 * (step % 4)),
            Value("sum", Series("deliveries", "laravel", "delivered"), 30 + 5 * (step % 3)),
            Value("max", Series("waiting", "laravel", "waiting"), step % 7),
            Value("sum", Series("limits", "typing", "allowed"), 20 + step),
        ]
        await store.run_all([note("gateway-1", step + 1, (60 - step) * 10.0, values)])


def _audited(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "at": "2026-11-30T12:00:00Z",
        "who": "operator",
        "from": "127.0.0.1",
        "through": "page",
        "result": {"held": 1},
    }
    hold = {**line, "action": "hold_circuit", "request": {"endpoint": "laravel", "hold": "open", "why": HOSTILE}}
    wrong = {**dict.fromkeys(("who", "from", "through", "action"), HOSTILE), "at": line["at"]}
    hostile = {**wrong, "request": {HOSTILE: HOSTILE}, "error": HOSTILE}
    file.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in (hold, hostile)))
