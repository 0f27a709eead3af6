"""Commands that look into a running Sluice while the policies file is wrong or gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import load
from sluice.cli.main import main
from sluice.config import last_good

GONE = "no such file; write one with sluice init, or name yours (--policies FILE, or sluice check FILE)"


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    """Of which a copy was kept when it went live."""
    (tmp_path / "token").write_text("the-token")
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\ndata: state\nstore: {{url: "{store_url}"}}\nconsole: {{token: "file:token"}}\n'
        "relay: {endpoints: {laravel: {url: http://127.0.0.1:1}}}\n"
    )
    known = load(file)
    last_good.keep(file, known.revision, known.data)
    return file


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("data: state\nversion: 1\nlimit: []\n", 'line 3: limit: unknown key (did you mean "limits"?)'),
        ("version: 1\ndata: state # here\nlimit: []\nlisten: x\n", "line 3: limit: unknown key"),
        ("data: 'state'\nrelay: [\n", "line 3: not YAML: "),
        ('data: "state"\r\n\tx: 1\n', "line 2: not YAML: "),
    ],
)
@pytest.mark.parametrize(
    "command", [("dead", "list"), ("circuit", "list"), ("sessions", "list"), ("circuit", "hold", "laravel", "closed")]
)
def test_a_wrong_file_is_told_and_its_last_good_copy_used(
    capsys: pytest.CaptureFixture[str], policies: Path, wrong: str, why: str, command: tuple[str, ...]
) -> None:
    _, right, _ = run(capsys, *command, "--json", "--policies", policies)
    revision = load(policies).revision
    policies.write_text(wrong)
    code, out, err = run(capsys, *command, "--json", "--policies", policies)
    assert code == 0
    assert out == right.replace('"changed": true', '"changed": false')
    assert err.startswith(f"sluice: {policies} is wrong ({why}"[:60])
    assert err.endswith(f"); using the last good copy, revision {revision}\n")
    assert ("; and 1 more: sluice check)" in err) == ("listen: x" in wrong)


def test_a_file_that_is_gone_is_found_in_the_default_folder(capsys: pytest.CaptureFixture[str], policies: Path) -> None:
    policies.write_text(policies.read_text().replace("data: state\n", ""))
    known = load(policies)
    last_good.keep(policies, known.revision, known.data)
    policies.unlink()
    code, out, err = run(capsys, "circuit", "list", "--policies", policies)
    assert (code, out.splitlines()[1].split()[:2]) == (0, ["laravel", "closed"])
    assert err == f"sluice: {policies} is wrong (no such file); using the last good copy, revision {known.revision}\n"


def test_status_finds_the_token_that_is_named_relative_to_the_file(
    capsys: pytest.CaptureFixture[str], policies: Path, free_port: object
) -> None:
    policies.write_text("data: state\n" + "nothing: right\n")
    code, _, err = run(capsys, "status", "--policies", policies)
    assert (code, "console.token" in err) == (2, False)
    assert "nothing answers on http://127.0.0.1:8080" in err or "does not know console.token in" in err


def test_without_a_copy_the_file_has_to_be_right(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    assert run(capsys, "dead", "list", "--policies", file) == (
        2,
        "",
        f"sluice: {file}: {GONE}\nthere is no last good copy of {file} in {tmp_path}/.sluice\n",
    )
    file.write_text("data: here\n")
    _, _, err = run(capsys, "dead", "list", "--policies", file)
    assert err.splitlines()[-1] == f"there is no last good copy of {file} in {tmp_path}/here or {tmp_path}/.sluice"


def test_a_copy_of_another_file_is_not_used(capsys: pytest.CaptureFixture[str], policies: Path) -> None:
    other = policies.with_name("other.yaml")
    other.write_text("data: state\nx: 1\n")
    code, _, err = run(capsys, "dead", "list", "--policies", other)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"there is no last good copy of {other} in ")


def test_a_copy_that_is_wrong_by_now_is_told_too(capsys: pytest.CaptureFixture[str], policies: Path) -> None:
    copy = policies.with_name("state") / last_good.NAME
    copy.write_bytes(copy.read_bytes().replace(b"version: 1", b"version: 9"))
    policies.write_text("data: state\n")
    code, _, err = run(capsys, "dead", "list", "--policies", policies)
    assert code == 2
    assert "\nthe last good copy, revision " in err
    assert "is wrong too: " in err


def test_what_judges_the_file_itself_keeps_refusing_a_wrong_one(
    capsys: pytest.CaptureFixture[str], policies: Path
) -> None:
    policies.write_text("data: state\n")
    code, out, err = run(capsys, "check", policies)
    assert (code, out) == (1, "")
    assert "last good copy" not in err
