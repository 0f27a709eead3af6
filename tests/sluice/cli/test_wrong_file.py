"""Every command of the table while policies.yaml is wrong or missing: it says so in a sentence, or does without."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.policies import load
from sluice.cli.main import COMMANDS, main, whole_parser
from sluice.config import last_good

MISSING = "no such file; write one with sluice init, or name yours (--policies FILE, or sluice check FILE)"
WRONG = "version: 1\ndata: state\nlimit: []\n"
MISTAKE = "3:1: limit: unknown key; did you mean limits"

GIVEN = {
    "worker": ("--driver", "demo", "--name", "w"),
    "explain": ("--path", "/"),
    "replay": ("LOG",),
    "backup": ("FILE",),
    "restore": ("FILE",),
    "policies try": ("FILE",),
    "alerts silence": ("circuit_open", "--for", "2h"),
}
"""Arguments that are not any word."""
OF_THE_FILE = {"check", "diff"}
WITHOUT = {"init", "schema", "completion", "sessions import"}
"""What needs no policies file."""


def _leaves() -> dict[str, tuple[str, ...]]:
    """Every command of the table that does something by the policies, with arguments that it takes."""
    found = {}
    parsers = {"": whole_parser()}
    while parsers:
        path, parser = parsers.popitem()
        below = [it for it in parser._actions if isinstance(it, argparse._SubParsersAction)]
        for name, inner in below[0].choices.items() if below else ():
            parsers[f"{path} {name}".strip()] = inner
        if not below and path not in WITHOUT and path.split()[0] not in OF_THE_FILE | WITHOUT:
            needed = [it for it in parser._actions if it.required and it.nargs not in ("?", "*")]
            values = [(*it.option_strings[:1], str(next(iter(it.choices))) if it.choices else "x") for it in needed]
            found[path] = GIVEN.get(path, tuple(part for value in values for part in value))
    return found


LEAVES = _leaves()
RUNS = {name for name, _, place in COMMANDS if place.startswith(("up:", "processes:"))}
"""What begins to work needs the file itself; what looks into a running Sluice does it by the last good copy."""
LOOKS = sorted(LEAVES.keys() - RUNS)


@pytest.fixture
def file(tmp_path: Path, store_url: str) -> Path:
    """Wrong; of the right one a copy was kept."""
    file = tmp_path / "policies.yaml"
    (tmp_path / "token").write_text("the-token")
    file.write_text(
        f'version: 1\ndata: state\nstore: {{url: "{store_url}"}}\nlisten: 127.0.0.1:1\n'
        "console: {token: file:token}\nrelay: {endpoints: {laravel: {url: http://127.0.0.1:2}}}\n"
    )
    known = load(file)
    last_good.keep(file, known.revision, known.data)
    file.write_text(WRONG)
    (tmp_path / "log.jsonl").write_text(
        '{"msg": "request", "at": "2026-01-31T12:00:00Z", "method": "GET", "path": "/", "client": "192.0.2.7"}\n'
    )
    return file


def run(capsys: pytest.CaptureFixture[str], file: Path, name: str, arguments: tuple[str, ...]) -> tuple[int, str, str]:
    named = {"LOG": str(file.parent / "log.jsonl"), "FILE": str(file)}
    given = [named.get(argument, argument) for argument in arguments]
    if name not in OF_THE_FILE:
        given += ["--policies", str(file)]
    code = main([*name.split(), *given])
    return (code, *capsys.readouterr())


def test_every_command_of_the_table_is_here() -> None:
    named = {path.split()[0] for path in (*LEAVES, *WITHOUT)} | OF_THE_FILE
    assert named == {name for name, _, _ in COMMANDS}
    assert {"up", "status", "dead list", "dead drop", "queue move", "circuit hold", "sessions show"} <= LEAVES.keys()


@pytest.mark.parametrize("name", sorted(RUNS))
@pytest.mark.parametrize("missing", [False, True])
def test_nothing_begins_to_work_by_a_wrong_file(
    capsys: pytest.CaptureFixture[str], file: Path, name: str, missing: bool
) -> None:
    if missing:
        file.unlink()
    said = f"{file}: {MISSING}" if missing else f"{file}:{MISTAKE}"
    assert run(capsys, file, name, LEAVES[name]) == (2, "", f"sluice: {said}\n")


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("missing", [False, True])
def test_what_looks_into_a_running_sluice_uses_the_last_good_copy_and_says_so(
    capsys: pytest.CaptureFixture[str], file: Path, name: str, missing: bool
) -> None:
    copy = last_good.find(file)
    assert copy is not None
    if missing:
        (file.parent / "state").rename(file.parent / ".sluice")
        file.unlink()
    _, _, err = run(capsys, file, name, LEAVES[name])
    why = "no such file" if missing else "line 3: limit: unknown key"
    using = f"sluice: {file} is wrong ({why}); using the last good copy, revision {copy.revision}\n"
    assert err.startswith(using)
    rest = err.removeprefix(using)
    assert rest == "" or rest.startswith("sluice: ")  # nothing runs here that could be asked
    assert "Traceback" not in err


@pytest.mark.parametrize("name", LOOKS)
def test_without_a_copy_it_says_what_is_wrong_and_where_it_looked(
    capsys: pytest.CaptureFixture[str], file: Path, name: str
) -> None:
    (file.parent / "state" / last_good.NAME).unlink()
    places = " or ".join(str(file.parent / folder) for folder in ("state", ".sluice"))
    assert run(capsys, file, name, LEAVES[name]) == (
        2,
        "",
        f"sluice: {file}:{MISTAKE}\nthere is no last good copy of {file} in {places}\n",
    )


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_about_the_file_itself_says_what_is_wrong_with_it(
    capsys: pytest.CaptureFixture[str], file: Path, missing: bool
) -> None:
    if missing:
        file.unlink()
    said = f"{file}: {MISSING}" if missing else f"{file}:{MISTAKE}"
    assert run(capsys, file, "check", ("FILE",)) == (1, "", f"{said}\n")
    assert run(capsys, file, "diff", ("FILE", "FILE")) == (2, "", f"sluice: {said}\n")
