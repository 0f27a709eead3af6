"""What somebody gets who installs Sluice: plain or compiled, by pip or by pipx, on each Python that is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from sessions.worker.browser import wa_js
from sluice import __version__
from sluice.console.page.libraries import LIBRARIES

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway", "relay", "sessions", "sluice")


MYPYC = re.compile(r"COMPILED = tuple\(.*?^\)\n", re.DOTALL | re.MULTILINE)
ONE = 'COMPILED = ("sluice/process/boottime.py",)\n'
"""One module is compiled as all are; scripts/install, which the tests run on, compiles them all."""


def build(folder: Path, *, compiled: bool) -> Path:
    """The wheel of a copy of what is here."""
    sources, made = folder / "sources", folder / "made"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "policies.yaml"):
        shutil.copy(ROOT / file, sources)
    for stranger in ("gateway_old", "tests", "benchmarks"):
        (sources / stranger).mkdir()
        (sources / stranger / "__init__.py").touch()
    environment = {name: value for name, value in os.environ.items() if name != "SLUICE_PURE"}
    if compiled:
        text, number = MYPYC.subn(ONE, (sources / "setup.py").read_text())
        assert number == 1
        (sources / "setup.py").write_text(text)
    else:
        environment["SLUICE_PURE"] = "1"
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", made, sources],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = made.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plain"), compiled=False)


@pytest.fixture(scope="module")
def wheel(plain: Path) -> set[str]:
    """The names of its files."""
    assert plain.name.endswith("-py3-none-any.whl")
    return set(ZipFile(plain).namelist())


def test_it_adds_four_names_and_no_other(wheel: set[str]) -> None:
    top_level = {name.partition("/")[0] for name in wheel}
    assert {name for name in top_level if not name.endswith(".dist-info")} == set(PACKAGES)


def test_everything_in_the_packages_is_in_it(wheel: set[str]) -> None:
    files = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.*")}
    fetched = {f"sluice/console/page/fetched/{name}" for one in LIBRARIES for name in one.files.values()}
    fetched |= {f"sessions/worker/browser/fetched/{name}" for name in wa_js.PACKAGE.files.values()}
    ours = {name for name in files if not name.endswith((".so", ".pyc"))} | {"sluice/cli/policies.yaml"} | fetched
    assert {name.rpartition(".")[2] for name in ours} == {"py", "lua", "html", "js", "css", "yaml", "typed"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= ours
    assert {name for name in wheel if name.startswith(tuple(f"{package}/" for package in PACKAGES))} == ours


def python(minor: int) -> str:
    """A Python of this version that runs; skips by its name where there is none."""
    folder = Path.home() / ".pyenv" / "versions"
    for found in (shutil.which(f"python3.{minor}"), *map(str, folder.glob(f"3.{minor}.*/bin/python3.{minor}"))):
        if (
            found
            and subprocess.run([found, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0
        ):
            return found
    pytest.skip(f"there is no Python 3.{minor} on this machine")


def said(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command says that goes well. It finds nothing of this checkout."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ran = subprocess.run(
        [*command],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


def works(sluice: Path, how: str, folder: Path) -> None:
    """It says what it is, writes policies from what it has brought along, and reads them."""
    assert said(sluice, "--version", folder=folder) == f"sluice {__version__}, {how}\n"
    said(sluice, "init", "--yes", "new.yaml", folder=folder)
    assert "valid" in said(sluice, "check", "--no-secrets", "new.yaml", folder=folder)


def install(interpreter: str, wheel: Path, folder: Path) -> Path:
    """By pip into a new environment, what it needs by the lock file; its command."""
    said(interpreter, "-m", "venv", "new", folder=folder)
    pip = (folder / "new" / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile")
    said(*pip, "--require-hashes", "-r", ROOT / "requirements.lock", folder=folder)
    said(*pip, "--no-deps", "--no-index", wheel, folder=folder)
    return folder / "new" / "bin" / "sluice"


@pytest.mark.slow
def test_a_compiled_one_has_the_same_and_is_for_this_python_and_platform(wheel: set[str], tmp_path: Path) -> None:
    file = build(tmp_path, compiled=True)
    tag = f"cp3{sys.version_info.minor}"
    assert re.fullmatch(rf"sluice-.*-{tag}-{tag}-linux_\w+\.whl", file.name)
    names = set(ZipFile(file).namelist())
    libraries = {name for name in names if name.endswith(".so")}
    assert {name.partition(".")[0] for name in libraries} == {"sluice/process/boottime", "sluice/hot_path__mypyc"}
    assert {name for name in names - libraries if ".dist-info/" not in name} == {
        name for name in wheel if ".dist-info/" not in name
    }
    works(install(python(sys.version_info.minor), file, tmp_path), "compiled", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("minor", [minor for minor in (11, 12, 13, 14) if minor != sys.version_info.minor])
def test_pip_installs_a_plain_one_on_other_versions_of_python(plain: Path, tmp_path: Path, minor: int) -> None:
    works(install(python(minor), plain, tmp_path), "plain Python", tmp_path)


@pytest.mark.slow
def test_pipx_installs_it(plain: Path, tmp_path: Path) -> None:
    versions = [line.split()[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()]
    (tmp_path / "versions.txt").write_text("\n".join(versions))
    said(
        *(sys.executable, "-m", "pipx", "install", "--python", sys.executable),
        *("--pip-args", f"--constraint {tmp_path}/versions.txt", plain),
        folder=tmp_path,
        PIPX_HOME=str(tmp_path / "pipx"),
        PIPX_BIN_DIR=str(tmp_path / "bin"),
        PIPX_DEFAULT_BACKEND="pip",
    )
    works(tmp_path / "bin" / "sluice", "plain Python", tmp_path)
