"""What Tab completes, by the shells that are here."""

from __future__ import annotations

import subprocess

import pytest

from sluice.cli.completion import commands_of
from sluice.cli.main import COMMANDS, whole_parser
from tests.sluice.cli.command import sluice

COMPLETING = """
eval "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_sluice
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash() -> str:
    ran = sluice("completion", "bash")
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def completed(script: str, line: str) -> list[str]:
    """What bash offers for the last word of the line."""
    words = line.split(" ")
    ran = subprocess.run(
        ["bash", "--norc", "-c", COMPLETING, "bash", *words],
        env={"SCRIPT": script, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sluice che", ["check"]),
        ("sluice --ver", ["--version"]),
        ("sluice dead re", ["replay"]),
        ("sluice dead replay --ra", ["--rate"]),
        ("sluice dead replay --rate 5/second --dr", ["--dry-run"]),
        ("sluice worker --driver ", ["demo", "browser"]),
        ("sluice circuit hold laravel op", ["open"]),
        ("sluice check --no", ["--no-secrets"]),
        ("sluice rest", ["restore"]),
        ("sluice backup /srv/b --re", ["--replace"]),
        ("sluice sessions migrate /srv --on", ["--only"]),
        ("sluice sessions export s1 --as ", ["local-auth", "remote-auth"]),
        ("sluice completion f", ["fish"]),
        ("sluice up --policies ", []),  # files, which bash does itself
        ("sluice gateway --one", []),  # not for people
        ("sluice nothing che", ["check"]),
    ],
)
def test_bash_completes(bash: str, line: str, offered: list[str]) -> None:
    assert completed(bash, line) == offered


def test_bash_knows_every_command_and_option(bash: str) -> None:
    assert set(completed(bash, "sluice ")) == {name for name, _, _ in COMMANDS} | {"-h", "--help", "--version"}
    for command in commands_of(whole_parser()):
        offered = completed(bash, f"sluice {command.path} ".replace("  ", " "))
        assert {flag for option in command.options for flag in option.flags} <= set(offered), command.path


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_of_every_command_and_option(shell: str) -> None:
    ran = sluice("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    for command in commands_of(whole_parser()):
        for name, about in command.commands:
            assert name in ran.out
            assert about.replace("'", "'\\''") in ran.out
        for option in command.options:
            flag = option.flags[-1]
            assert (f"'{flag}" if shell == "zsh" else f"-l {flag.removeprefix('--')} ") in ran.out


def test_another_shell_is_refused() -> None:
    ran = sluice("completion", "tcsh")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith("invalid choice: 'tcsh' (choose from 'bash', 'zsh', 'fish')\n") or "tcsh" in ran.err
