"""All benchmarks by one command, each in a form that takes at most five minutes, and one table of what they measured.

    .venv/bin/python benchmarks/suite.py                  all of them, one after the other
    .venv/bin/python benchmarks/suite.py console relay    these
    .venv/bin/python benchmarks/suite.py --list           what there is, and how it is run
    .venv/bin/python benchmarks/suite.py --table          writes the table of README.md anew
    .venv/bin/python benchmarks/suite.py browsers -- --sessions 50    one with these options, for as long as it takes

What each has measured is kept in results/NAME.json: with machine, versions, commit, load and command; and README.md has
all of it as a table, that of the whole repository what the scoreboard has measured. A run that failed or took too long
leaves the result before it. Peers run beside Sluice within the same run; one that is not installed is skipped by its
name. Each has options of its own: benchmarks/NAME.py -h.

Exits with 1 if a bar was missed or a benchmark did not come to its end.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
# Some programs in this folder are named like packages.
sys.path[:] = [str(_HERE.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != _HERE), str(_HERE)]

from measured import FILE, Figure  # noqa: E402 - this folder comes last on the path
from proxy import report  # noqa: E402

RESULTS = _HERE / "results"
README = _HERE / "README.md"
BEGIN, END = "<!-- results, written by benchmarks/suite.py -->", "<!-- end of the results -->"
FRONT = _HERE.parent / "README.md"
_BOARD = "scoreboard"
_BOARD_BEGIN, _BOARD_END = "<!-- scoreboard, written by benchmarks/suite.py -->", "<!-- end of the scoreboard -->"
LONGEST = 300.0
"""Seconds for one of them, unless it is run with options of one's own."""
_GRACE = 20.0
SHORT: dict[str, tuple[str, ...]] = {
    "browser_failover": ("--kills", "12", "--messages", "120"),
    "browsers": ("--sessions", "8"),
    "console": ("--short",),
    "cost": ("--rounds", "5", "--against"),
    "proxy": ("--rounds", "5", "--connections", "32"),
    "relay": ("--short",),
    "remoteauth_kills": ("--kills", "20"),
    "scoreboard": ("--short",),
    "simulate": ("--check",),
    "story": ("--seconds", "150"),
}
"""The options with which those end within five minutes on two quiet cores that without any would take longer."""
_HELPERS = ("measured", "suite")
_OF_TWO_CHECKOUTS = "cost"


@dataclass(frozen=True, slots=True)
class Done:
    code: int | None
    """None: it took too long."""
    seconds: float
    figures: list[dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--table", action="store_true", help="write the table anew, and run nothing")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="for `cost`: the checkout to compare with")
    mine, options = _parted(sys.argv[1:])
    chosen = parser.parse_args(mine)
    known = names()
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        sys.stderr.write(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(known)}\n")
        return 2
    if options is not None and len(chosen.names) != 1:
        sys.stderr.write("what comes after -- are options of one benchmark; name that one before it\n")
        return 2
    if chosen.list:
        for name in known:
            sys.stdout.write(f"{command(name)}\n    {method(name)}\n")
        return 0
    code = 0 if chosen.table else _run(chosen.names or known, chosen.against, options)
    README.write_text(with_table(README.read_text(), stored()))
    FRONT.write_text(with_board(FRONT.read_text(), stored()))
    return code


def _parted(arguments: list[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Ours, and those of the benchmark behind `--`; None: none are given, and it runs in its short form."""
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], tuple(arguments[at + 1 :])


def names() -> list[str]:
    """Each program of this folder is one, and what is new needs no entry here."""
    return sorted(file.stem for file in _HERE.glob("*.py") if file.stem not in _HELPERS)


def command(name: str, options: Sequence[str] | None = None) -> str:
    shown = map(_without_folder, SHORT.get(name, ()) if options is None else options)
    return " ".join((f"benchmarks/{name}.py", *shown))


def _without_folder(option: str) -> str:
    """Where somebody keeps their files is nobody else's business, and results are committed."""
    key, equals, value = option.rpartition("=")
    return f"{key}{equals}{Path(value).name if value.startswith('/') else value}"


def method(name: str) -> str:
    """The first paragraph of what the benchmark says of itself."""
    said = ast.get_docstring(ast.parse((_HERE / f"{name}.py").read_text())) or ""
    return " ".join(said.split("\n\n")[0].split())


def stored() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]


def with_table(readme: str, results: Sequence[dict[str, Any]]) -> str:
    return _between(readme, BEGIN, [*_figures(results), "", *_ways(results)], END)


def with_board(readme: str, results: Sequence[dict[str, Any]]) -> str:
    """That of the whole repository: what the scoreboard has measured."""
    board = next((one for one in results if one["benchmark"] == _BOARD), None)
    if board is None:
        return readme
    rows = [f"| {figure.what} | {figure.shown()} | {figure.wanted} | {_met(figure)} |" for figure in _of(board)]
    how = f"`{board['command']}` at {board['commit']}, {board['at']}, on {board['machine']}; {board['load']}."
    return _between(
        readme, _BOARD_BEGIN, ["| what | result | wanted | |", "|---|---:|---|---|", *rows, "", how], _BOARD_END
    )


def _between(text: str, begin: str, lines: Sequence[str], end: str) -> str:
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return before + "\n".join((begin, "", *lines, "", end)) + after


def _of(result: dict[str, Any]) -> list[Figure]:
    return [Figure(**row) for row in result["figures"]]


def _met(figure: Figure) -> str:
    return "" if figure.met is None else "met" if figure.met else "**missed**"


def _figures(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| benchmark | what | result | wanted | |"
    yield "|---|---|---:|---|---|"
    for one in results:
        for figure in _of(one):
            yield f"| {one['benchmark']} | {figure.what} | {figure.shown()} | {figure.wanted} | {_met(figure)} |"


def _ways(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "| benchmark | method | command | commit, time | machine and versions |"
    yield "|---|---|---|---|---|"
    for one in results:
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        where = "; ".join(part for part in (one["machine"], versions, one["load"]) if part)
        yield f"| {one['benchmark']} | {one['method']} | `{one['command']}` | {one['commit']}, {one['at']} | {where} |"


def _run(chosen: Sequence[str], against: Path | None, options: Sequence[str] | None = None) -> int:
    missed = []
    for name in chosen:
        if name == _OF_TWO_CHECKOUTS and against is None:
            sys.stderr.write(f"{name}: skipped, as no other checkout is named (--against)\n")
            continue
        about, load = report.about(), os.getloadavg()[0]
        more = (str(against.resolve()),) if against and name == _OF_TWO_CHECKOUTS else ()
        sys.stderr.write(f"{command(name, options)}\n")
        done = _done(name, (*(SHORT.get(name, ()) if options is None else options), *more), options is None)
        if done.code == 0 or (done.code == 1 and done.figures):  # 1 without any: it broke off
            _keep(name, command(name, options), done, about, f"load {load:.1f} before it")
        if done.code is None:
            sys.stderr.write(f"{name}: not done within {LONGEST:g} s, and ended\n")
        if done.code != 0:
            missed.append(name)
    if missed:
        sys.stderr.write(f"missed or failed: {', '.join(missed)}\n")
    return int(bool(missed))


def _done(name: str, options: Sequence[str], bounded: bool) -> Done:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-benchmark-") as folder:
        file = Path(folder) / "figures.json"
        process = subprocess.Popen(
            [sys.executable, str(_HERE / f"{name}.py"), *options],
            env={**os.environ, FILE: str(file)},
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(LONGEST if bounded else None)
        except subprocess.TimeoutExpired:
            code = None
            _end(process)
        except BaseException:
            _end(process)
            raise
        figures = json.loads(file.read_text()) if file.exists() else []
    return Done(code, time.monotonic() - began, figures)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and what it has started, first as a person does by Ctrl-C."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _keep(name: str, ran: str, done: Done, about: dict[str, object], load: str) -> None:
    versions = about["versions"]
    assert isinstance(versions, dict)
    result = {
        "benchmark": name,
        "command": ran,
        "method": method(name),
        "commit": about["commit"],
        "at": about["at"],
        "machine": about["machine"],
        "versions": {what: number for what, number in versions.items() if number},
        "load": load,
        "seconds": round(done.seconds),
        "figures": done.figures or [asdict(Figure("its own verdict", "", met=True))],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
