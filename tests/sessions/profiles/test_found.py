"""Logins of other programs are found by the forms in which those keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessions.profiles import zips
from sessions.profiles.found import FoundLogin, PassedOver, logins_below
from tests.sessions.profiles.making import as_nobody, profile

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
    (found,) = logins_below(tmp_path).logins
    assert (found.path, found.form, found.session, found.workspace) == (made, form, session, workspace)
    assert logins_below(made).logins == [found], "it may be named itself"


def test_the_zips_of_remote_auth_are_found_and_others_are_not(tmp_path: Path) -> None:
    source = profile(tmp_path / "source" / "session-x", size=10)
    (tmp_path / "auth").mkdir()
    for name in ("RemoteAuth-a.zip", "RemoteAuth.zip", "backup.zip"):
        zips.write(source, tmp_path / "auth" / name)
    assert logins_below(tmp_path / "auth").logins == [
        FoundLogin(tmp_path / "auth" / "RemoteAuth-a.zip", "remote_auth_zip", "a"),
        FoundLogin(tmp_path / "auth" / "RemoteAuth.zip", "remote_auth_zip", ""),
    ]


def test_a_folder_that_leads_back_to_itself_is_looked_at_once(tmp_path: Path) -> None:
    profile(tmp_path / "session-a", size=10)
    (tmp_path / "again").symlink_to(tmp_path)
    found = logins_below(tmp_path)
    assert [login.session for login in found.logins] == ["a"]
    why = "is a symbolic link, which is not followed: name what it leads to"
    assert found.passed_over == [PassedOver(tmp_path / "again", why)]


def test_what_a_snapshot_or_a_restore_has_left_beside_a_login_is_none(tmp_path: Path) -> None:
    for name in ("session-a", "session-a.sluice-snapshot", "session-a.sluice-restoring"):
        profile(tmp_path / name, size=10)
    assert [login.path.name for login in logins_below(tmp_path).logins] == ["session-a"]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        logins_below(tmp_path / "none")


def test_the_modules_of_a_worker_are_not_looked_into(tmp_path: Path) -> None:
    profile(tmp_path / "node_modules" / "x" / "session-a", size=10)
    (tmp_path / "node_modules" / "link").symlink_to(tmp_path)
    profile(tmp_path / ".wwebjs_auth" / "session-b", size=10)
    found = logins_below(tmp_path)
    assert ([login.session for login in found.logins], found.passed_over) == (["b"], [])


def test_a_zip_may_be_named_itself(tmp_path: Path) -> None:
    for name, session in (("RemoteAuth-a.zip", "a"), ("backup.zip", "")):
        (tmp_path / name).write_bytes(b"")
        assert logins_below(tmp_path / name).logins == [FoundLogin(tmp_path / name, "remote_auth_zip", session)]


def test_a_folder_with_the_name_of_a_login_that_has_none_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "session-a" / "Default").mkdir(parents=True)
    profile(tmp_path / "session-b" / "session-c", size=10)
    (tmp_path / "session").mkdir()
    assert [login.session for login in logins_below(tmp_path).logins] == ["a", "c"]


def test_a_folder_that_cannot_be_read_is_told(short_folder: Path) -> None:
    profile(short_folder / "session-a", size=10)
    (short_folder / "session-b").mkdir(mode=0)
    with as_nobody(short_folder):
        found = logins_below(short_folder)
    assert [login.session for login in found.logins] == ["a"]
    assert found.passed_over == [PassedOver(short_folder / "session-b", "cannot be read: permission denied")]
