"""One verdict of all parts; the parts are run by tests/e2e/test_chaos.py, tests/nemesis and test_hostile.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chaos
import pytest
from measured import Figure

from tests.e2e.account import OF_CRASHES, Account
from tests.nemesis import history


def account() -> Account:
    """One event lost, one under two ids, two in the wrong order."""
    found = Account()
    found.emitted = {("a", 0): 1.0, ("a", 1): 2.0, ("a", 2): 3.0, ("b", 0): 4.0}
    found.answered = set(found.emitted)
    found.taken = [
        (("a", 2), "evt_2", 5.0),
        (("a", 1), "evt_1", 6.0),
        (("a", 2), "evt_9", 7.0),
        (("a", 0), "evt_0", 8.0),
    ]
    found.kills["relay"] = 2
    return found


def test_what_is_wrong_is_said_in_sentences() -> None:
    part = chaos._of(account())
    assert part.wrong == [
        "b 0 was lost",
        "a 1 came after a later one",
        "a 0 came after a later one",
        "a 2 came again under another id",
    ]
    assert Figure("kills", 2) in part.figures


def test_a_dead_letter_is_wrong_unless_three_relays_were_killed_in_its_post() -> None:
    found = account()
    found.dead = {("b", 0): OF_CRASHES}
    found.posted["b", 0] = [10.0, 20.0, 30.0, 40.0]
    found.relay_kills = [10.5, 20.9, 35.0, 40.2]
    part = chaos._of(found)
    assert [sentence for sentence in part.wrong if sentence.startswith("b")] == []
    assert Figure("dead letters, in whose POST three relays were killed", 1) in part.figures

    found.relay_kills.pop()
    sentence = "b 0 is a dead letter: 3 relay processes ended while they delivered it"
    assert sentence in chaos._of(found).wrong
    found.dead["b", 0] = "the receiver answered 422"
    assert "b 0 is a dead letter: the receiver answered 422" in chaos._of(found).wrong


def test_one_thing_that_is_wrong_in_one_part_is_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    good = chaos.Part([Figure("faults", 3)], [])
    assert chaos._judged({"relay": good, "nemesis": good}) == 0
    assert capsys.readouterr().out == "nothing is wrong\n"
    assert chaos._judged({"relay": good, "nemesis": chaos.Part([], ["o-1: no answer for 9.00 s"])}) == 1
    assert capsys.readouterr().out == "wrong: nemesis: o-1: no answer for 9.00 s\n1 wrong\n"


def test_what_happened_is_written_down(tmp_path: Path) -> None:
    chaos._write_down(account(), tmp_path / "history.jsonl")
    entries = history.read(tmp_path)
    assert [entry["kind"] for entry in entries] == ["emitted"] * 4 + ["taken"] * 4
    assert entries[0] == {"at": 1.0, "kind": "emitted", "session": "a", "number": 0, "end": "answered"}


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, chaos.__file__, "--part", "weather"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2
    assert "argument --part: invalid choice: 'weather' (choose from" in ran.stderr
