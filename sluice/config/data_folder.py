"""The data folder: made for its owner only, or a sentence that says why it cannot be used."""

from __future__ import annotations

from pathlib import Path


class DataFolderError(Exception):
    """The message says why it cannot be used, and what to do."""


def make(data: Path, *inside: str) -> None:
    """The folder, and these in it; with mode 0700, unless somebody keeps something in it. Raises DataFolderError."""
    for folder in (data, *(data / name for name in inside)):
        try:
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(0, "it is a file")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(folder.iterdir()):  # data: /var/lib must not shut everybody else out
                folder.chmod(0o700)
        except (OSError, ValueError) as error:
            raise unusable(data, error) from None


def unusable(data: Path, error: OSError | ValueError) -> DataFolderError:
    why = ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
    return DataFolderError(
        f"data: {data} cannot be used ({why}); name a folder in which this user may write, as data: in policies.yaml"
    )
