"""Zip files of profiles, as RemoteAuth of whatsapp-web.js makes and reads them: from strangers, and for them.

What comes in is read without trust: every name stays in the portable set, every size is bounded before it is written,
and each checksum is right. What goes out tells each size before the content, as RemoteAuth's unzip library looks for
the end of an entry that does not by four bytes that random data has, too. And it ends with an entry that nobody needs:
RemoteAuth opens the browser when its zip is read, and what was read last is written some moments later.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, cast

from sessions.profiles.errors import Broken, NoProfile, TooLarge, Unsafe
from sessions.profiles.portable import MAX_FILES, MAX_PROFILE, TREES, ProfileFile, portable_files, safe_name

_COPIED = 256 * 1024
_DIRECTORY = 2 * 2**20
"""Bytes of the directory at the end of a zip, at most: it is read at once, and takes ten times as much in memory."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
LAST = ".sluice-end"
_LAST_SIZE = 256 * 1024
"""Bytes; more than RemoteAuth's unzip library has read and not yet written."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def extract(zipped: Path | IO[bytes], folder: Path) -> list[ProfileFile]:
    """Into a folder that is new. Raises Broken, NoProfile, TooLarge, Unsafe, and OSError such as a full disk."""
    with _opened(zipped) as archive:
        for entry in _entries(archive):
            _write(archive, entry, folder)
    return portable_files(folder)


def listed(zipped: Path) -> list[ProfileFile]:
    """The files of a login that it says it has. Raises as `extract`, but for what only their content shows."""
    with _opened(zipped) as archive:
        return [ProfileFile(entry.filename, entry.file_size) for entry in _entries(archive)]


@contextmanager
def _opened(zipped: Path | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        with (
            zipped.open("rb") if isinstance(zipped, Path) else nullcontext(zipped) as file,
            zipfile.ZipFile(cast(IO[bytes], _Bounded(file))) as archive,
        ):
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise Broken(f"the zip is cut or broken: {str(error).lower() or 'it ends too early'}") from None


class _Bounded:
    """A file of which nobody reads more at once than the directory of a profile's zip may have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(min(size, _DIRECTORY + 1) if size >= 0 else _DIRECTORY + 1)
        if len(found) > _DIRECTORY:
            raise TooLarge(f"the directory of the zip has over {_DIRECTORY >> 20} MiB, more than that of a profile")
        return found


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files of a login among its entries. Others that RemoteAuth never writes are an error."""
    listed = archive.infolist()
    if len(listed) > 2 * MAX_FILES:
        raise TooLarge(f"the zip has over {2 * MAX_FILES:,} entries")
    found = [entry for entry in listed if not entry.is_dir() and entry.filename != LAST]
    for entry in found:
        safe_name(entry.filename)
        kind = entry.external_attr >> 16
        if kind and stat.S_IFMT(kind) not in (0, stat.S_IFREG):
            raise Unsafe(f"{entry.filename!r} in the zip is no file")
        if entry.flag_bits & 0x1 or entry.compress_type not in _METHODS:
            raise Broken(f"{entry.filename!r} in the zip is encrypted, or compressed otherwise than RemoteAuth does")
    if len({entry.filename for entry in found}) != len(found):
        raise Unsafe("the zip has a name twice")
    size = sum(entry.file_size for entry in found)
    if size > MAX_PROFILE:
        raise TooLarge(f"the zip would have {size >> 20} MiB unpacked; {MAX_PROFILE >> 20} MiB are taken at most")
    if not any(entry.filename.startswith(TREES[0] + "/") for entry in found):
        raise NoProfile("the zip has no Default/IndexedDB: no page had logged in when it was made")
    return found


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Never more than it says, whatever comes out of it."""
    path = folder / entry.filename
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = entry.file_size
    with archive.open(entry) as source, path.open("xb") as target:
        while data := source.read(_COPIED):
            left -= len(data)
            if left < 0:
                raise TooLarge(f"{entry.filename!r} in the zip has more bytes than it says")
            target.write(data)
    if left:
        raise Broken(f"{entry.filename!r} in the zip is {left:,} bytes short")


def write(folder: Path, zipped: Path | IO[bytes]) -> None:
    """The IndexedDB and Local Storage of a profile, as RemoteAuth expects them. Raises like `portable_files`."""
    with zipfile.ZipFile(zipped, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in portable_files(folder):
            if file.name.startswith(TREES):
                entry = zipfile.ZipInfo(file.name, _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o600) << 16
                entry.file_size = file.size
                with (folder / file.name).open("rb") as source, archive.open(entry, "w") as target:
                    while data := source.read(_COPIED):
                        target.write(data)
        archive.writestr(zipfile.ZipInfo(LAST, _EPOCH), bytes(_LAST_SIZE), zipfile.ZIP_DEFLATED)
