from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.policies import Policies, edits, load
from gateway.resources import Resources
from relay.process import open_queue
from sessions.policies import SessionsPolicy
from sessions.profiles.policies import VaultPolicy
from sessions.profiles.summary import VaultSummary
from sessions.registry import Registry, Worker
from sluice.cli import remote
from sluice.cli.errors import CommandError
from sluice.cli.status import fetch, render
from sluice.config.model import Secret
from sluice.console import http as api
from sluice.console.actions.status import show
from sluice.console.status import MovedSessionStatus, ScalingStatus, ShowStatus, Status
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store

pytestmark = pytest.mark.anyio


def policies_in(folder: Path, port: int, *, host: str = "127.0.0.1", token: str | None = "s3cret") -> Policies:
    lines = ["version: 1", f'listen: "{host}:{port}"', 'relay: {endpoints: {laravel: {url: "http://127.0.0.1:8000"}}}']
    lines.append(
        "limits: [{id: typing, event: typing_indicator, per: [session], rate: 30/minute, burst: 5, over: drop}]"
    )
    if token is not None:
        lines.append("console: {token: env:TOKEN}")
    file = folder / "policies.yaml"
    file.write_text("\n".join(lines))
    return load(file, environment={"TOKEN": token} if token else {}, need_secrets=False)


@asynccontextmanager
async def served(app: Starlette, host: str = "127.0.0.1") -> AsyncIterator[int]:
    bound, stop = listening(host, 0), Stop()
    port: int = bound.getsockname()[1]
    serving = asyncio.create_task(serve(app, bound, stop))
    try:
        yield port
    finally:
        stop.request()
        await serving


def answering(answer: Callable[[Request], Awaitable[Response]]) -> Starlette:
    return Starlette(routes=[Route("/_sluice/api/status", answer)])


def parts_of(store: Store, policies: Policies) -> Resources:
    queue = open_queue(store, policies.relay.endpoints["laravel"], policies)
    return Resources(policies, store, Registry(store, 600.0), {"laravel": queue}, edits.live(policies))


def text_of(seen: Status) -> str:
    screen = Console(width=120, force_terminal=False)
    with screen.capture() as capture:
        screen.print(render(seen))
    return capture.get()


async def test_a_running_gateway_is_asked_and_shown(store: Store, tmp_path: Path) -> None:
    parts = parts_of(store, policies_in(tmp_path, 0))
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 25))
    await parts.registry.want({"s1": {}, "s2": {}})
    async with served(Starlette(routes=api.routes(parts))) as port:
        seen = await fetch(policies_in(tmp_path, port))
    lines = text_of(seen).splitlines()
    assert lines[0] == "• no relay is running: events are accepted and wait"
    assert lines[1].startswith("• 2 sessions have no worker; a worker with free capacity takes over")
    shown = "\n".join(lines)
    for part in ("requests", "laravel", "closed", "typing", "w1", "http://127.0.0.1:3101", "0 of 25", "created 2"):
        assert part in shown
    assert "unowned 2" in shown


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_a_gateway_that_listens_everywhere_is_asked_on_loopback(store: Store, tmp_path: Path, host: str) -> None:
    parts = parts_of(store, policies_in(tmp_path, 0))
    async with served(Starlette(routes=api.routes(parts)), host.strip("[]")) as port:
        assert (await fetch(policies_in(tmp_path, port, host=host))).messages


async def test_a_vault_has_a_line(store: Store, tmp_path: Path) -> None:
    parts = replace(
        parts_of(store, policies_in(tmp_path, 0)),
        policies=replace(
            policies_in(tmp_path, 0), sessions=SessionsPolicy(vault=VaultPolicy("store", (Secret(b"k" * 16),)))
        ),
        vault=lambda: VaultSummary("store", sessions=50, generations=150, stored=3 * 2**20, deleted=1),
    )
    lines = text_of(await show(parts, ShowStatus())).splitlines()
    assert "vault     50 logins in 150 generations, 3.0 MiB in the store, 1 deleted" in [
        line.rstrip() for line in lines
    ]


async def test_all_is_well_in_words(store: Store, tmp_path: Path) -> None:
    seen = await show(parts_of(store, policies_in(tmp_path, 0)), ShowStatus())
    assert text_of(replace(seen, messages=())).splitlines()[0] == "all is well"


async def test_while_the_store_is_away_the_screen_still_shows(tmp_path: Path, short_folder: Path) -> None:
    store = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    shown = text_of(await show(parts_of(store, policies_in(tmp_path, 0)), ShowStatus()))
    await store.close()
    assert shown.startswith("• the store does not answer (")
    assert "unknown" in shown


async def test_names_are_never_taken_for_markup(store: Store, tmp_path: Path) -> None:
    parts = parts_of(store, policies_in(tmp_path, 0))
    seen = await show(parts, ShowStatus())
    traffic = replace(seen.traffic, events={"[red]typing[/red]": 1, "\x1b[2J": 2})
    shown = text_of(replace(seen, messages=("[bold]x",), traffic=traffic))
    assert "• [bold]x" in shown
    assert "[red]typing[/red] 1  \\x1b[2J 2" in shown


async def unavailable(policies: Policies) -> str:
    with pytest.raises(CommandError) as caught:
        await fetch(policies)
    return str(caught.value)


async def test_nobody_listens(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    assert await unavailable(policies_in(tmp_path, port)) == (
        f"nothing answers on http://127.0.0.1:{port}; "
        f"start it with `sluice up`, or correct listen in {tmp_path}/policies.yaml"
    )


async def test_no_token_to_ask_with(tmp_path: Path) -> None:
    policies = policies_in(tmp_path, 8080, token=None)
    assert await unavailable(policies) == (
        f"console.token is not set; set it in {tmp_path}/policies.yaml and restart the gateway"
    )


async def test_a_token_that_is_only_known_elsewhere(tmp_path: Path) -> None:
    policies = policies_in(tmp_path, 8080, token="")
    assert await unavailable(policies) == (
        f"console.token: what {tmp_path}/policies.yaml names for it is not here; "
        "export the variable (or make the file) that the gateway was started with"
    )


@pytest.mark.parametrize("token", ["s3cret ", "s3\ncret"])
async def test_a_token_that_is_no_header_is_not_shown(tmp_path: Path, token: str) -> None:
    async with served(Starlette()) as port:
        assert await unavailable(policies_in(tmp_path, port, token=token)) == (
            f"console.token in {tmp_path}/policies.yaml does not fit into a header; take blanks and line ends off it"
        )


async def test_the_gateway_has_another_token(store: Store, tmp_path: Path) -> None:
    parts = parts_of(store, policies_in(tmp_path, 0, token="another"))
    async with served(Starlette(routes=api.routes(parts))) as port:
        assert await unavailable(policies_in(tmp_path, port)) == (
            f"the gateway on http://127.0.0.1:{port} does not know console.token in {tmp_path}/policies.yaml; "
            "correct it, or restart the gateway with it"
        )


async def test_the_gateway_has_no_token(store: Store, tmp_path: Path) -> None:
    parts = parts_of(store, policies_in(tmp_path, 0, token=None))
    async with served(Starlette(routes=api.routes(parts))) as port:
        assert await unavailable(policies_in(tmp_path, port)) == (
            f"the gateway on http://127.0.0.1:{port} runs without console.token; "
            "set it in its policies.yaml and restart it"
        )


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (PlainTextResponse("hello"), "its answer is no Status"),
        (JSONResponse({"ok": True}), "its answer is no Status"),
        (JSONResponse([]), "its answer is no Status"),
        (PlainTextResponse("no", 404), "it answered 404"),
        (PlainTextResponse("", 302, {"Location": "http://127.0.0.1:1/"}), "it answered 302"),
    ],
)
async def test_something_else_listens_there(tmp_path: Path, response: Response, why: str) -> None:
    async def answer(_: Request) -> Response:
        return response

    async with served(answering(answer)) as port:
        assert await unavailable(policies_in(tmp_path, port)) == (
            f"what listens on http://127.0.0.1:{port} is no gateway of this version ({why}); "
            f"see listen in {tmp_path}/policies.yaml"
        )


async def test_a_gateway_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LOCAL_TIMEOUT", 0.2)
    let_go = asyncio.Event()

    async def answer(_: Request) -> Response:
        await let_go.wait()
        return Response()

    async with served(answering(answer)) as port:
        try:
            assert await unavailable(policies_in(tmp_path, port)) == (
                f"http://127.0.0.1:{port} did not answer within 0.2s; look at its log"
            )
        finally:
            let_go.set()


async def test_how_many_workers_are_wanted_and_what_moves_stands_on_the_screen(store: Store, tmp_path: Path) -> None:
    policies = policies_in(tmp_path, 8080)
    seen = await show(parts_of(store, policies), ShowStatus())
    assert seen.scaling is None
    assert "wanted" not in text_of(seen)
    last = MovedSessionStatus("s1", "w1", "w2", "rebalancing", 12.0)
    scaling = ScalingStatus(5, 3, 41, 0, 0, 10.0, full=False, gives="w1", last=last)
    shown = " ".join(text_of(replace(seen, scaling=scaling)).split())
    assert "workers 3 live, 5 wanted 41 sessions, 10 for each at most w1 gives sessions to others" in shown
    assert "s1 left w1 for w2 12s ago" in shown
