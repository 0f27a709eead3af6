"""Logins of other programs are found by the forms in which those keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.profiles import zips
from sessions.profiles.found import FoundLogin, logins_below
from tests.sessions.profiles.making import profile

FORMS = [
    (".wwebjs_auth/session-a", "local_auth", "a", None),
    (".wwebjs_auth/session", "local_auth", "", None),
    (
        "sessions/session-f8377d8d-a589-4242-9ba6",
        "local_auth",
        "f8377d8d-a589-4242-9ba6",
        None,
    ),
    ("sessions/workspace_7/session-webjs_7_1700000000_x", "local_auth", "webjs_7_1700000000_x", "7"),
    ("sessions/7/webjs_7_x/session-webjs_7_x", "local_auth", "webjs_7_x", "7"),
    (".wwebjs_auth/RemoteAuth-a", "remote_auth", "a", None),
    ("userDataDir/NERDWHATS_AMERICA", "user_data", "NERDWHATS_AMERICA", None),
    ("anything/else", "user_data", "", None),
]


@pytest.mark.parametrize(("path", "form", "session", "workspace"), FORMS)
def test_each_form_is_found(tmp_path: Path, path: str, form: str, session: str, workspace: str | None) -> None:
    made = profile(tmp_path / path, size=10)
    (found,) = logins_below(tmp_path)
    assert (found.path, found.form, found.session, found.workspace) == (made, form, session, workspace)
    assert list(logins_below(made)) == [found], "it may be named itself"


def test_the_zips_of_remote_auth_are_found_and_others_are_not(tmp_path: Path) -> None:
    source = profile(tmp_path / "source" / "session-x", size=10)
    (tmp_path / "auth").mkdir()
    for name in ("RemoteAuth-a.zip", "RemoteAuth.zip", "backup.zip"):
        zips.write(source, tmp_path / "auth" / name)
    assert list(logins_below(tmp_path / "auth")) == [
        FoundLogin(tmp_path / "auth" / "RemoteAuth-a.zip", "remote_auth_zip", "a"),
        FoundLogin(tmp_path / "auth" / "RemoteAuth.zip", "remote_auth_zip", ""),
    ]


def test_a_folder_that_leads_back_to_itself_is_looked_at_once(tmp_path: Path) -> None:
    profile(tmp_path / "session-a", size=10)
    (tmp_path / "again").symlink_to(tmp_path)
    assert [found.session for found in logins_below(tmp_path)] == ["a"]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(logins_below(tmp_path / "none"))
