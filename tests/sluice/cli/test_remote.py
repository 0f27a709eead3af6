"""Commands that ask a gateway elsewhere, and every way in which that cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sessions.lifecycle import at_worker, closing, restarting
from sluice.cli import remote
from sluice.cli.main import main
from sluice.cli.remote import goes_unencrypted
from sluice.console import http as api
from sluice.console.actions import trying
from sluice.console.operations import (
    CLEAN_DUPLICATES,
    CREATE_SESSION,
    DELETE_SESSION,
    LIST_CIRCUITS,
    RESTART_SESSION,
    TRY_POLICIES,
    Operation,
)
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sluice.console.deployment import TOKEN, parts_on, policies_in

pytestmark = pytest.mark.anyio

Run = Callable[..., Awaitable[tuple[int, str, str]]]
Serve = Callable[[Sequence[Route]], str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: object) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
async def at() -> AsyncIterator[Serve]:
    """Serves these routes and says where."""
    running: list[tuple[Stop, asyncio.Task[None]]] = []

    def start(routes: Sequence[Route]) -> str:
        bound, stop = listening("127.0.0.1", 0), Stop()
        running.append((stop, asyncio.create_task(serve(Starlette(routes=routes), bound, stop))))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"

    yield start
    for stop, serving in running:
        stop.request()
        await serving


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return file


async def test_the_token_file_holds_the_token_and_a_line_end(
    run: Run, at: Serve, token: Path, store: Store, tmp_path: Path
) -> None:
    url = at(api.routes(parts_on(store, policies_in(tmp_path))))
    assert await run("dead", "list", "--gateway", url + "/", "--token-file", token) == (0, "no dead letters\n", "")
    code, out, err = await run("status", "--gateway", url, "--token-file", token)
    assert (code, err) == (0, "")
    assert out.startswith("• no relay is running")


async def test_another_token(run: Run, at: Serve, token: Path, store: Store, tmp_path: Path) -> None:
    url = at(api.routes(parts_on(store, policies_in(tmp_path))))
    token.write_text("another")
    assert await run("sessions", "list", "--gateway", url, "--token-file", token) == (
        2,
        "",
        f"sluice: the gateway on {url} does not know the token in {token}; "
        "correct it, or restart the gateway with it\n",
    )


async def test_a_gateway_without_a_token(run: Run, at: Serve, token: Path, store: Store, tmp_path: Path) -> None:
    url = at(api.routes(parts_on(store, policies_in(tmp_path, ""))))
    assert await run("circuit", "list", "--gateway", url, "--token-file", token) == (
        2,
        "",
        f"sluice: the gateway on {url} runs without console.token; set it in its policies.yaml and restart it\n",
    )


async def test_a_store_that_is_away_there(run: Run, at: Serve, token: Path, short_folder: Path, tmp_path: Path) -> None:
    store = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    url = at(api.routes(parts_on(store, policies_in(tmp_path))))
    assert await run("circuit", "list", "--gateway", url, "--token-file", token) == (
        2,
        "",
        "sluice: the store does not answer; try again\n",
    )
    await store.close()


async def test_a_token_that_is_no_header_is_not_shown(run: Run, at: Serve, token: Path) -> None:
    token.write_text("one\ntwo\n")
    said = f"sluice: the token in {token} does not fit into a header; take blanks and line ends off it\n"
    assert await run("status", "--gateway", at([]), "--token-file", token) == (2, "", said)


async def test_nobody_listens_there(run: Run, token: Path, free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert await run("event", "evt_1", "--gateway", url, "--token-file", token) == (
        2,
        "",
        f"sluice: nothing answers on {url}; start it with `sluice up`, or correct --gateway\n",
    )


async def test_plain_http_is_no_tls(run: Run, at: Serve, token: Path) -> None:
    url = at([]).replace("http:", "https:")
    code, out, err = await run("status", "--gateway", url, "--token-file", token)
    assert (code, out) == (2, "")
    assert err.startswith(f"sluice: {url} cannot be trusted: [SSL")


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (PlainTextResponse("hello"), "its answer is no CircuitList"),
        (JSONResponse({"circuits": [{"endpoint": "laravel"}]}), "its answer is no CircuitList"),
        (PlainTextResponse("no", 404), "it answered 404"),
        (PlainTextResponse("", 302, {"Location": "http://127.0.0.1:1/"}), "it answered 302"),
    ],
)
async def test_something_else_listens_there(run: Run, at: Serve, token: Path, response: Response, why: str) -> None:
    async def answer(_: Request) -> Response:
        return response

    url = at([Route("/_sluice/api/circuits", answer)])
    assert await run("circuit", "list", "--gateway", url, "--token-file", token) == (
        2,
        "",
        f"sluice: what listens on {url} is no gateway of this version ({why}); see --gateway\n",
    )


async def test_a_gateway_that_hangs_is_not_waited_for(
    run: Run, at: Serve, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_MARGIN", 0.2 - LIST_CIRCUITS.takes)
    finish = asyncio.Event()

    async def answer(_: Request) -> Response:
        await finish.wait()
        return Response()

    url = at([Route("/_sluice/api/circuits", answer)])
    try:
        assert await run("circuit", "list", "--gateway", url, "--token-file", token) == (
            2,
            "",
            f"sluice: {url} did not answer within 0.2s; look at its log\n",
        )
    finally:
        finish.set()


async def test_what_may_take_longer_is_waited_for_longer(
    run: Run, at: Serve, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_MARGIN", 0.1 - LIST_CIRCUITS.takes)

    async def answer(_: Request) -> Response:
        await asyncio.sleep(1.0)
        return JSONResponse({"restarted": True, "worker": "w1", "existing": True})

    url = at([Route("/_sluice/api/restarts/s1", answer, methods=["POST"])])
    code, out, err = await run("sessions", "restart", "s1", "--gateway", url, "--token-file", token)
    assert (code, err) == (0, ""), out


@pytest.mark.parametrize(
    ("operation", "seconds"),
    [
        (TRY_POLICIES, trying.WITHIN),
        (RESTART_SESSION, restarting.WITHIN),
        (CREATE_SESSION, at_worker.CREATED_WITHIN),
        (DELETE_SESSION, closing.WITHIN),
        (CLEAN_DUPLICATES, closing.WITHIN),
    ],
    ids=lambda it: getattr(it, "id", ""),
)
def test_an_operation_says_for_how_long_it_may_go_on(operation: Operation[Any, Any, Any], seconds: float) -> None:
    assert operation.takes >= seconds


URL = "http://127.0.0.1:1"
NEEDS = "write the value of the gateway's console.token into it"
NO_URL = "is not the URL of a gateway; write https://sluice.example.com or http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--gateway", URL, "--policies", "p.yaml", "--token-file", "{token}"),
            "--policies and --gateway exclude each other: ask here, or ask there",
        ),
        (
            ("--gateway", URL),
            "--gateway needs --token-file FILE, which holds the value of the gateway's console.token",
        ),
        (("--token-file", "{token}"), "--token-file goes with --gateway URL"),
        (
            ("--gateway", URL, "--token-file", "{token}x"),
            f"--token-file: the file {{token}}x cannot be read (no such file or directory); {NEEDS}",
        ),
        (("--gateway", URL, "--token-file", "{empty}"), f"--token-file: the file {{empty}} is empty; {NEEDS}"),
        (("--gateway", "sluice:8080", "--token-file", "{token}"), f'--gateway: "sluice:8080" {NO_URL}'),
        (("--gateway", "ftp://a", "--token-file", "{token}"), f'--gateway: "ftp://a" {NO_URL}'),
        (("--gateway", "http://a:b", "--token-file", "{token}"), f'--gateway: "http://a:b" {NO_URL}'),
        (("--gateway", "http://u:p@a", "--token-file", "{token}"), f'--gateway: "http://u:p@a" {NO_URL}'),
        (("--gateway", "", "--token-file", "{token}"), f'--gateway: "" {NO_URL}'),
    ],
)
@pytest.mark.parametrize("command", [("status",), ("dead", "list")])
async def test_options_that_cannot_be_meant(
    run: Run, token: Path, options: tuple[str, ...], said: str, command: tuple[str, ...]
) -> None:
    files = {"token": token, "empty": token.with_name("empty")}
    files["empty"].write_text("\n")
    given = [option.format(**files) for option in options]
    assert await run(*command, *given) == (2, "", f"sluice: {said.format(**files)}\n")


@pytest.mark.parametrize(
    ("url", "unencrypted"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost", False),
        ("https://sluice.example.com", False),
        ("http://sluice.example.com", True),
        ("http://10.0.0.1", True),
    ],
)
def test_a_token_that_goes_unencrypted_over_a_network_is_told(url: str, unencrypted: bool) -> None:
    assert goes_unencrypted(url) == unencrypted


async def test_the_warning_is_told(run: Run, token: Path) -> None:
    _, out, err = await run("status", "--gateway", "http://sluice.invalid", "--token-file", token)
    assert out == ""
    first, second = err.splitlines()
    assert first == "sluice: warning: the token goes to http://sluice.invalid unencrypted; use https"
    assert second == "sluice: nothing answers on http://sluice.invalid; start it with `sluice up`, or correct --gateway"
