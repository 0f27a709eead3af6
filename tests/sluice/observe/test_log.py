from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.observe import log
from sluice.observe.log_lines import Lines
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, out = list(root.handlers), root.level, log._out
    yield
    log._out.flush()
    log._out = out
    root.handlers = handlers
    root.setLevel(level)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_is_json_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").info("request", status=202, session="s1")
    line = json.loads(capsys.readouterr().err)
    assert (line["process"], line["level"], line["msg"]) == ("gateway", "info", "request")
    assert (line["status"], line["session"]) == (202, "s1")


@pytest.mark.parametrize("name", ["secret", "api_key", "console_token", "X-HMAC-Signature", "Authorization"])
def test_a_field_that_speaks_of_a_secret_is_masked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").info("request", **{name: "hunter2"})
    assert "hunter2" not in capsys.readouterr().err


def test_under_a_supervisor_all_is_kept_in_a_file_and_only_trouble_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    log.start("relay")
    log.Log("relay").info("calm")
    log.Log("relay").warning("trouble")
    assert [line["msg"] for line in lines(tmp_path / "relay.jsonl")] == ["calm", "trouble"]
    shown = capfd.readouterr().err
    assert "trouble" in shown
    assert "calm" not in shown


def test_what_others_have_written_steers_no_terminal_that_shows_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    log.start("relay")
    hostile = "\x1b[2J\x9b31m\u202e\x7fü"
    log.Log("relay").warning("trouble", session=hostile)
    for text in ((tmp_path / "relay.jsonl").read_text(), capfd.readouterr().err):
        assert not set("\x1b\x9b\u202e\x7f") & set(text)
        assert json.loads(text)["session"] == hostile


async def test_lines_of_a_busy_moment_are_written_together_soon_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    log.start("gateway")
    for number in range(100):
        log.Log("gateway").info("request", number=number)
    await until(lambda: len(lines(tmp_path / "gateway.jsonl")) == 100, timeout=2)
    assert [line["number"] for line in lines(tmp_path / "gateway.jsonl")] == list(range(100))


async def test_trouble_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    log.start("gateway")
    log.Log("gateway").info("before")
    log.Log("gateway").error("broken", exception=ValueError("no"))
    assert [line["msg"] for line in lines(tmp_path / "gateway.jsonl")] == ["before", "broken"]
    assert "ValueError: no" in lines(tmp_path / "gateway.jsonl")[1]["exception"]


def test_a_process_that_ends_writes_what_it_still_has(tmp_path: Path) -> None:
    program = (
        "import asyncio\nfrom sluice.observe import log\nlog.start('short')\n"
        "async def main(): log.Log('x').info('last words')\nasyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"SLUICE_LOGS": str(tmp_path), "PYTHONPATH": "."})
    assert lines(tmp_path / "short.jsonl")[0]["msg"] == "last words"


def test_a_file_that_has_grown_makes_room_for_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    monkeypatch.setattr("sluice.observe.log_lines._MAX_FILE", 1000)
    log.start("relay")
    for number in range(30):
        log.Log("relay").info("line", number=number)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["relay.jsonl", "relay.jsonl.1"]
    assert lines(tmp_path / "relay.jsonl")[-1]["number"] == 29


@pytest.mark.parametrize("happens", ["moved", "removed"])
def test_a_file_that_somebody_takes_away_is_followed_by_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    log.start("relay")
    log.Log("relay").info("before")
    file = tmp_path / "relay.jsonl"
    if happens == "moved":
        file.rename(tmp_path / "relay.jsonl-20261124")
    else:
        file.unlink()
    log.Log("relay").info("after")
    assert [line["msg"] for line in lines(file)] == ["after"]


def test_a_field_cannot_stand_for_the_head_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").line("request", {"level": "fake", "path": "\ud800"})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["level_"], line["msg"]) == ("info", "'fake'", "'request'")


def test_what_libraries_say_comes_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["msg"]) == (
        "warning",
        "uvicorn.error",
        "Invalid HTTP request received.",
    )


async def test_a_line_that_nobody_asked_for_costs_nothing_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    log._out = Lines(None, None)
    log.Log("gateway").warning("unheard")
    await asyncio.sleep(0)
    assert capsys.readouterr().err == ""
