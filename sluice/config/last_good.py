"""The last good copy of the policies, by which commands look into a running Sluice while the file itself is wrong.

Every process that runs with a file keeps it as `<data>/policies.last-good.yaml` when it goes live. Its first line says
of which file it is, so that what the file names relative to its folder is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

NAME = "policies.last-good.yaml"
_MARK = b"# The last good copy, made by Sluice: "
_DATA = re.compile(r"^data:[ \t]*[\"']?([^\"'#\r\n]*?)[\"']?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_DEFAULT = ".sluice"


@dataclass(frozen=True, slots=True)
class LastGood:
    source: Path
    """The file it is a copy of, absolute."""
    revision: str
    content: bytes


def keep(source: Path, revision: str, data: Path) -> None:
    """Copies the file, unless it is no longer what this revision was made of. Raises OSError."""
    content = source.read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith(revision):
        return
    about = orjson.dumps({"source": os.path.abspath(source), "revision": revision})
    text, copy = b"%b%b\n%b" % (_MARK, about, content), data / NAME
    if copy.exists() and copy.read_bytes() == text:
        return
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    written, name = tempfile.mkstemp(prefix=".policies-", dir=data)
    try:
        with open(written, "wb") as file:
            file.write(text)
        os.replace(name, copy)
    except OSError:
        os.unlink(name)
        raise


def find(source: Path) -> LastGood | None:
    """The copy of this file, in the data folder that it names, as far as that can be read, or in the default one."""
    return next((copy for folder in folders(source) if (copy := find_in(folder, source)) is not None), None)


def find_in(folder: Path, source: Path) -> LastGood | None:
    """The copy of this file in this data folder."""
    copy = _read(folder / NAME)
    return copy if copy is not None and copy.source == Path(os.path.abspath(source)) else None


def folders(source: Path) -> list[Path]:
    """Where the copy of a file may lie that may be wrong or gone."""
    return list(dict.fromkeys((source.parent / name).resolve() for name in _named(source)))


def _named(source: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        found = _DATA.search(source.read_bytes().decode("utf-8", "replace").replace("\0", ""))
        if found and found[1]:
            yield found[1]
    yield _DEFAULT


def _read(copy: Path) -> LastGood | None:
    with contextlib.suppress(OSError, orjson.JSONDecodeError, KeyError):
        head, _, content = copy.read_bytes().partition(b"\n")
        if head.startswith(_MARK):
            about = orjson.loads(head[len(_MARK) :])
            return LastGood(Path(about["source"]), about["revision"], content)
    return None
