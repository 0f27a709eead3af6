"""Packages of npm: fetched, and used only when they are what is pinned. The registry here is on this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sluice.process import npm
from sluice.process.npm import Altered, Package, Unavailable, complete, install


def archive(text: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in (("LICENSE", b"MIT License\n"), ("dist/index.js", text)):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


ARCHIVES = {"one-1.0.0.tgz": archive(b'import "left"'), "two-2.0.0.tgz": archive(b"let two")}


def integrity(file: str) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(ARCHIVES[file]).digest()).decode()


ONE = Package("one", "1.0.0", integrity("one-1.0.0.tgz"), "LICENSE", {"dist/index.js": "one.js"}, {b"left": b"right"})
TWO = Package("@of/two", "2.0.0", integrity("two-2.0.0.tgz"), "LICENSE", {"dist/index.js": "two.js"})
PACKAGES = (ONE, TWO)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where npm is not; what it was asked for."""
    asked: list[str] = []

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(ARCHIVES[self.path.rpartition("/")[2]])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_address[1]}/")
        yield asked
        server.shutdown()
        thread.join()


def test_without_npm_they_come_from_the_registry_that_it_would_ask(registry: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "fetched"
    install(PACKAGES, folder, tmp_path / "cache")
    assert registry == ["/one/-/one-1.0.0.tgz", "/@of/two/-/two-2.0.0.tgz"]
    assert complete(PACKAGES, folder)
    assert (folder / "one.js").read_bytes() == b'/*! one 1.0.0\nMIT License\n*/\nimport "right"'
    assert (folder / "two.js").read_bytes() == b"/*! @of/two 2.0.0\nMIT License\n*/\nlet two"
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o644 for file in folder.iterdir())
    install(PACKAGES, tmp_path / "again", tmp_path / "cache")
    assert len(registry) == 2, "what is kept is not fetched again"


def test_what_is_not_what_is_pinned_is_not_used(registry: list[str], tmp_path: Path) -> None:
    pinned = Package("one", "1.0.0", TWO.integrity, "LICENSE", ONE.files)
    with pytest.raises(Altered, match=r"one 1\.0\.0 is not what is pinned"):
        install((pinned,), tmp_path / "fetched", tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_a_kept_package_that_was_changed_is_fetched_anew(registry: list[str], tmp_path: Path) -> None:
    install(PACKAGES, tmp_path / "once", tmp_path / "cache")
    registry.clear()
    with (tmp_path / "cache" / TWO.kept_as).open("ab") as changed:
        changed.write(b"x")
    install(PACKAGES, tmp_path / "fetched", tmp_path / "cache")
    assert registry == ["/@of/two/-/two-2.0.0.tgz"]


def test_one_of_another_version_is_not_taken_for_the_pinned_one(registry: list[str], tmp_path: Path) -> None:
    install(PACKAGES, tmp_path, tmp_path / "cache")
    (tmp_path / "one.js").write_bytes((tmp_path / "one.js").read_bytes().replace(b"one 1.0.0", b"one 1.0.1"))
    assert not complete(PACKAGES, tmp_path)


def test_without_npm_and_registry_it_says_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(npm, "_registry", lambda: None)
    with pytest.raises(Unavailable, match="npm is not here; install it, or name a registry by npm_config_registry"):
        install(PACKAGES, tmp_path / "fetched", tmp_path / "cache")


def test_files_of_npm_name_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".npmrc").write_text("fund=false\nregistry = https://npm.example.org/\n")
    assert npm._registry() == "https://npm.example.org/"
