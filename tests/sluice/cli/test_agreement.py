"""API, command line on the store, and command line on a gateway: each verb answers the same and refuses the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette

from gateway.alerts.board import silence
from gateway.alerts.decide import Silence
from gateway.policies import edits, load
from gateway.resources import Resources
from relay.process import open_queue
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue, Settlement
from sessions.registry import Registry, Worker
from sluice.cli.main import main
from sluice.console import http as api
from sluice.console.operations import API, OPERATIONS
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LATER = "2100-01-01T00:00:00Z"
READS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "find_dead_letters": ("find", ("dead", "list"), "/dead"),
    "find_some": ("find", ("dead", "list", "--limit", "1", "--text", "49170"), "/dead?limit=1&text=49170"),
    "find_none": ("find", ("dead", "list", "--since", LATER), f"/dead?since={LATER}"),
    "show_dead_letter": ("show", ("dead", "show", "evt_1"), "/dead/-/evt_1"),
    "show_one_of_two": ("show", ("dead", "show", "evt/3", "--endpoint", "audit"), "/dead/audit/evt%2F3"),
    "list_waiting": ("list", ("queue", "list"), "/queue"),
    "list_some_waiting": ("list", ("queue", "list", "--session", "s3", "--limit", "1"), "/queue?session=s3&limit=1"),
    "show_waiting": ("show", ("queue", "show", "evt_gone_1"), "/queue/-/evt_gone_1"),
    "list_circuits": ("list", ("circuit", "list"), "/circuits"),
    "nearest_limits": ("list", ("limits", "nearest"), "/limits/nearest"),
    "show_policies": ("show", ("policies", "show"), "/policies"),
    "show_limits": ("list", ("limits", "show", "--session", "s1"), "/limits?session=s1"),
    "find_events": ("find", ("event", "find", "--session", "s2"), "/events?session=s2"),
    "show_event": ("show", ("event", "evt_1"), "/events/evt_1"),
    "list_sessions": ("list", ("sessions", "list"), "/sessions"),
    "list_orphans": ("list", ("sessions", "list", "--orphaned"), "/sessions?orphaned=true"),
    "list_of_workspace": ("list", ("sessions", "list", "--workspace", "7"), "/sessions?workspace=7"),
    "list_searched": ("list", ("sessions", "list", "--search", "S/"), "/sessions?search=S/"),
    "watch_sessions": ("list", ("sessions", "watch"), "/unhealthy"),
    "list_alerts": ("list", ("alerts", "list"), "/alerts"),
    "show_session": ("show", ("sessions", "show", "s/1"), "/sessions/s%2F1"),
    "list_audit": ("list", ("audit", "--limit", "3"), "/audit?limit=3"),
}
CHANGES: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "dry_run": (("dead", "replay", "--all", "--dry-run"), "/dead/replay", {"all": True, "dry_run": True}),
    "replay_dead_letters": (("dead", "replay", "evt_2", "evt_1"), "/dead/replay", {"ids": ["evt_2", "evt_1"]}),
    "replay_by_session": (("dead", "replay", "--session", "s2"), "/dead/replay", {"session": "s2"}),
    "drop_dead_letters": (("dead", "drop", "--all", "--yes"), "/dead/drop", {"all": True, "confirm": True}),
}
HOLDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "hold_circuit": (("hold", "laravel", "open", "--why", "moving"), {"hold": "open", "why": "moving"}),
    "hold_closed": (("hold", "laravel", "closed"), {"hold": "closed"}),
    "release": (("release", "laravel"), {"hold": None}),
}
OF_SUBJECTS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "reset_limits": (("reset", "--session", "s1"), "/limits/reset", {"session": "s1"}),
    "release_delayed": (("release", "--session", "s1"), "/limits/release", {"session": "s1"}),
}
OF_EVENTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "resend_planned": (("evt_kept",), {"ids": ["evt_kept"], "dry_run": True}),
    "resend_events": (("evt_kept", "--yes"), {"ids": ["evt_kept"]}),
    "resend_by_session": (("--session", "s4", "--yes"), {"session": "s4"}),
}
OF_QUEUES: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "skip_waiting": (("skip", "evt_gone_0", "--until", LATER), "/queue/skip", {"ids": ["evt_gone_0"], "until": LATER}),
    "drop_waiting": (
        ("drop", "--session", "s3", "--until", LATER, "--yes"),
        "/queue/drop",
        {"session": "s3", "until": LATER, "confirm": True},
    ),
    "move_planned": (("move", "gone", "laravel"), "/queue/move", {"old": "gone", "new": "laravel", "dry_run": True}),
    "move_queue": (
        ("move", "gone", "laravel", "--yes"),
        "/queue/move",
        {"old": "gone", "new": "laravel", "confirm": True},
    ),
}
OF_SESSIONS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "create_session": (
        ("create", "s3", "--workspace", "7", "--dry-run"),
        "/created/s3",
        {"workspace": "7", "dry_run": True},
    ),
    "log_out_session": (("logout", "s/1", "--dry-run"), "/logouts/s%2F1", {"dry_run": True}),
    "delete_planned": (("delete", "s/1", "--dry-run"), "/deleted/s%2F1", {"dry_run": True}),
    "delete_session": (("delete", "s2", "--yes"), "/deleted/s2", {"confirm": True}),
    "forget_session": (("forget", "s2", "--yes"), "/forgotten/s2", {"confirm": True}),
    "forget_planned": (("forget", "s2", "--dry-run"), "/forgotten/s2", {"dry_run": True}),
    "move_session": (("move", "s2", "--to", "w1"), "/moves/s2", {"to": "w1"}),
    "clean_sessions": (("clean", "--dry-run"), "/cleaning", {"dry_run": True}),
    "clean_duplicates": (("clean", "--duplicates", "--dry-run"), "/cleaning/duplicates", {"dry_run": True}),
    "clean_accounts": (
        ("import", "FOLDER/accounts.csv", "--clean", "--dry-run"),
        "/cleaning/accounts",
        {"accounts": [{"session": one, "workspace": "7"} for one in ("s/1", "s9", "ended")], "dry_run": True},
    ),
    "rebalance_sessions": (("rebalance", "--dry-run"), "/rebalancing", {"dry_run": True}),
    "restart_planned": (("restart", "s/1", "--dry-run"), "/restarts/s%2F1", {"dry_run": True}),
    "restart_session": (("restart", "s/1"), "/restarts/s%2F1", {}),
    "restore_session": (("restore", "ended"), "/restored/ended", {}),
    "release_session": (("release", "s/1", "--force"), "/releases/s%2F1", {"force": True}),
}
OF_ALERTS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "test_alerts": (("test", "chat"), "/alerts/test", {"receiver": "chat"}),
    "silence_alerts": (
        ("silence", "circuit_open", "--subject", "lar*", "--for", "2h", "--why", "moving"),
        "/alerts/silence",
        {"kind": "circuit_open", "subject": "lar*", "seconds": 7200, "why": "moving"},
    ),
    "unsilence_alerts": (("unsilence", "dead_letters"), "/alerts/unsilence", {"kind": "dead_letters"}),
}
OF_TEXTS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "explain_request": (
        ("explain", "--method", "post", "--path", "/hook?a=1", "--header", "X-A: 1", "--body", "{}"),
        "/explain",
        {"method": "post", "path": "/hook?a=1", "headers": ["X-A: 1"], "body": "{}"},
    ),
    "try_policies": (("policies", "try", "FILE"), "/policies/try", {"text": "version: 1\n"}),
    "try_wrong_policies": (("policies", "try", "FILE"), "/policies/try", {"text": "version: 1\nlimit: \x1b[2J\n"}),
}
OF_WORKERS: dict[str, tuple[tuple[str, ...], str, dict[str, Any]]] = {
    "drain_worker": (("drain", "w1"), "/drains/w1", {}),
    "drain_planned": (("drain", "w1", "--dry-run"), "/drains/w1", {"dry_run": True}),
    "take_back": (("take-back", "w1"), "/drains/w1", {"drain": False}),
}
OF_VAULTS: dict[str, tuple[tuple[str, ...], str, dict[str, Any] | None]] = {
    "list_profiles": (("list",), "/vault/sessions", None),
    "show_profile": (("show", "s1"), "/vault/sessions/s1", None),
    "verify_profiles": (("verify",), "/vault/verify", None),
    "prune_profiles": (("prune", "--yes"), "/vault/prune", {"dry_run": True}),
    "rekey_profiles": (("rekey", "--yes"), "/vault/rekey", {"dry_run": True}),
    "delete_profile": (("delete", "s1", "--yes"), "/vault/delete/s1", {"dry_run": True}),
    "undelete_profile": (("undelete", "s1"), "/vault/undelete/s1", {"dry_run": True}),
}
REFUSED: dict[str, tuple[tuple[str, ...], str, dict[str, Any] | None, int]] = {
    "no such dead letter": (("dead", "show", "evt_9"), "/dead/-/evt_9", None, 404),
    "a dead letter at two endpoints": (("dead", "show", "evt/3"), "/dead/-/evt%2F3", None, 409),
    "a strange name": (("dead", "show", "\x1b[2J"), "/dead/-/%1b%5b2J", None, 404),
    "no such endpoint": (("dead", "list", "--endpoint", "larvel"), "/dead?endpoint=larvel", None, 404),
    "which that wait are not said": (("queue", "skip"), "/queue/skip", {}, 400),
    "an id that does not wait": (("queue", "skip", "evt_1"), "/queue/skip", {"ids": ["evt_1"]}, 404),
    "a page that is none": (("queue", "list", "--after", "x"), "/queue?after=x", None, 400),
    "a queue that is none": (
        ("queue", "move", "gnoe", "laravel"),
        "/queue/move",
        {"old": "gnoe", "new": "laravel", "dry_run": True},
        404,
    ),
    "no such limit that is near": (("limits", "nearest", "--limit", "x"), "/limits/nearest?limit=x", None, 404),
    "no such listener": (("explain", "--path", "/", "--on", "x"), "/explain", {"path": "/", "on": "x"}, 404),
    "no such limit": (("limits", "show", "--limit", "x"), "/limits?limit=x", None, 404),
    "nobody's limits": (("limits", "reset"), "/limits/reset", {}, 400),
    "events that are not said": (("event", "find"), "/events", None, 400),
    "no such event": (("event", "evt_9"), "/events/evt_9", None, 404),
    "which to send once more is not said": (("event", "resend"), "/events/resend", {"dry_run": True}, 400),
    "one that was not delivered": (
        ("event", "resend", "evt_1"),
        "/events/resend",
        {"ids": ["evt_1"], "dry_run": True},
        404,
    ),
    "no such session": (("sessions", "show", "s9"), "/sessions/s9", None, 404),
    "no session whose code could be shown": (("sessions", "qr", "s9"), "/qr/s9", None, 404),
    "no session that could be paired": (
        ("sessions", "pair", "s2", "--phone", "4917012345"),
        "/pairing/s2",
        {"phone": "4917012345"},
        409,
    ),
    "a phone that is none": (
        ("sessions", "pair", "s2", "--phone", "\x1b[2J"),
        "/pairing/s2",
        {"phone": "\x1b[2J"},
        400,
    ),
    "no worker that would create it": (
        ("sessions", "create", "s9", "--workspace", "7"),
        "/created/s9",
        {"workspace": "7"},
        409,
    ),
    "nobody who would log it out": (("sessions", "logout", "s2", "--yes"), "/logouts/s2", {"dry_run": True}, 409),
    "no such session to forget": (
        ("sessions", "forget", "s9", "--yes"),
        "/forgotten/s9",
        {"confirm": True},
        404,
    ),
    "no such worker to drain": (("workers", "drain", "w9"), "/drains/w9", {}, 404),
    "no such endpoint to try": (("event", "try", "larvel"), "/tries/larvel", {}, 404),
    "a path that is none": (
        ("event", "try", "laravel", "--path", "hooks"),
        "/tries/laravel",
        {"path": "hooks"},
        400,
    ),
    "an event type that is none": (
        ("event", "try", "laravel", "--type", "\x1b[2J"),
        "/tries/laravel",
        {"event": "\x1b[2J"},
        400,
    ),
    "no such worker": (("sessions", "move", "s2", "--to", "w9"), "/moves/s2", {"to": "w9"}, 404),
    "no such circuit": (("circuit", "hold", "larvel", "open"), "/circuits/larvel", {"hold": "open"}, 404),
    "which are not said": (("dead", "replay"), "/dead/replay", {}, 400),
    "said twice": (
        ("dead", "drop", "evt_1", "--all"),
        "/dead/drop",
        {"ids": ["evt_1"], "all": True, "confirm": True},
        400,
    ),
    "an id that is not dead": (("dead", "replay", "evt_1", "evt_9"), "/dead/replay", {"ids": ["evt_1", "evt_9"]}, 404),
    "too many at once": (
        ("dead", "replay", *map(str, range(1001))),
        "/dead/replay",
        {"ids": [*map(str, range(1001))]},
        400,
    ),
    "no such receiver": (("alerts", "test", "chta"), "/alerts/test", {"receiver": "chta"}, 404),
    "no such kind of alert": (
        ("alerts", "silence", "circuit_opened", "--for", "2h"),
        "/alerts/silence",
        {"kind": "circuit_opened", "seconds": 7200},
        400,
    ),
    "a silence of no time": (
        ("alerts", "silence", "*", "--for", "1s"),
        "/alerts/silence",
        {"kind": "*", "seconds": 1},
        400,
    ),
    "what is not silenced": (
        ("alerts", "unsilence", "circuit_open", "--subject", "\x1b[2J"),
        "/alerts/unsilence",
        {"kind": "circuit_open", "subject": "\x1b[2J"},
        404,
    ),
    "a limit out of bounds": (("dead", "list", "--limit", "0"), "/dead?limit=0", None, 400),
    "a reason that is too long": (
        ("circuit", "hold", "laravel", "open", "--why", "x" * 501),
        "/circuits/laravel",
        {"hold": "open", "why": "x" * 501},
        400,
    ),
}


@dataclass
class Place:
    """A gateway's API, and the two ways in which a command reaches the same deployment."""

    store: Store
    resources: Resources
    http: httpx2.AsyncClient
    local: tuple[str, ...]
    remote: tuple[str, ...]
    read: Callable[[], tuple[str, str]]

    async def fill(self) -> None:
        await self.store.commands(("FLUSHALL",))
        for identity, session, endpoints, body in (
            ("evt_1", "s1", ("laravel",), b'{"to":"49170"}'),
            ("evt_2", "s1", ("laravel",), b"\xff\x00 49170"),
            ("evt/3", "s2", ("laravel", "audit"), b"{}"),
        ):
            queues = [self.resources.queues[endpoint] for endpoint in endpoints]
            accepted = event(id=identity, session=session, body=body)
            await Inbox(self.store).accept(accepted, [queue.destination for queue in queues])
            for queue in queues:
                queue.look_everywhere()
                (leased,) = (await queue.poll([], 10)).leased
                await queue.poll([Settlement(leased, "dead", "answered 422: \x1b[2Jno")], 0)
        laravel = self.resources.queues["laravel"]
        await Inbox(self.store).accept(event(id="evt_kept", session="s4"), [laravel.destination])
        laravel.look_everywhere()
        (leased,) = (await laravel.poll([], 10)).leased
        await laravel.poll([Settlement(leased, "delivered", 0, "200 1 message_received")], 0)
        gone = Queue(self.store, "gone", lease=5.0, max_bytes=10**6, max_events=100).destination
        for number in range(2):
            await Inbox(self.store).accept(event(id=f"evt_gone_{number}", session="s3"), [gone])
        await self.resources.registry.want({"s/1": {"workspace_id": 7}, "s2": {}, "ended": {}})
        await self.resources.registry.end("ended", "deleted")

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        def run() -> int:
            try:
                return main(arguments)
            except SystemExit as ended:
                return int(ended.code or 0)

        code = await asyncio.to_thread(run)
        return (code, *self.read())

    async def answers(self, arguments: tuple[str, ...]) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
        return await self.command(*arguments, *self.local), await self.command(*arguments, *self.remote)

    async def api(self, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        return await self.http.request("GET" if body is None else "POST", API + path, json=body)


@pytest.fixture
async def place(store_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Place]:
    bound, stop = listening("127.0.0.1", 0), Stop()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    (tmp_path / "token").write_text("the-token\n")
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nlisten: {url.removeprefix("http://")}\nstore: {{url: "{store_url}"}}\n'
        'console: {token: "file:token"}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}, "
        "retention: {bodies: 1d}}\n"
        "alerts: {receivers: {chat: {command: [/bin/echo, taken]}}, rules: [{when: circuit_open, to: chat}]}\n"
        "limits: [{id: message, per: [session], rate: 1/hour, burst: 2, over: queue}]\n"
    )
    policies, store = load(file), Store(store_url, timeout=5.0)
    queues = {name: open_queue(store, endpoint, policies) for name, endpoint in policies.relay.endpoints.items()}
    resources = Resources(policies, store, Registry(store, policies.sessions.lease), queues, edits.live(policies))
    serving = asyncio.create_task(serve(Starlette(routes=api.routes(resources)), bound, stop))
    bearer = {b"Authorization": b"Bearer the-token"}

    def read() -> tuple[str, str]:
        told = capsys.readouterr()
        return told.out, told.err

    async with httpx2.AsyncClient(base_url=url, trust_env=False, headers=bearer, timeout=120) as http:
        remote = ("--gateway", url, "--token-file", str(tmp_path / "token"))
        it = Place(store, resources, http, ("--policies", str(file)), remote, read)
        await it.fill()
        yield it
    stop.request()
    await serving
    await store.close()


def test_every_operation_is_compared() -> None:
    compared = READS.keys() | CHANGES.keys() | HOLDS.keys() | OF_QUEUES.keys() | OF_SUBJECTS.keys() | OF_EVENTS.keys()
    compared |= OF_TEXTS.keys() | OF_SESSIONS.keys() | OF_VAULTS.keys() | OF_ALERTS.keys()
    compared |= OF_WORKERS.keys() | {"try_endpoint"}
    assert {operation.id for operation in OPERATIONS} <= compared | {
        *("show_status", "show_history", "probe_circuit"),
        *("show_qr", "pair_session"),  # by tests/sluice/cli/test_session_pairing.py, as they need a worker
    }


@pytest.mark.parametrize("name", READS)
async def test_what_is_read_is_the_same(place: Place, name: str) -> None:
    _, arguments, path = READS[name]
    answer = await place.api(path)
    assert answer.status_code == 200
    for code, out, err in await place.answers((*arguments, "--json")):
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
    local, remote = await place.answers(arguments)
    assert local == remote
    assert "\x1b" not in local[1]


async def test_history_is_the_same_but_for_the_moment(place: Place) -> None:
    values = [Value("sum", Series("deliveries", "laravel", what), 7) for what in ("delivered", "failed")]
    await place.store.run_all([note("a", 1, 0.0, values)])
    answer = (await place.api("/history?range=14d")).json()
    assert [line["values"][-1] for line in answer["deliveries"]] == [7, 7]
    for code, out, err in await place.answers(("history", "--range", "14d", "--json")):
        assert (code, err) == (0, "")
        assert orjson.loads(out) | {"last_s": answer["last_s"]} == answer
    local, remote = await place.answers(("history", "--range", "14d"))
    assert local == remote
    assert "attempts delivered" in local[1]


async def test_status_is_the_same(place: Place) -> None:
    answer = (await place.api("/status")).json()
    for code, out, err in await place.answers(("status", "--json")):
        assert (code, err) == (0, "")
        assert orjson.loads(out) | {"at": answer["at"]} == answer
    local, remote = await place.answers(("status",))
    assert local == remote


@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_changed_is_the_same(place: Place, name: str) -> None:
    arguments, path, body = CHANGES[name]
    answer = await place.api(path, {**body, "until": LATER})
    left = await place.api("/dead")
    assert answer.status_code == 200
    for way in (place.local, place.remote):
        await place.fill()
        code, out, err = await place.command(*arguments, "--until", LATER, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
        now = await place.api("/dead")
        assert sorted(one["id"] for one in now.json()["letters"]) == sorted(one["id"] for one in left.json()["letters"])
    texts = []
    for way in (place.local, place.remote):
        await place.fill()
        texts.append(await place.command(*arguments, "--until", LATER, *way))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", OF_QUEUES)
async def test_what_becomes_of_what_waits_is_the_same(place: Place, name: str) -> None:
    arguments, path, body = OF_QUEUES[name]
    answer = await place.api(path, body)
    assert answer.status_code == 200
    texts = []
    for way in (place.local, place.remote):
        await place.fill()
        code, out, err = await place.command("queue", *arguments, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
        await place.fill()
        texts.append(await place.command("queue", *arguments, *way))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", OF_SESSIONS)
async def test_what_becomes_of_a_session_is_the_same(place: Place, name: str, tmp_path: Path) -> None:
    arguments, path, body = OF_SESSIONS[name]
    arguments = tuple(argument.replace("FOLDER", str(tmp_path)) for argument in arguments)
    rows = "".join(f"{one},7,failed,2020-01-01\n" for one in ("s/1", "s9", "ended"))
    (tmp_path / "accounts.csv").write_text(f"session_id,workspace_id,status,updated_at\n{rows}")

    async def fill() -> None:
        await place.fill()
        await place.resources.registry.register(Worker("w1", "1", "http://w1:3000", 5))
        if name.startswith(("restart", "log_out", "delete_planned")):
            await place.resources.registry.place_orphans()

    await fill()
    answer = await place.api(path, body)
    assert answer.status_code == 200
    texts = []
    for way in (place.local, place.remote):
        await fill()
        code, out, err = await place.command("sessions", *arguments, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
        await fill()
        texts.append(await place.command("sessions", *arguments, *way))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", OF_WORKERS)
async def test_what_becomes_of_a_worker_is_the_same(place: Place, name: str) -> None:
    arguments, path, body = OF_WORKERS[name]

    async def fill() -> None:
        await place.fill()
        await place.resources.registry.register(Worker("w1", "1", "http://w1:3000", 5))

    await fill()
    answer = await place.api(path, body)
    assert answer.status_code == 200
    texts = []
    for way in (place.local, place.remote):
        await fill()
        code, out, err = await place.command("workers", *arguments, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
        await fill()
        texts.append(await place.command("workers", *arguments, *way))
    assert texts[0] == texts[1]


async def test_a_test_event_is_the_same_but_for_its_id(place: Place) -> None:
    body = {"path": "/hooks", "session": "s7"}
    answer = (await place.api("/tries/audit", body)).json()
    arguments = ("event", "try", "audit", "--path", "/hooks", "--session", "s7")
    for way in (place.local, place.remote):
        await place.fill()
        code, out, err = await place.command(*arguments, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.loads(out) | {"id": answer["id"]} == answer
    planned = await place.api("/tries/audit", {**body, "dry_run": True})
    for way in (place.local, place.remote):
        code, out, err = await place.command(*arguments, "--dry-run", "--json", *way)
        assert (code, err, orjson.dumps(orjson.loads(out))) == (0, "", planned.content)
    local, remote = await place.answers((*arguments, "--dry-run"))
    assert local == remote


@pytest.mark.parametrize("name", OF_EVENTS)
async def test_what_is_sent_once_more_is_the_same(place: Place, name: str) -> None:
    arguments, body = OF_EVENTS[name]
    answer = await place.api("/events/resend", {**body, "until": LATER})
    assert answer.status_code == 200
    assert (answer.json()["meant"], answer.json()["resent"]) == (1, 0 if "dry_run" in body else 1)
    texts = []
    for way in (place.local, place.remote):
        await place.fill()
        code, out, err = await place.command("event", "resend", *arguments, "--until", LATER, "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
        await place.fill()
        texts.append(await place.command("event", "resend", *arguments, "--until", LATER, *way))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", OF_SUBJECTS)
async def test_what_becomes_of_the_limits_of_a_subject_is_the_same(place: Place, name: str) -> None:
    arguments, path, body = OF_SUBJECTS[name]
    answer = await place.api(path, body)
    assert answer.status_code == 200
    for code, out, err in await place.answers(("limits", *arguments, "--json")):
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content
    local, remote = await place.answers(("limits", *arguments))
    assert local == remote


async def test_what_comes_of_a_probe_is_the_same(place: Place) -> None:
    answer = await place.api("/probes/laravel", {})
    assert answer.json()["outcome"] == "nothing_waits"
    for way in (place.local, place.remote):
        code, out, err = await place.command("circuit", "probe", "laravel", "--json", *way)
        assert (code, err) == (0, "")
        assert orjson.dumps(orjson.loads(out)) == answer.content


@pytest.mark.parametrize("name", HOLDS)
async def test_what_is_held_is_the_same(place: Place, name: str) -> None:
    arguments, body = HOLDS[name]
    answers = []
    for again in range(2):
        answer = await place.api("/circuits/laravel", body)
        assert answer.status_code == 200
        answers.append(answer.content)
        assert answer.json()["changed"] == (again == 0 and name != "release")
    for way in (place.local, place.remote):
        await place.fill()
        for expected in answers:
            code, out, err = await place.command("circuit", *arguments, "--json", *way)
            assert (code, err) == (0, "")
            assert orjson.dumps(orjson.loads(out)) == expected


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_refused_is_refused_in_the_same_words(place: Place, name: str) -> None:
    arguments, path, body, status = REFUSED[name]
    answer = await place.api(path, body)
    assert answer.status_code == status
    said = answer.json()["detail"]
    assert "\x1b" not in said
    for code, out, err in await place.answers(arguments):
        assert (code, out, err) == (2, "", f"sluice: {said}\n")


@pytest.mark.parametrize("name", OF_ALERTS)
async def test_what_becomes_of_alerts_is_the_same(place: Place, name: str) -> None:
    arguments, path, body = OF_ALERTS[name]

    async def fill() -> None:
        await place.fill()
        await silence(place.store, "dead_letters", "*", Silence("dead_letters", "*", 4e9))

    await fill()
    answer = await place.api(path, body)
    assert answer.status_code == 200
    expected = answer.json()
    for way in (place.local, place.remote):
        await fill()
        code, out, err = await place.command("alerts", *arguments, "--json", *way)
        assert (code, err) == (0, "")
        found = orjson.loads(out)
        if found.get("until"):  # it ends so long after it was made
            assert found["until"] >= expected["until"]
            found["until"] = expected["until"]
        assert found == expected
        await fill()
        code, out, err = await place.command("alerts", *arguments, *way)
        assert (code, err) == (0, "")
        assert out.startswith(("chat: took it: ended with 0: taken\n", "circuit_open of lar*: ", "dead_letters: it is"))


@pytest.mark.parametrize("name", OF_TEXTS)
async def test_what_is_tried_is_the_same(place: Place, name: str, tmp_path: Path) -> None:
    arguments, path, body = OF_TEXTS[name]
    file = tmp_path / "new.yaml"
    file.write_text(body.get("text", ""))
    arguments = tuple(argument.replace("FILE", str(file)) for argument in arguments)
    answer = await place.api(path, body)
    assert answer.status_code == 200
    for _, out, err in await place.answers((*arguments, "--json")):
        assert err == ""
        assert orjson.loads(out) == answer.json()
    local, remote = await place.answers(arguments)
    assert local == remote
    assert "\x1b" not in local[1]


@pytest.mark.parametrize("name", OF_VAULTS)
async def test_where_there_is_no_vault_that_is_said_in_the_same_words(place: Place, name: str) -> None:
    arguments, path, body = OF_VAULTS[name]
    answer = await place.api(path, body)
    assert answer.status_code >= 400
    for code, out, err in await place.answers(("vault", *arguments)):
        assert (code, out, err) == (2, "", f"sluice: {answer.json()['detail']}\n")
