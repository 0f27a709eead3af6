"""The data folder, and what is in it already."""

from pathlib import Path

import pytest

from sluice.config import data_folder


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_or_empty_folder_is_for_its_owner_only(tmp_path: Path, exists: bool) -> None:
    data = tmp_path / "data"
    if exists:
        data.mkdir(mode=0o755)
    data_folder.make(data, "store")
    assert [folder.stat().st_mode & 0o777 for folder in (data, data / "store")] == [0o700, 0o700]


def test_a_folder_with_something_of_others_keeps_its_mode(tmp_path: Path) -> None:
    data = tmp_path / "lib"
    data.mkdir(mode=0o755)
    (data / "others").touch()
    data_folder.make(data, "store")
    assert [folder.stat().st_mode & 0o777 for folder in (data, data / "store")] == [0o755, 0o700]
