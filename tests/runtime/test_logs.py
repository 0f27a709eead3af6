from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import logs


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    root, level = logging.getLogger(), logging.getLogger("sluice").level
    handlers, root_level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers = handlers
    root.setLevel(root_level)
    logging.getLogger("sluice").setLevel(level)


def test_a_line_is_json_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("gateway")
    logs.Log("gateway").info("request", status=202, session="s1")
    line = json.loads(capsys.readouterr().err)
    assert (line["process"], line["level"], line["msg"]) == ("gateway", "info", "request")
    assert (line["status"], line["session"]) == (202, "s1")


@pytest.mark.parametrize("name", ["secret", "api_key", "console_token", "X-HMAC-Signature", "Authorization"])
def test_a_field_that_speaks_of_a_secret_is_masked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.start("gateway")
    logs.Log("gateway").info("request", **{name: "hunter2"})
    assert "hunter2" not in capsys.readouterr().err


def test_under_a_supervisor_all_is_kept_in_a_file_and_only_trouble_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_LOGS", str(tmp_path))
    logs.start("relay")
    logs.Log("relay").info("calm")
    logs.Log("relay").warning("trouble")
    assert [json.loads(line)["msg"] for line in (tmp_path / "relay.jsonl").read_text().splitlines()] == [
        "calm",
        "trouble",
    ]
    assert "calm" not in capsys.readouterr().err
