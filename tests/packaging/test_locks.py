"""The lock files: all that pyproject.toml asks for, and all that those packages ask for, with hashes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUNS = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
LOCKS = {
    "requirements.lock": RUNS,
    "requirements-browser.lock": [*RUNS, *EXTRAS["browser"]],
    "requirements-build.lock": EXTRAS["build"],
    "requirements-dev.lock": [*RUNS, *EXTRAS["dev"]],
}
CURE = "; run scripts/lock"


def locked(file: str) -> dict[str, tuple[str, str]]:
    """Its packages, each with its version and what stands behind it."""
    found = {}
    for entry in (ROOT / file).read_text().replace("\\\n", " ").splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(.*)", entry)
        assert match, f"{file}: {entry[:80]} is no package with its version{CURE}"
        found[canonicalize_name(match[1])] = (match[2], match[3])
    return found


def needed(wanted: list[str]) -> Iterator[Requirement]:
    """With what the installed packages need in turn, as far as it counts on this machine."""
    seen: set[str] = set()
    waiting = [(Requirement(one), "") for one in wanted]
    while waiting:
        one, extra = waiting.pop()
        if str(one) in seen or (one.marker and not one.marker.evaluate({"extra": extra})):
            continue
        seen.add(str(one))
        if canonicalize_name(one.name) == "sluice":
            waiting += [(Requirement(inner), "") for name in one.extras for inner in EXTRAS[name]]
            continue
        yield one
        try:
            inside = requires(one.name) or []
        except PackageNotFoundError:
            continue  # a lock of what is not installed here; it is named itself
        waiting += [(Requirement(inner), asked) for inner in inside for asked in ("", *one.extras)]


@pytest.mark.parametrize("file", LOCKS)
def test_each_package_that_is_needed_is_locked(file: str) -> None:
    packages = locked(file)
    for one in needed(LOCKS[file]):
        assert canonicalize_name(one.name) in packages, f"{file} has no {one.name}{CURE}"
        version = packages[canonicalize_name(one.name)][0]
        assert one.specifier.contains(version, prereleases=True), f"{file}: {one.name} {version} is not {one}{CURE}"


@pytest.mark.parametrize("file", LOCKS)
def test_each_locked_package_has_hashes(file: str) -> None:
    hashed = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
    bare = [name for name, (_, behind) in locked(file).items() if not hashed.search(behind)]
    assert bare == [], f"{file}: these have no hash{CURE}"


def test_a_package_has_one_version_in_all_lock_files() -> None:
    versions: dict[str, set[str]] = {}
    for file in LOCKS:
        for name, (version, _) in locked(file).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
