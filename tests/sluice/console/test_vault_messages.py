"""What status says of logins that are not kept as they should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.console.status import (
    DiskStatus,
    LateSnapshot,
    ProfileTrouble,
    ShrunkSnapshot,
    StoreStatus,
    UnknownKey,
    VaultStatus,
    WaitingLogin,
)
from tests.sluice.console.saying import said

MIB, GIB = 2**20, 2**30
WELL = VaultStatus(
    place="file:/srv/vault", away=None, misplaced=None, disk=DiskStatus("/srv/vault", 50 * GIB, 100 * GIB), sessions=50,
    generations=150, keep=3, size=50 * MIB, stored=100 * MIB, expected=150 * MIB, every_s=600.0,
)  # fmt: skip
SAVE = ProfileTrouble("save", "s1", 3, 2400.0, 120.0, "No space left on device")


def of(**changed: object) -> list[str]:
    return said(vault=replace(WELL, **changed))  # type: ignore[arg-type]


def test_all_well_says_nothing() -> None:
    assert of() == []
    assert of(deleted=3, deleted_stored=MIB, old_key=9) == []


def test_a_place_that_cannot_be_reached() -> None:
    assert of(away="the vault's folder /srv/vault is not there: mount it") == [
        "the vault cannot be reached, so no login is saved or restored: the vault's folder /srv/vault is not there: "
        "mount it"
    ]


def test_a_place_that_is_another_one() -> None:
    assert of(misplaced="s1") == [
        "nothing lies in file:/srv/vault of session s1, which was saved: mount what belongs there, or set "
        "sessions.vault.url back to where the vault lies; until then logins are saved in the wrong place"
    ]


def test_a_key_that_is_missing() -> None:
    assert of(unknown_keys=(UnknownKey("1a2b3c4d", 12, 4, 1),)) == [
        "12 generations of 4 sessions cannot be read, as sessions.vault.key does not name their key 1a2b3c4d: name it "
        "behind the new one, [env:NEW, env:OLD]; 1 session has no other and starts with a QR code until then"
    ]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            replace(SAVE, kind="restore", reason="no generation can be restored"),
            "the login of session s1 could not be restored (3 times, the last 2m ago): no generation can be restored; "
            "it is kept: sluice vault verify s1 says what can be read",
        ),
        (
            replace(SAVE, kind="fell_back", times=1, reason="chunk ab is missing"),
            "the login of session s1 was restored from an older generation (1 time, the last 2m ago), as the newest "
            "could not be used: chunk ab is missing; see that the session runs, and the disk of the vault",
        ),
        (
            SAVE,
            "the login of session s1 could not be saved (3 times, the last 2m ago), and the one before is kept: No "
            "space left on device",
        ),
        (
            replace(SAVE, kind="stale", reason="a save or a delete of an older start was refused"),
            "an older start of session s1 was not let save its login (3 times, the last 2m ago), as a later one has "
            "the session: see that no other process runs it still, and stop that one",
        ),
    ],
)
def test_what_went_wrong_with_a_login(trouble: ProfileTrouble, sentence: str) -> None:
    assert of(troubles=(trouble,)) == [sentence]


def test_what_has_one_reason_is_said_once() -> None:
    (sentence,) = of(troubles=tuple(replace(SAVE, session=f"s{number}") for number in range(1, 41)))
    assert sentence.startswith("the login of session s1 and 39 others could not be saved (3 times, the last 2m ago)")


def test_of_many_troubles_some_are_said() -> None:
    sentences = of(troubles=tuple(replace(SAVE, reason=f"reason {number}") for number in range(7)))
    assert len(sentences) == 6
    assert sentences[-1] == "2 more troubles with logins: profile.trouble in the log"


def test_an_older_start_that_has_given_up_is_past() -> None:
    assert of(troubles=(replace(SAVE, kind="stale", last_s=3601.0),)) == []


@pytest.mark.parametrize(("age", "how"), [(7800.0, "2h 10m ago (s1)"), (None, "not at all (s1)")])
def test_sessions_that_nobody_saves(age: float | None, how: str) -> None:
    assert of(late=(LateSnapshot("s1", age),), late_total=3) == [
        f"3 connected sessions were not saved for over 30m, three times sessions.vault.every; the longest, {how}: a "
        "dead machine would cost what came since; see its worker's log, and that it saves to the vault (docs/vault.md)"
    ]


def test_a_snapshot_that_has_shrunk() -> None:
    assert of(shrunk=(ShrunkSnapshot("s1", MIB, 20 * MIB),), shrunk_total=2) == [
        "the newest snapshots of 2 sessions have less than a quarter of what one before had, such as s1 (1.0 MiB, and "
        "20 MiB before, which is kept): see that it is connected, and with sluice vault show what is kept"
    ]


@pytest.mark.parametrize(
    ("store", "whose"),
    [
        (StoreStatus(True, None, memory=GIB // 2, max_memory=GIB), "1.0 GiB, maxmemory"),
        (StoreStatus(True, None, memory=GIB // 2, max_memory=0, machine=GIB), "1.0 GiB, the memory of its machine"),
    ],
)
def test_profiles_that_may_not_fit_the_store(store: StoreStatus, whose: str) -> None:
    seen = replace(WELL, place="store", disk=None, stored=200 * MIB, expected=GIB)
    assert said(vault=seen, store=store) == [
        "profiles may not fit the store: they use 200 MiB, and may come to need 1.0 GiB (1.0 MiB a session, 3 "
        f"generations each), while all else in it uses 312 MiB of {whose}: give it more, keep fewer generations, or "
        "set sessions.vault.url to a folder or a bucket"
    ]
    assert said(vault=replace(seen, expected=500 * MIB), store=store) == []
    assert said(vault=replace(seen, place="file:/srv/vault"), store=store) == []


def test_a_store_that_does_not_say_how_much_it_has_is_not_judged() -> None:
    seen = replace(WELL, place="store", disk=None, expected=GIB)
    assert said(vault=seen, store=StoreStatus(True, None, memory=GIB, max_memory=0)) == []
    assert said(vault=seen, store=StoreStatus(True, None)) == []


def test_a_disk_that_is_nearly_full() -> None:
    assert of(disk=DiskStatus("/srv/vault", GIB, 100 * GIB)) == [
        "the disk of the vault in /srv/vault is 99% full, 1.0 GiB left: when it is full no login is saved; free some, "
        "or erase what nobody needs: sluice vault prune"
    ]


def test_deleted_logins_that_wait_for_a_person() -> None:
    assert of(to_prune=3, deleted=4, deleted_stored=60 * MIB) == [
        "3 logins were deleted over a week ago and can still be taken back (sluice vault undelete SESSION); what is "
        "kept of deleted ones takes 60 MiB: sluice vault prune erases it"
    ]


def test_logins_that_wait_to_be_moved() -> None:
    waiting = (WaitingLogin("s1", "/srv/auth/session-s1", "host", 10_800.0), WaitingLogin("s2", "/x", "host", 1.0))
    assert of(waiting=waiting, waiting_total=2) == [
        "2 logins wait to be moved into the vault, as a browser runs there; the longest, for 3h, that of session s1 on "
        "host: stop its worker when it suits you, and then there: sluice sessions migrate /srv/auth/session-s1 --all "
        "--yes"
    ]


def test_more_sessions_than_are_looked_at() -> None:
    assert of(complete=False, sessions=20_000) == [
        "the vault has more sessions than the 20,000 that are looked at here: see sluice vault list"
    ]
