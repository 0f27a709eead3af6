"""policies.yaml edited while everything runs: what goes live, what does not, and what a person sees of it."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import Receiver, receiving
from tests.ports import port_of as port_in
from tests.waiting import until

pytestmark = pytest.mark.anyio

ADDRESS = "{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [laravel]}"
FEW = "{id: address, per: [ip], rate: 1/hour, burst: 5, over: reject}"


@pytest.fixture
async def sluice(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        yield deployed


class Site:
    """An upstream that answers its name; what is asked of `/held` waits until it is let go."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held = 0
        self.lets_go = asyncio.Event()

    async def answer(self, request: Request) -> Response:
        if request.url.path == "/held":
            self.held += 1
            await self.lets_go.wait()
        return PlainTextResponse(self.name)


@asynccontextmanager
async def site(port: int, name: str) -> AsyncIterator[Site]:
    made, stop = Site(name), Stop()
    app = Starlette(routes=[Route("/{path:path}", made.answer)])
    serving = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:
        yield made
    finally:
        made.lets_go.set()
        stop.request()
        await serving


def edit(sluice: Deployment, *changes: tuple[str, str]) -> None:
    """As an editor does it: written beside, then renamed over."""
    text = sluice.file.read_text()
    for old, new in changes:
        assert old in text, text
        text = text.replace(old, new)
    written = sluice.file.with_suffix(".new")
    written.write_text(text)
    written.replace(sluice.file)


def keep_history(sluice: Deployment, process: str, message: str) -> list[dict[str, Any]]:
    file = sluice.policies.data / "logs" / f"{process}.jsonl"
    lines = [orjson.loads(row) for row in file.read_bytes().splitlines()] if file.exists() else []
    return [line for line in lines if line["msg"] == message]


async def live(sluice: Deployment, times: int, *processes: str) -> None:
    """All of them have gone over to so many edits."""
    names = processes or ("gateway", "relay")
    await until(
        lambda: all(len(keep_history(sluice, name, "policies.loaded")) >= times for name in names),
        what=f"edit {times} to be live; it said:\n{sluice.said()}",
    )


async def get(sluice: Deployment, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, verify=False, timeout=20) as client:
        return await client.get(path, headers={"connection": "close"})


async def answered(sluice: Deployment, text: str) -> bool:
    answer = await get(sluice, "/")
    return (answer.status_code, answer.text) == (200, text)


async def messages(sluice: Deployment) -> list[str]:
    said: list[str] = (await sluice.status())["messages"]
    return said


def upstream(url: str) -> str:
    return f'upstreams: {{laravel: {{url: "{url}"}}}}'


def endpoint(url: str) -> str:
    return f"      url: {url}\n"


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_an_edited_limit_keeps_its_level_and_requests_under_way_end_as_they_began(
    sluice: Deployment, free_port: Callable[[], int]
) -> None:
    edit(sluice, (ADDRESS, FEW))
    moved = f"http://127.0.0.1:{free_port()}"
    async with site(port_of(sluice.laravel), "old") as old, site(port_of(moved), "new"):
        await sluice.start_up()
        in_flight = asyncio.create_task(get(sluice, "/held"))
        await until(lambda: old.held, what="the request to be under way")
        codes = [(await get(sluice, "/")).status_code for _ in range(6)]
        assert codes == [200] * 4 + [429] * 2, "the one under way has taken the fifth"

        edit(sluice, ("burst: 5,", "burst: 50,"), (upstream(sluice.laravel), upstream(moved)))
        await live(sluice, 1)
        assert (await get(sluice, "/")).status_code == 429, "a larger burst does not refill"

        edit(sluice, ("rate: 1/hour", "rate: 1000/second"))
        await until(lambda: answered(sluice, "new"), what="the new rate and the new upstream")
        assert not in_flight.done()
        old.lets_go.set()
        answer = await in_flight
        assert (answer.status_code, answer.text) == (200, "old")
    assert "policies.yaml is live, revision " in sluice.said()
    assert "; changed: upstreams.laravel.url, limits.address.burst" in sluice.said()


async def test_a_wrong_file_changes_nothing_and_everybody_says_in_which_line(sluice: Deployment) -> None:
    async with site(port_of(sluice.laravel), "well"):
        await sluice.start_up()
        before = (await sluice.status())["revision"]
        line = 1 + sluice.file.read_text()[: sluice.file.read_text().index("id: typing")].count("\n")
        edit(sluice, ("rate: 60/minute", "rate: 60/minuet"))

        async def told() -> bool:
            return bool((await sluice.status())["policies"]["problems"])

        await until(told, what="the console to tell")
        seen = await sluice.status()
        (problem,) = seen["policies"]["problems"]
        assert (seen["revision"], problem["line"], problem["key"]) == (before, line, "limits[2].rate")
        assert problem["message"] == '"60/minuet" is not a rate'
        (sentence,) = seen["messages"]
        assert sentence == (
            f"{sluice.file} is wrong, so revision {before} stays in force: line {line}: limits[2].rate: "
            '"60/minuet" is not a rate; write 1000/minute or 5/10 seconds'
        )
        code, out, complaint = await sluice.run("status")
        assert (code, out.startswith(f"• {sentence}\n")) == (0, True), out
        assert complaint == (
            f'sluice: {sluice.file} is wrong (line {line}: limits[2].rate: "60/minuet" is not a rate); '
            f"using the last good copy, revision {before}\n"
        )
        assert f"policies.yaml is wrong and changes nothing: {sluice.file}:{line}:" in sluice.said()
        await until(lambda: keep_history(sluice, "relay", "policies.refused"), what="the relay to have seen it too")
        assert await numbers(sluice) == {"sluice_policies_wrong": 1.0, "sluice_policies_refused_total": 2.0}
        assert (await get(sluice, "/")).text == "well"

        edit(sluice, ("rate: 60/minuet", "rate: 90/minute"))
        await live(sluice, 1)
        seen = await sluice.status()
        assert (seen["messages"], seen["policies"]["problems"]) == ([], [])
        assert seen["revision"] != before
        assert (await numbers(sluice))["sluice_policies_wrong"] == 0.0


async def numbers(sluice: Deployment) -> dict[str, float]:
    page = (await get(sluice, "/_sluice/metrics")).text
    found = re.findall(r"^(sluice_policies_(?:wrong|refused_total)) (\S+)$", page, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def test_half_a_copy_changes_nothing_and_a_child_that_starts_again_meanwhile_goes_on_as_before(
    sluice: Deployment,
) -> None:
    await sluice.start_up()
    before, whole = (await sluice.status())["revision"], sluice.file.read_text()
    sluice.file.write_text(whole[: whole.index("console:")])  # valid, and without a console

    async def problems() -> list[str]:
        return [problem["message"] for problem in (await sluice.status())["policies"]["problems"]]

    await until(problems, what="the console to tell")
    said = "ends without console.token, which the version in force has, so it may be only half written"
    assert await problems() == [said]
    assert any(f"revision {before} stays in force: {said}" in sentence for sentence in await messages(sluice))
    await sluice.kill_child("gateway")
    await until(lambda: "gateway was killed by SIGKILL" in sluice.said(), what="the gateway to be missed")
    await until(sluice.ready, timeout=20, what="the gateway to come back")
    await until(problems, what="the new gateway to tell, too")
    assert (await sluice.status())["revision"] == before
    sluice.file.write_text(whole.replace("burst: ", "burst: 1"))

    async def over() -> bool:
        return (await sluice.status())["revision"] != before and not await problems()

    await until(over, what="the whole copy to be live")


async def test_an_endpoint_that_moves_while_events_wait_gets_all_of_them_once_and_in_order(
    sluice: Deployment, free_port: Callable[[], int]
) -> None:
    moved = f"http://127.0.0.1:{free_port()}"
    edit(sluice, ("timeout: 1s", "timeout: 30s"))  # longer than a slow machine takes to send them all
    async with receiving(port_of(sluice.laravel)) as old, receiving(port_of(moved)) as new:
        await sluice.start_up()
        old.lets_go.clear()
        for number in range(1, 9):
            for session in ("a", "b", "c"):
                await sluice.send(session, number)
        await until(lambda: old.waiting == 3, what="the first of each session to be under way")
        edit(sluice, (endpoint(sluice.laravel), endpoint(moved)))
        await until(lambda: keep_history(sluice, "relay", "policies.loaded"), what="the relay to have seen the edit")
        assert not new.got, "while the old one is still asked, the new one is not"
        old.lets_go.set()
        await until(sluice.drained, what="everything to be delivered")
    assert sequences(old) == {"a": [1], "b": [1], "c": [1]}
    assert sequences(new) == {session: list(range(2, 9)) for session in ("a", "b", "c")}


async def test_edits_under_traffic_lose_repeat_and_reorder_nothing(sluice: Deployment) -> None:
    async with receiving(port_of(sluice.laravel)) as laravel:
        edit(sluice, ("timeout: 1s", "timeout: 20s"))  # what times out on a busy machine is sent again
        await sluice.start_up()

        async def one_session(session: str) -> None:
            for number in range(1, 61):
                await sluice.send(session, number)

        sending = asyncio.gather(*(one_session(session) for session in ("a", "b", "c", "d")))
        for number in range(1, 6):
            old, new = ("timeout: 20s", "timeout: 30s") if number % 2 else ("timeout: 30s", "timeout: 20s")
            edit(sluice, (old, new))
            await live(sluice, number)
        await sending
        await until(sluice.drained, what="everything to be delivered")
    assert sequences(laravel) == {session: list(range(1, 61)) for session in ("a", "b", "c", "d")}


def sequences(receiver: Receiver) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for one in receiver.taken():
        found[one.session].append(one.sequence)
    return dict(found)


async def test_what_waits_for_a_removed_endpoint_is_kept_told_and_delivered_when_it_is_back(
    sluice: Deployment,
) -> None:
    to_laravel, to_crm = "relay: laravel\n", "relay: crm\n"
    endpoints, crm = "  endpoints:\n", f"    crm: {{url: '{sluice.laravel}', rate: 1/hour}}\n"
    edit(sluice, (to_laravel, to_crm), (endpoints, endpoints + crm))
    async with receiving(port_of(sluice.laravel)) as laravel:
        await sluice.start_up()
        for number in (1, 2, 3):
            await sluice.send("a", number)
        await until(lambda: laravel.taken(), what="the one that the rate lets through")

        edit(sluice, (to_crm, to_laravel), (crm, ""))
        await until(lambda: keep_history(sluice, "relay", "endpoint.removed"), what="the relay to have let it go")
        (line,) = keep_history(sluice, "relay", "endpoint.removed")
        assert (line["endpoint"], line["waiting"], line["level"]) == ("crm", 2, "warning")
        await live(sluice, 1)
        assert await messages(sluice) == [
            "crm is not an endpoint of the policies, and 2 events wait for it: put it back to deliver them, or give "
            "them to another: sluice queue move crm NEW"
        ]
        await sluice.send("a", 4)
        await until(lambda: len(laravel.taken()) == 2, what="the other endpoint to be at work")

        edit(sluice, (endpoints, endpoints + crm.replace(", rate: 1/hour", "")))
        await until(lambda: len(laravel.taken()) == 4, what="what waited to be delivered")
        assert sequences(laravel) == {"a": [1, 4, 2, 3]}
        await until(sluice.drained)
        assert await messages(sluice) == []


def all_started(sluice: Deployment) -> bool:
    """Ready is said by the first gateway that is; one that starts after the edit has nothing to go over to."""
    kinds = {"gateway-1": "gateway.started", "gateway-2": "gateway.started", "relay": "relay.started"}
    return all(keep_history(sluice, name, started) for name, started in kinds.items())


async def test_several_gateways_go_over_together_and_the_sockets_wait_for_a_restart(sluice: Deployment) -> None:
    async with site(port_of(sluice.laravel), "well"):
        await sluice.start_up("--processes", "2")
        await until(lambda: all_started(sluice), what="both gateways and the relay")
        port = port_in(sluice.policies)
        edit(sluice, (ADDRESS, FEW), (f"listen: 127.0.0.1:{port}", "listen: 127.0.0.1:1"))
        await live(sluice, 1, "gateway-1", "gateway-2", "relay")
        codes = [(await get(sluice, "/")).status_code for _ in range(8)]
        assert sorted(codes) == [200] * 5 + [429] * 3
        assert await messages(sluice) == [
            f"{sluice.file}: listen changed, which counts from the next start on; restart Sluice"
        ]
        assert "policies.yaml: listen: what was changed here counts from the next start on" in sluice.said()
        for name in ("gateway-1", "gateway-2", "relay"):
            assert [line["keys"] for line in keep_history(sluice, name, "policies.needs_restart")] == [["listen"]]


async def test_the_console_s_token_is_changed_without_a_restart(sluice: Deployment) -> None:
    secret = sluice.file.with_name("token")
    secret.write_text("first\n")
    edit(sluice, ("token: env:SLUICE_CONSOLE_TOKEN", "token: file:token"))
    async with site(port_of(sluice.laravel), "well"):
        await sluice.start_up()
        assert await status_with(sluice, "first") == 200
        secret.write_text("second\n")
        await until(lambda: opens(sluice, "second"), what="the new token to open it")
        assert await status_with(sluice, "first") == 401


async def status_with(sluice: Deployment, token: str) -> int:
    async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, verify=False, timeout=20) as client:
        answer = await client.get("/_sluice/api/status", headers={"Authorization": f"Bearer {token}"})
    return int(answer.status_code)


async def opens(sluice: Deployment, token: str) -> bool:
    return await status_with(sluice, token) == 200
