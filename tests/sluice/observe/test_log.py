from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sluice.config import LogPolicy
from sluice.observe import log
from sluice.observe.log_lines import Lines
from sluice.observe.log_outputs import LogFile
from tests.waiting import until

pytestmark = pytest.mark.anyio


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_is_json_with_its_fields(capfd: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").info("request", status=202, session="s1")
    line = json.loads(capfd.readouterr().err)
    assert (line["process"], line["level"], line["msg"]) == ("gateway", "info", "request")
    assert (line["status"], line["session"]) == (202, "s1")


@pytest.mark.parametrize("name", ["secret", "api_key", "console_token", "X-HMAC-Signature", "Authorization"])
def test_a_field_that_speaks_of_a_secret_is_masked(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").info("request", **{name: "hunter2"})
    assert "hunter2" not in capfd.readouterr().err


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
    await until(lambda: len(lines(tmp_path / "gateway.jsonl")) == 100)
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


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        (1, ["relay.jsonl"]),
        (2, ["relay.jsonl", "relay.jsonl.1"]),
        (4, ["relay.jsonl", "relay.jsonl.1", "relay.jsonl.2", "relay.jsonl.3"]),
    ],
)
def test_a_file_that_has_grown_makes_room_for_a_new_one(tmp_path: Path, files: int, kept: list[str]) -> None:
    log.start("relay", LogPolicy(size=500, files=files, to="files"), tmp_path)
    for number in range(60):
        log.Log("relay").info("line", number=number)
    assert sorted(file.name for file in tmp_path.iterdir()) == kept
    numbers = [line["number"] for name in reversed(kept) for line in lines(tmp_path / name)]
    assert numbers == list(range(60))[-len(numbers) :]


def test_an_edit_of_size_and_number_counts_at_once_and_files_too_many_are_removed(tmp_path: Path) -> None:
    log.start("relay", LogPolicy(size=500, files=5, to="files"), tmp_path)
    for number in range(60):
        log.Log("relay").info("line", number=number)
    log.apply(LogPolicy(size=1000, files=2))
    for number in range(60):
        log.Log("relay").info("line", number=number)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["relay.jsonl", "relay.jsonl.1"]
    assert (tmp_path / "relay.jsonl.1").stat().st_size > 900


def test_two_processes_of_one_name_lose_no_line_when_the_file_is_full(tmp_path: Path) -> None:
    first, second = (LogFile(tmp_path / "relay.jsonl") for _ in range(2))
    for number in range(200):
        for file in (first, second):
            file.size, file.files = 500, 200
            file.write(b'{"number":%d}\n' % number)
    said = [line["number"] for file in tmp_path.iterdir() for line in lines(file)]
    assert sorted(said) == sorted([*range(200), *range(200)])


@pytest.mark.parametrize("value", ["x" * 60_000, "\0" * 60_000, ["y" * 60_000] * 500, {"z" * 60_000: "z" * 60_000}])
def test_no_field_of_a_line_is_longer_than_its_cap(tmp_path: Path, value: object) -> None:
    log.start("gateway", LogPolicy(to="files"), tmp_path)
    log.Log("gateway").info("request", method=value, status=400)
    (line,) = lines(tmp_path / "gateway.jsonl")
    assert line["status"] == 400
    assert (tmp_path / "gateway.jsonl").stat().st_size < 16_000


def test_a_text_that_is_cut_says_how_long_it_was(tmp_path: Path) -> None:
    log.start("gateway", LogPolicy(to="files"), tmp_path)
    log.Log("gateway").info("request", method="x" * 60_000, path="/" * 1024)
    logging.getLogger("uvicorn.error").warning("y" * 60_000)
    first, second = lines(tmp_path / "gateway.jsonl")
    assert first["method"] == "x" * 1024 + "… (60000 characters)"
    assert first["path"] == "/" * 1024
    assert second["msg"] == "y" * 1024 + "… (60000 characters)"


def test_of_a_long_traceback_the_end_is_kept(tmp_path: Path) -> None:
    log.start("gateway", LogPolicy(to="files"), tmp_path)
    log.Log("gateway").error("broken", exception=ValueError("x" * 60_000 + " is the reason"))
    (line,) = lines(tmp_path / "gateway.jsonl")
    assert line["exception"].endswith("x is the reason\n")
    assert len(line["exception"]) < 17_000


def test_lines_of_another_form_have_a_file_of_their_own(tmp_path: Path) -> None:
    log.start("gateway", LogPolicy(to="files"), tmp_path)
    log.Log("gateway").info("before")
    assert [file.name for file in tmp_path.iterdir()] == ["gateway.jsonl"], "none before the first such line"
    log.Log("gateway").text(b'127.0.0.1 - - "GET / HTTP/1.1"')
    assert (tmp_path / "gateway.access.log").read_text() == '127.0.0.1 - - "GET / HTTP/1.1"\n'
    assert [line["msg"] for line in lines(tmp_path / "gateway.jsonl")] == ["before"]


@pytest.mark.parametrize(("supervised", "also"), [(False, ""), (True, "trouble")])
def test_all_of_it_goes_to_standard_output_where_the_policies_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], supervised: bool, also: str
) -> None:
    if supervised:
        monkeypatch.setenv("SLUICE_SUPERVISED", "1")
    log.start("gateway", LogPolicy(to="stdout"), tmp_path)
    log.Log("gateway").info("calm")
    log.Log("gateway").text(b"a request")
    log.Log("gateway").warning("trouble")
    shown = capfd.readouterr()
    calm, request, trouble = shown.out.splitlines()
    assert (json.loads(calm)["msg"], request, json.loads(trouble)["msg"]) == ("calm", "a request", "trouble")
    assert also in shown.err
    assert "calm" not in shown.err
    assert not supervised or json.loads(shown.err)["msg"] == "trouble"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_standard_output_that_stands_still_stops_no_work(tmp_path: Path) -> None:
    """What it does not take is kept up to a bound, then lost and counted; a line that was cut is ended."""
    reading, writing = os.pipe()
    program = (
        "from sluice.config import LogPolicy\nfrom sluice.observe import log, tallies\n"
        "from sluice.observe.log_lines import _LOST\n"
        "log.start('gateway', LogPolicy(to='stdout'))\n"
        "for number in range(40_000): log.Log('gateway').info('line', number=number)\n"
        "assert sum(_LOST.totals.values()) > 0\n"
    )
    with os.fdopen(reading, "rb") as out:
        try:
            environment = {**os.environ, "PYTHONPATH": "."}
            done = subprocess.run([sys.executable, "-c", program], stdout=writing, timeout=60, env=environment)
        finally:
            os.close(writing)
        assert done.returncode == 0
        taken = out.read().splitlines()
    assert [json.loads(line)["number"] for line in taken[:100]] == list(range(100))


def test_lines_of_several_processes_are_not_mixed_on_a_shared_standard_output() -> None:
    program = (
        "import sys\nfrom sluice.config import LogPolicy\nfrom sluice.observe import log\n"
        "log.start(sys.argv[1], LogPolicy(to='stdout'))\n"
        "import time\n"
        "for number in range(3000):\n"
        "    log.Log('x').warning('line', number=number, padding='p' * 700)\n"
        "    while log._out._output.unsent: time.sleep(0.001); log._out.flush()\n"
    )
    reading, writing = os.pipe()
    environment = {**os.environ, "PYTHONPATH": "."}
    both = [
        subprocess.Popen([sys.executable, "-c", program, name], stdout=writing, env=environment) for name in ("a", "b")
    ]
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        found = [json.loads(line) for line in out.read().splitlines()]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    for name in ("a", "b"):
        assert [line["number"] for line in found if line["process"] == name] == list(range(3000))


def test_through_the_standard_library_fields_are_masked_capped_and_on_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log._out = log._NOWHERE
    log.use_standard_logging()
    with caplog.at_level(logging.INFO, "sluice"):
        log.Log("gateway").info("request", session="s1\nforged \x1b[2J", token="hunter2", why="x" * 60_000, limit=None)
    (record,) = caplog.records
    assert record.getMessage() == (
        "request session=s1\\nforged \\x1b[2J token=*** why=" + "x" * 1024 + "… (60000 characters)"
    )


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


def test_a_field_cannot_stand_for_the_head_of_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    log.Log("gateway").line("request", {"level": "fake", "path": "\ud800"})
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["level_"], line["msg"]) == ("info", "'fake'", "'request'")


def test_what_libraries_say_comes_in_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    log.start("gateway")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    line = json.loads(capfd.readouterr().err)
    assert (line["level"], line["logger"], line["msg"]) == (
        "warning",
        "uvicorn.error",
        "Invalid HTTP request received.",
    )


async def test_a_line_that_nobody_asked_for_costs_nothing_before_the_start(capfd: pytest.CaptureFixture[str]) -> None:
    log._out = Lines(None)
    log.Log("gateway").warning("unheard")
    await asyncio.sleep(0)
    assert capfd.readouterr().err == ""
