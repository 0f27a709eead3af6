from __future__ import annotations

from sessions.profiles.browsers import Browser
from sessions.worker.browser.flags import NOT_ASKED, arguments, user_agent


def test_it_does_not_call_itself_headless_and_has_the_version_of_the_browser() -> None:
    agent = user_agent(Browser("Chromium", "156.0.8078.108"))
    assert agent.endswith("Chrome/156.0.0.0 Safari/537.36")
    assert "Headless" not in agent
    assert "Chrome/" in user_agent(Browser())


def test_hosts_that_are_told_of_crashes_and_habits_are_not_found() -> None:
    (rules,) = [one for one in arguments() if one.startswith("--host-resolver-rules=")]
    assert all(f"MAP {host} " in rules for host in NOT_ASKED)


def test_indexeddb_is_kept_alike_on_all_machines() -> None:
    (off,) = [one for one in arguments() if one.startswith("--disable-features=")]
    assert {"IdbSqliteOnDiskRollout", "IdbSqliteBackingStore"} <= set(off.partition("=")[2].split(","))


def test_no_flag_is_given_twice_as_the_last_one_would_count_alone() -> None:
    names = [one.partition("=")[0] for one in arguments()]
    assert len(names) == len(set(names))
