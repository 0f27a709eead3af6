from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import VaultPolicy
from sessions.profiles.vault import Saved
from sluice.config.model import Secret
from sluice.store.client import Store
from tests.sessions.profiles.making import profile
from tests.sluice.cli.command import ROOT, SECRETS, sluice

BEGINNING = "version: 1\nlisten: 127.0.0.1:8080\n"


def written(folder: Path, rest: str) -> Path:
    file = folder / "policies.yaml"
    file.write_text(BEGINNING + rest)
    return file


def test_the_policies_of_the_project_are_valid_and_summed_up() -> None:
    ran = sluice("check")
    assert (ran.code, ran.err) == (0, "")
    first, *rest = ran.out.splitlines()
    assert first.startswith("policies.yaml: valid (revision ")
    assert rest == [
        "  listens on  127.0.0.1:8080",
        "  store       embedded, a 202 buys `second`",
        "  routes      18",
        "  limits      message, receipt, typing, send, address, trial",
        "  endpoints   laravel (http://127.0.0.1:8000)",
    ]


def test_what_is_allowed_and_still_worth_a_word_is_a_warning(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    ran = sluice("check", file)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == "  warning: console: no token; the console and admin API are closed"


def test_a_password_of_the_store_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, 'store: {url: "redis://:hunter2@localhost:6379/0"}\n')
    ran = sluice("check", file)
    assert (ran.code, "hunter2" in ran.out) == (0, False)
    assert "  store       localhost:6379/0, a 202 buys `second`" in ran.out.splitlines()


@pytest.mark.parametrize(
    ("mistake", "place", "said"),
    [
        ("reley: {}\n", "3:1", "reley: unknown key; did you mean relay"),
        (
            "store: {timeout: 250 ms}\n",
            "3:18",
            'store.timeout: "250 ms" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        ),
        (
            "console: {token: env:NOT_THERE}\n",
            "3:18",
            "console.token: the environment variable NOT_THERE is not set; export NOT_THERE=…",
        ),
    ],
    ids=["unknown key", "wrong unit", "missing secret"],
)
def test_a_mistake_is_shown_at_its_place_with_its_cure(tmp_path: Path, mistake: str, place: str, said: str) -> None:
    file = written(tmp_path, mistake)
    ran = sluice("check", file)
    assert (ran.code, ran.out, ran.err) == (1, "", f"{file}:{place}: {said}\n")


def test_all_mistakes_are_shown_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "reley: {}\nstore: {timeout: 1}\nconsole: {token: plain}\n")
    ran = sluice("check", file)
    assert (ran.code, ran.out) == (1, "")
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in ran.err.splitlines()] == ["3", "4", "5"]


def test_a_secret_that_is_missing_is_named_wherever_it_is_used() -> None:
    ran = sluice("check", secrets={"SLUICE_CONSOLE_TOKEN": "x"})
    missing = "the environment variable WHATSAPP_HMAC_SECRET is not set; export WHATSAPP_HMAC_SECRET=…"
    assert (ran.code, ran.out) == (1, "")
    assert [line.split(": ", 1)[1] for line in ran.err.splitlines()] == [
        f"signatures.workers.secret: {missing}",
        f"signatures.laravel.secret: {missing}",
    ]


def test_a_program_reads_that_the_file_is_valid() -> None:
    ran = sluice("check", "--json")
    assert (ran.code, ran.err) == (0, "")
    told = orjson.loads(ran.out)
    assert len(told.pop("revision")) == 12
    assert told == {"valid": True, "problems": [], "warnings": []}


def test_a_program_reads_what_is_wrong(tmp_path: Path) -> None:
    ran = sluice("check", "--json", written(tmp_path, "reley: {}\n"))
    assert (ran.code, ran.err) == (1, "")
    problem = {"line": 3, "column": 1, "key": "reley", "message": "unknown key", "hint": "did you mean relay"}
    assert orjson.loads(ran.out) == {"valid": False, "problems": [problem], "warnings": []}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    ran = sluice("check", folder=tmp_path)
    cure = "write one with sluice init, or name yours (--policies FILE, or sluice check FILE)"
    assert (ran.code, ran.out, ran.err) == (1, "", f"policies.yaml: no such file; {cure}\n")
    ran = sluice("check", "--json", "elsewhere.yaml", folder=tmp_path)
    assert ran.code == 1
    assert orjson.loads(ran.out)["problems"] == [
        {"line": 0, "column": 0, "key": "", "message": "no such file", "hint": cure}
    ]


def test_a_folder_is_no_file() -> None:
    ran = sluice("check", ROOT)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"{ROOT}: cannot be read (is a directory); ")


def test_where_no_secrets_are_at_hand_the_rest_is_checked(tmp_path: Path) -> None:
    ran = sluice("check", "--no-secrets", secrets={})
    assert (ran.code, ran.err) == (0, "")
    file = written(tmp_path, "console: {token: file:not-there}\nreley: {}\n")
    ran = sluice("check", "--no-secrets", file, secrets={})
    assert (ran.code, ran.out, ran.err) == (1, "", f"{file}:4:1: reley: unknown key; did you mean relay\n")


def test_a_secret_in_the_file_is_a_mistake_without_looking_for_secrets_too(tmp_path: Path) -> None:
    file = written(tmp_path, "console: {token: hunter2}\n")
    ran = sluice("check", "--no-secrets", file)
    assert ran.code == 1
    assert ran.err == f"{file}:3:18: console.token: a secret must not stand in this file; write env:NAME or file:PATH\n"


# --- the vault

VAULT = "sessions: {vault: {key: env:SLUICE_CONSOLE_TOKEN}}\nconsole: {token: env:SLUICE_CONSOLE_TOKEN}\n"


def test_a_vault_is_summed_up(tmp_path: Path) -> None:
    ran = sluice("check", written(tmp_path, VAULT))
    assert (ran.code, ran.err) == (0, "")
    assert "  vault       store, 3 generations, saved every 600s at least" in ran.out.splitlines()


def test_a_vault_without_a_key_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "sessions: {vault: {generations: 3}}\n")
    ran = sluice("check", file)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"{file}:3:19: sessions.vault.key: is missing; write key: env:SLUICE_VAULT_KEY, with what openssl rand -hex 32 "
        "makes\n"
    )


async def keep_a_login(store: Store, folder: Path, size: int) -> None:
    vault = open_vault(VaultPolicy("store", (Secret(SECRETS["SLUICE_CONSOLE_TOKEN"].encode()),)), store)
    fence = (await vault.generations.claim("s1")).fence
    assert isinstance(await vault.save("s1", fence, profile(folder, size=size), Origin()), Saved)


@pytest.mark.anyio
async def test_logins_that_may_not_fit_the_store_are_a_warning(store: Store, store_url: str, tmp_path: Path) -> None:
    file = written(tmp_path, VAULT + f"store: {{url: '{store_url}', promise: memory}}\n")
    await keep_a_login(store, tmp_path / "profile", 2**20)

    def warned() -> list[str]:
        return [line for line in sluice("check", file).out.splitlines() if "may not fit the store" in line]

    assert await asyncio.to_thread(warned) == []
    (used,) = await store.commands(("INFO", "memory"))
    memory = int(used.decode().partition("used_memory:")[2].split()[0])
    await store.commands(("CONFIG", "SET", "maxmemory", str(memory + 2**20)))
    try:
        (line,) = await asyncio.to_thread(warned)
    finally:
        await store.commands(("CONFIG", "SET", "maxmemory", "0"))
    assert line.startswith("  warning: sessions.vault: profiles may not fit the store: they use 1.")
    assert line.endswith(
        "maxmemory: give it more, keep fewer generations, or set sessions.vault.url to a folder or a bucket"
    )


def test_a_store_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    ran = sluice("check", written(tmp_path, VAULT + "store: {url: 'redis://127.0.0.1:1/0', promise: memory}\n"))
    assert (ran.code, ran.err, "may not fit" in ran.out) == (0, "", False)
