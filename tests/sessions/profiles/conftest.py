"""A vault in each of the places where it may lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions.profiles.contents import Contents
from sluice.store.client import Store
from tests.sessions.profiles.places import a_folder, contents_in, new_bucket, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A real S3 server, for the whole test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "knows")
        with s3_server() as address:
            yield address


@pytest.fixture(params=["store", "folder", "bucket"])
def place(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Contents:
    if request.param == "store":
        return contents_in("store", store)
    if request.param == "folder":
        return contents_in(a_folder(tmp_path / "vault"), store)
    return contents_in(new_bucket(request.getfixturevalue("s3")), store)
