"""The one command for all benchmarks: what it knows, keeps and writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import suite
from measured import FILE, Figure, tell

BENCHMARKS = Path(suite.__file__).parent


def said(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, str(BENCHMARKS / "suite.py"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, ran.stdout, ran.stderr


def test_the_table_of_the_readme_is_what_the_stored_results_give() -> None:
    readme = suite.README.read_text()
    assert suite.with_table(readme, suite.stored()) == readme, "run benchmarks/suite.py --table"


def test_the_front_page_has_what_the_scoreboard_has_measured() -> None:
    readme = suite.FRONT.read_text()
    assert suite.with_board(readme, suite.stored()) == readme, "run benchmarks/suite.py --table"
    assert "| messages a minute" in readme


def test_each_stored_result_says_of_what_where_when_and_how() -> None:
    results = suite.stored()
    assert len(results) > 10
    for one in results:
        assert one["benchmark"] in suite.names()
        assert {"command", "method", "commit", "at", "machine", "versions", "load", "seconds", "figures"} < one.keys()
        assert one["figures"], one["benchmark"]


def test_each_benchmark_says_what_it_measures_and_has_a_form_for_five_minutes() -> None:
    code, out, _ = said("--list")
    assert code == 0
    for name in suite.names():
        assert suite.method(name), f"{name}.py has no docstring"
        assert f"{suite.command(name)}\n    {suite.method(name)}\n" in out
    assert set(suite.SHORT) <= set(suite.names())
    assert suite.LONGEST == 300.0


@pytest.mark.parametrize("name", sorted(suite.SHORT))
def test_the_options_of_a_short_form_are_known_to_their_benchmark(name: str) -> None:
    text = (BENCHMARKS / f"{name}.py").read_text()
    for package in re.findall(r"from (\w+)\.main import main", text):
        text += (BENCHMARKS / package / "main.py").read_text()
    for option in suite.SHORT[name]:
        assert not option.startswith("--") or f'add_argument("{option}"' in text


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    code, out, err = said("structure", "nothing")
    assert (code, out) == (2, "")
    assert err == f"no benchmark is called 'nothing'; there are: {', '.join(suite.names())}\n"


def test_a_benchmark_of_two_checkouts_is_skipped_without_the_other_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert suite._run(["cost"], None) == 0
    assert capfd.readouterr().err == "cost: skipped, as no other checkout is named (--against)\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for benchmarks and their results."""
    monkeypatch.setattr(suite, "_HERE", tmp_path)
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(suite, "SHORT", {"telling": ("--few",)})
    return tmp_path


TELLING = '''"""It measures itself.

In two paragraphs.
"""
import sys
sys.path.append({folder!r})
from measured import Figure, tell
assert sys.argv[1:] == [{option!r}]
tell([Figure("peers", 2), Figure.at_most("took", 12.345, 10, "s"), Figure.none_of("lost", 0)])
sys.exit({code})
'''


def test_what_was_measured_is_kept_with_where_and_how(programs: Path) -> None:
    (programs / "telling.py").write_text(TELLING.format(folder=str(BENCHMARKS), option="--few", code=1))
    assert suite._run(["telling"], None) == 1, "a bar was missed"
    (kept,) = suite.stored()
    assert (kept["benchmark"], kept["command"], kept["method"]) == (
        "telling",
        "benchmarks/telling.py --few",
        "It measures itself.",
    )
    assert kept["versions"]["Python"] == sys.version.split()[0]
    assert kept["figures"][1] == {"what": "took", "value": 12.345, "unit": "s", "wanted": "at most 10 s", "met": False}
    table = suite.with_table(f"above\n{suite.BEGIN}\nold\n{suite.END}\nbelow\n", suite.stored())
    assert table.startswith("above\n")
    assert table.endswith("\nbelow\n")
    assert "old" not in table
    assert "| telling | took | 12.35 s | at most 10 s | **missed** |\n| telling | lost | 0 | 0 | met |" in table


def test_one_with_options_of_its_own_takes_as_long_as_it_takes(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (programs / "telling.py").write_text(TELLING.format(folder=str(BENCHMARKS), option="--many", code=0))
    monkeypatch.setattr(suite, "LONGEST", 0.0)
    assert suite._run(["telling"], None, ("--many",)) == 0
    (kept,) = suite.stored()
    assert kept["command"] == "benchmarks/telling.py --many"


@pytest.mark.parametrize("named", [(), ("structure", "story")])
def test_options_are_for_one_benchmark(named: tuple[str, ...]) -> None:
    code, out, err = said(*named, "--", "--seconds", "1")
    assert (code, out) == (2, "")
    assert err == "what comes after -- are options of one benchmark; name that one before it\n"


def test_a_run_that_fails_or_takes_too_long_leaves_the_result_before_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (programs / "telling.py").write_text(TELLING.format(folder=str(BENCHMARKS), option="--few", code=0))
    assert suite._run(["telling"], None) == 0
    kept = (programs / "results" / "telling.json").read_text()
    (programs / "telling.py").write_text(TELLING.format(folder=str(BENCHMARKS), option="--few", code=2))
    assert suite._run(["telling"], None) == 1
    (programs / "telling.py").write_text('"""Never."""\nimport time\ntime.sleep(600)\n')
    monkeypatch.setattr(suite, "LONGEST", 1.0)
    assert suite._run(["telling"], None) == 1
    assert (programs / "results" / "telling.json").read_text() == kept
    assert "telling: not done within 1 s, and ended\nmissed or failed: telling\n" in capfd.readouterr().err


def test_figures_are_told_where_somebody_reads_them_and_a_missed_bar_is_an_exit_code_of_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FILE, raising=False)
    assert tell([Figure("nobody", 1), Figure.none_of("lost", 1)]) == 1
    assert os.listdir(tmp_path) == []
    monkeypatch.setenv(FILE, str(tmp_path / "figures"))
    assert tell([Figure("somebody", "8 of 8")]) == 0
    assert json.loads((tmp_path / "figures").read_text()) == [
        {"what": "somebody", "value": "8 of 8", "unit": "", "wanted": "", "met": None}
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (34311, "34,311"), (5.666, "5.67"), (119.4, "119"), (12000.0, "12,000"), ("8 of 8", "8 of 8")],
)
def test_a_number_is_written_with_as_many_digits_as_say_something(value: float | str, shown: str) -> None:
    assert Figure("it", value).shown() == shown


def test_a_kept_command_tells_no_folder_of_its_machine() -> None:
    options = ["--keep", "/somewhere/kept", "--json=/somewhere/all.json", "--faults", "300"]
    assert suite.command("chaos", options) == "benchmarks/chaos.py --keep kept --json=all.json --faults 300"
