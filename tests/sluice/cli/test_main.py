from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import sluice as package
from sluice import __version__
from sluice.cli.main import COMMANDS as TABLE, main
from tests.sluice.cli.command import command, environment, sluice

COMMANDS = ("up", "gateway", "relay", "worker", "check", "status", "dead", "sessions")
UNSAID = "say which dead letters are meant: by ids, by endpoint, session, event, since, until, reason, text, or by all"
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def policies(short_folder: Path, free_port: Callable[[], int]) -> Path:
    """Valid, on a free port, with nothing running."""
    file = short_folder / "policies.yaml"
    file.write_text(
        f"version: 1\nlisten: 127.0.0.1:{free_port()}\ndata: data\n"
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}, audit: {url: http://127.0.0.1:2}}}\n"
        "console: {token: env:SLUICE_CONSOLE_TOKEN}\n"
    )
    return file


def port_of(policies: Path) -> int:
    return int(policies.read_text().split("listen: 127.0.0.1:")[1].split("\n")[0])


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command in this process, which is faster: the exit code, and what it said on either side."""
    monkeypatch.delenv("SLUICE_CONSOLE_TOKEN", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return (code, *capsys.readouterr())

    return run


def test_help_lists_the_commands() -> None:
    ran = sluice("--help")
    assert (ran.code, ran.err) == (0, "")
    listed = re.findall(r"^    ([a-z-]+)", ran.out, re.MULTILINE)
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("arguments", [(), ("dead",), ("sessions",)])
def test_without_a_command_it_says_that_one_is_needed(ask: Ask, arguments: tuple[str, ...]) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert err.endswith("error: the following arguments are required: COMMAND\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--minute", "5x"), '--minute: "5x" is not a duration; write 250ms, 5s, 2m, 1h or 1d'),
        (("up", "--minute", "0s"), '--minute: "0s" is no time at all; write 1ms or more'),
        (
            ("worker", "--driver", "demo", "--name", "w", "--listen", "3101"),
            '--listen: "3101" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080',
        ),
        (("up", "--workers", "-1"), '--workers: "-1" is not a number of workers; write 2, or 2..8'),
        (("up", "--workers", "a..b"), '--workers: "a..b" is not a number of workers; write 2, or 2..8'),
        (("up", "--workers", "2.."), '--workers: "2.." is not a number of workers; write 2, or 2..8'),
        (("up", "--workers", "8..2"), '--workers: "8..2" is the wrong way round; write 2..8'),
        (("up", "--workers", "0..3"), '--workers: "0..3" begins with none; write 1..3'),
        (
            ("up", "--workers", "2..65"),
            '--workers: "2..65" is more than one machine is to run; 64 are the most',
        ),
        (("up", "--sessions", "many"), '--sessions: "many" is not a number; write 0, 1, 2 or more'),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_the_cure(ask: Ask, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"sluice {arguments[0]}: error: argument {said}"


@pytest.mark.parametrize("command_name", ["replay", "drop"])
@pytest.mark.parametrize("which", [(), ("evt_1", "--all")])
def test_which_dead_letters_must_be_said(ask: Ask, policies: Path, command_name: str, which: tuple[str, ...]) -> None:
    said = "ids and all exclude each other: name the dead letters, or mean all of them" if which else UNSAID
    assert ask("dead", command_name, *which, "--policies", policies) == (2, "", f"sluice: {said}\n")


@pytest.mark.parametrize("looking", [("dead", "list"), ("dead", "show", "evt_1"), ("sessions", "list")])
def test_nothing_is_running_to_look_into(ask: Ask, policies: Path, looking: tuple[str, ...]) -> None:
    """Nor is a secret missed that is not needed for looking."""
    code, out, err = ask(*looking, "--policies", policies)
    assert (code, out) == (2, "")
    assert err.startswith("sluice: the store does not answer (")
    assert err.endswith(f"; is `sluice up` running on {policies.parent}/data?\n")


def test_another_store_that_does_not_answer(ask: Ask, policies: Path) -> None:
    policies.write_text(policies.read_text() + f'store: {{url: "unix://{policies.parent}/nobody.sock"}}\n')
    code, out, err = ask("dead", "list", "--policies", policies)
    assert (code, out) == (2, "")
    assert err.endswith("; check store.url in policies.yaml\n")


def test_no_gateway_to_ask_for_its_status(policies: Path) -> None:
    ran = sluice("status", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        f"sluice: nothing answers on http://127.0.0.1:{port_of(policies)}; "
        f"start it with `sluice up`, or correct listen in {policies}\n",
    )


def test_a_gateway_and_a_relay_without_a_store_say_how_to_start_one(policies: Path) -> None:
    running = [
        subprocess.Popen(
            command(name, "--policies", policies), env=environment(), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        for name in ("gateway", "relay")
    ]
    for process in running:
        _, error = process.communicate(timeout=30)
        assert process.returncode == 2
        assert re.fullmatch(
            rb"sluice: the store was not usable within 3s: no connection to \S+store\.sock: "
            rb"\[Errno 2\] No such file or directory; start it with: sluice up\n",
            error,
        )


def test_the_port_of_the_gateway_is_taken(policies: Path) -> None:
    port = port_of(policies)
    with socket.create_server(("127.0.0.1", port)):
        ran = sluice("gateway", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        f"sluice: cannot listen on 127.0.0.1:{port}: address already in use; "
        "stop what listens there, or choose another address\n",
    )


def test_a_worker_without_a_signature_cannot_prove_itself(policies: Path) -> None:
    ran = sluice("worker", "--driver", "demo", "--name", "w1", "--policies", policies)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        "sluice: neither sessions.verify nor sessions.keys has a signature for worker w1, so it cannot register; set "
        "one in policies.yaml\n",
    )


@pytest.mark.parametrize("arguments", [("up",), ("gateway", "--processes", "2")])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file", "it is a file"),
        ("file/data", "not a directory"),
        ("/proc/nowhere", "no such file or directory"),
        ("/sys/nowhere", "operation not permitted"),  # as on a disk that only can be read; for root as well
        ("x" * 300, "file name too long"),
    ],
)
def test_a_data_folder_that_cannot_be_used(
    ask: Ask, policies: Path, arguments: tuple[str, ...], name: str, why: str
) -> None:
    (policies.parent / "file").touch()
    policies.write_text(policies.read_text().replace("data: data", f"data: {name}").replace("console", "#"))
    data = (policies.parent / name).resolve()
    cure = "name a folder in which this user may write, as data: in policies.yaml"
    assert ask(*arguments, "--policies", policies) == (
        2,
        "",
        f"sluice: data: {data} cannot be used ({why}); {cure}\n",
    )


@pytest.mark.parametrize("arguments", [("up",), ("gateway",), ("relay",), ("dead", "list"), ("sessions", "list")])
def test_a_data_folder_whose_socket_would_have_too_long_a_path(
    ask: Ask, policies: Path, arguments: tuple[str, ...]
) -> None:
    policies.write_text(policies.read_text().replace("data: data", f"data: {'x' * 100}").replace("console", "#"))
    assert ask(*arguments, "--policies", policies) == (
        2,
        "",
        f"sluice: data: {policies.parent}/{'x' * 100} is too long a path for a unix socket (89 bytes at most); "
        "choose a shorter one\n",
    )


def test_a_data_folder_whose_lock_cannot_be_opened(ask: Ask, policies: Path) -> None:
    (policies.parent / "data" / "lock").mkdir(parents=True)
    policies.write_text(policies.read_text().replace("console", "#"))
    code, out, err = ask("up", "--policies", policies)
    assert (code, out) == (2, "")
    assert err.startswith(f"sluice: data: {policies.parent}/data cannot be used (is a directory); name a folder")


def test_the_version_is_told(ask: Ask) -> None:
    how = "compiled" if list(Path(package.__file__).parent.glob("*.so")) else "plain Python"
    assert ask("--version") == (0, f"sluice {__version__}, {how}\n", "")


@pytest.mark.parametrize("name", [name for name, _, _ in TABLE])
def test_every_command_has_its_help(ask: Ask, name: str) -> None:
    code, out, err = ask(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: sluice {name} ")
