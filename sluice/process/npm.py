"""Packages of npm of which files are used here: pinned by version and by what is in them, fetched once, never part of
the sources.

`scripts/install`, `scripts/run` and the build of a wheel fetch them, the last one without anything installed, so this
file imports only what Python brings. A package is fetched by npm where that is here, otherwise from the registry that
npm would ask by its usual configuration; it counts when its SHA-512 is the pinned one, and only then.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_WITHIN = 60.0  # seconds for one package
_MAX_PACKAGE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    integrity: str
    """As npm writes it: the SHA-512 of the package in base64."""
    licence: str
    """The file in the package that has it; it stands at the top of each file that is taken."""
    files: Mapping[str, str]
    """What is taken of the package, and how it is called here."""
    replaced: Mapping[bytes, bytes] = field(default_factory=dict)
    """What is written otherwise in these files."""

    @property
    def kept_as(self) -> str:
        """As npm itself calls the file of a package."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


class Unavailable(Exception):
    """The message says why, and what helps."""


class Altered(Exception):
    """What came is not what is pinned."""


def complete(packages: Sequence[Package], folder: Path) -> bool:
    """Whether each file is there, of its pinned version."""
    return all(_begins(folder / name, _head(package)) for package in packages for name in package.files.values())


def install(packages: Sequence[Package], folder: Path, cache: Path | None = None) -> None:
    """Fetches what is missing. Raises Unavailable and Altered, with nothing changed, and OSError."""
    if complete(packages, folder):
        return
    made = {name: text for package in packages for name, text in _unpacked(package, cache or cache_folder())}
    folder.mkdir(exist_ok=True)
    for name, text in made.items():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, folder / name)


def cache_folder() -> Path:
    """Where what came once is kept, for all checkouts of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice" / "npm"


def _unpacked(package: Package, cache: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(_archive(package, cache)), mode="r:gz") as archive:
        head = _head(package) + _read(archive, package.licence) + b"*/\n"
        for path, name in package.files.items():
            text = _read(archive, path)
            for old, new in package.replaced.items():
                text = text.replace(old, new)
            yield name, head + text


def _head(package: Package) -> bytes:
    return f"/*! {package.name} {package.version}\n".encode()


def _read(archive: tarfile.TarFile, path: str) -> bytes:
    file = archive.extractfile(f"package/{path}")
    assert file is not None, path
    return file.read()


def _begins(path: Path, head: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head
    except OSError:
        return False


def _archive(package: Package, cache: Path) -> bytes:
    """Raises Unavailable and Altered."""
    kept = cache / package.kept_as
    if kept.exists() and _is_pinned(package, kept.read_bytes()):
        return kept.read_bytes()
    came = _by_npm(package) if shutil.which("npm") else _by_registry(package)
    if not _is_pinned(package, came):
        raise Altered(f"what came as {package.name} {package.version} is not what is pinned, and is not used")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
        file.write(came)
    os.replace(file.name, kept)
    return came


def _is_pinned(package: Package, archive: bytes) -> bool:
    return package.integrity == "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()


def _by_npm(package: Package) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
        try:
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_WITHIN, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm has not fetched {package.name} within {_WITHIN:g} s") from None
        found = list(Path(folder).glob("*.tgz"))
        if ran.returncode or not found:
            why = (ran.stderr.strip() or "it says nothing").splitlines()[-1]
            raise Unavailable(f"npm cannot fetch {package.name} ({why}); is its registry reachable?")
        return found[0].read_bytes()


def _by_registry(package: Package) -> bytes:
    registry = _registry()
    if registry is None:
        raise Unavailable("npm is not here; install it, or name a registry by npm_config_registry or in ~/.npmrc")
    file = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    try:
        with urllib.request.urlopen(f"{registry.rstrip('/')}/{package.name}/-/{file}", timeout=_WITHIN) as answer:
            came: bytes = answer.read(_MAX_PACKAGE)
            return came
    except (OSError, ValueError) as error:
        raise Unavailable(f"{package.name} cannot be fetched ({error}); is the registry of npm reachable?") from None


def _registry() -> str | None:
    """As npm's environment or its files name it."""
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(variable):
            return os.environ[variable]
    for file in (Path.home() / ".npmrc", Path("/etc/npmrc"), Path("/usr/local/etc/npmrc")):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "registry" and value.strip():
                return value.strip()
    return None
