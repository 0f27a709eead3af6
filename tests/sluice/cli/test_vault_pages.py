"""`sluice vault verify`, `prune` and `rekey` through a gateway elsewhere: page by page, with progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.vault import Saved
from sluice.console import http as api
from sluice.store.client import Store
from tests.sessions.profiles.making import profile
from tests.sluice.cli.test_remote import Run, Serve, at, run, token
from tests.sluice.console.deployment import CONSOLE, VAULT, parts_on, policies_in

__all__ = ["at", "run", "token"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def gateway(at: Serve, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address. It keeps three logins, answers with one session at a time, and the command tells of each."""
    monkeypatch.setattr("sluice.console.actions.vault_pages._SECONDS", 0.0)
    monkeypatch.setattr("sluice.cli.vault_pages._PROGRESS_EVERY", 0.0)
    policies = policies_in(tmp_path, CONSOLE + VAULT)
    assert policies.sessions.vault is not None
    vault = open_vault(policies.sessions.vault, store)
    for session in ("s1", "s2", "s3"):
        fence = (await vault.generations.claim(session)).fence
        assert isinstance(await vault.save(session, fence, profile(tmp_path / "p", size=1000), Origin()), Saved)
    return at(api.routes(parts_on(store, policies)))


async def test_all_pages_are_one_and_progress_is_told(run: Run, gateway: str, token: Path) -> None:
    there = ("--gateway", gateway, "--token-file", token)
    code, out, err = await run("vault", "verify", *there)
    assert (code, err) == (0, "verified: 1 of 3 sessions\nverified: 2 of 3 sessions\n")
    assert out.startswith("verified: 3 sessions, 3 generations, ")
    code, out, err = await run("vault", "prune", "--yes", "--after", "s1", *there)
    assert (code, out) == (0, "nothing to erase, of 2 sessions looked at\n")
    assert err == "looked at: 1 of 2 sessions\n"
    code, out, err = await run("vault", "rekey", "--yes", *there)
    assert (code, err) == (0, "looked at: 1 of 3 sessions\nlooked at: 2 of 3 sessions\n")
    assert out.startswith("all that is kept of 3 sessions is sealed with the first key: ")
    code, out, err = await run("vault", "verify", "s2", "s3", *there)
    assert (code, err) == (0, "")
    assert out.startswith("verified: 2 sessions, 2 generations, ")


async def test_a_page_that_is_not_answered_ends_it_with_how_to_go_on(
    run: Run, gateway: str, token: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice.console.actions import vault_pages

    through, calls = vault_pages.through, 0

    async def once(*of: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 1:
            return vault_pages.unavailable("the vault is away")
        return await through(*of)  # type: ignore[arg-type]

    monkeypatch.setattr("sluice.console.actions.vault_checks.through", once)
    code, out, err = await run("vault", "verify", "--gateway", gateway, "--token-file", token)
    assert (code, out) == (2, "")
    assert err == (
        "verified: 1 of 3 sessions\nsluice: stopped early; go on with --after s1\nsluice: the vault is away\n"
    )


async def test_a_gateway_without_a_token(run: Run, at: Serve, token: Path, store: Store, tmp_path: Path) -> None:
    url = at(api.routes(parts_on(store, policies_in(tmp_path, VAULT))))
    assert await run("vault", "list", "--gateway", url, "--token-file", token) == (
        2,
        "",
        f"sluice: the gateway on {url} runs without console.token; set it in its policies.yaml and restart it\n",
    )
