"""An edit of the policies file, as people, editors and Kubernetes make it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway.policies import Policies, edits, load
from gateway.policies.edits import changed, hold
from sluice.config import last_good, watching, whole
from sluice.config.live import (
    LivePolicies,
    Loaded,
    Outcome,
    Refused,
)
from sluice.process.loops import Stop
from tests.heard import Heard
from tests.ports import port_of
from tests.waiting import until

pytestmark = pytest.mark.anyio

GOOD = """version: 1
listen: 127.0.0.1:8080
limits:
  - {id: typing, per: [session], rate: 30/minute, burst: 5, over: drop}
"""
EDITED = GOOD.replace("burst: 5", "burst: 50")
WRONG = GOOD.replace("rate: 30/minute", "rate: 30/minuet")
SECRET = "signatures: {workers: {preset: blazz, secret: 'file:secrets/hmac'}}\n"


def revision(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Watched:
    live: LivePolicies[Policies]
    stop: Stop = field(default_factory=Stop)
    applied: list[Policies] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    fails: bool = False

    def apply(self, policies: Policies) -> None:
        if self.fails:
            raise ValueError("no such host")
        self.applied.append(policies)

    async def goes_live(self, text: str) -> None:
        await until(lambda: self.live.current.revision == revision(text), what="the edit to be live")
        assert self.applied[-1] is self.live.current

    async def said(self, number: int) -> Outcome:
        await until(lambda: len(self.outcomes) >= number, what=f"{number} outcomes")
        assert len(self.outcomes) == number
        return self.outcomes[-1]


@asynccontextmanager
async def watched(file: Path) -> AsyncIterator[Watched]:
    it = Watched(edits.live(load(file)))
    watching = asyncio.create_task(it.live.watch(it.stop, it.apply, it.outcomes.append))
    try:
        yield it
    finally:
        it.stop.request()
        async with asyncio.timeout(3):
            await watching


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "policies.yaml"
    file.write_text(GOOD)
    return file


def write_in_place(file: Path, text: str) -> None:
    file.write_text(text)


def write_in_pieces(file: Path, text: str) -> None:
    """What is there in between is never a whole file."""
    with file.open("w") as out:
        for piece in (text[:5], text[5:20], text[20:]):
            out.write(piece)
            out.flush()


def rename_over(file: Path, text: str) -> None:
    new = file.with_suffix(".tmp")
    new.write_text(text)
    new.replace(file)


def keep_a_backup(file: Path, text: str) -> None:
    """As vim does it: for a moment the file is gone."""
    file.rename(file.with_name("policies.yaml~"))
    file.write_text(text)


def make_a_link_of_it(file: Path, text: str) -> None:
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text(text)
    file.unlink()
    file.symlink_to("elsewhere/mine.yaml")


@pytest.mark.parametrize("edit", [write_in_place, write_in_pieces, rename_over, keep_a_backup, make_a_link_of_it])
async def test_an_edit_goes_live_however_it_is_written(file: Path, edit: Callable[[Path, str], None]) -> None:
    async with watched(file) as it:
        edit(file, EDITED)
        await it.goes_live(EDITED)
        write_in_place(file, GOOD)
        await it.goes_live(GOOD)
    assert it.outcomes == [
        Loaded(revision(EDITED), ("limits.typing.burst",), ()),
        Loaded(revision(GOOD), ("limits.typing.burst",), ()),
    ]


async def test_kubernetes_turns_a_link_to_a_folder(tmp_path: Path) -> None:
    def publish(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "policies.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    publish("..2026_1", GOOD)
    file = tmp_path / "policies.yaml"
    file.symlink_to("..data/policies.yaml")
    async with watched(file) as it:
        for number, text in enumerate((EDITED, GOOD, EDITED), 2):
            publish(f"..2026_{number}", text)
            await it.goes_live(text)
            (tmp_path / f"..2026_{number - 1}" / "policies.yaml").unlink()
            (tmp_path / f"..2026_{number - 1}").rmdir()
    assert len(it.outcomes) == 3


async def test_a_file_behind_a_link_is_edited_where_it_lies(tmp_path: Path) -> None:
    real = tmp_path / "real" / "sluice.yaml"
    real.parent.mkdir()
    real.write_text(GOOD)
    file = tmp_path / "etc" / "policies.yaml"
    file.parent.mkdir()
    file.symlink_to(real)
    async with watched(file) as it:
        rename_over(real, EDITED)
        await it.goes_live(EDITED)


async def test_without_word_from_the_kernel_it_is_seen_all_the_same(file: Path) -> None:
    """As on a network mount: what is written through another name is not told in this folder."""
    (file.parent / "elsewhere").mkdir()
    other = file.parent / "elsewhere" / "other.yaml"
    other.hardlink_to(file)
    async with watched(file) as it:
        write_in_place(other, EDITED)
        await it.goes_live(EDITED)


async def test_a_folder_that_is_made_anew_is_watched_anew(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "policies.yaml").write_text(GOOD)
    async with watched(folder / "policies.yaml") as it:
        await until(lambda: it.live._last_digests)
        folder.rename(tmp_path / "old")
        assert isinstance(await it.said(1), Refused)
        folder.mkdir()
        write_in_place(folder / "policies.yaml", EDITED)
        await it.goes_live(EDITED)


async def test_when_no_folder_can_be_watched_it_is_seen_all_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_folders", lambda files: {file.parent / "gone": 0})
    async with watched(file) as it:
        write_in_place(file, EDITED)
        await it.goes_live(EDITED)


async def test_a_wrong_file_changes_nothing_and_says_where_until_it_is_right(file: Path, heard: Heard) -> None:
    before = counted("sluice_policies_refused_total")
    async with watched(file) as it:
        loaded_at = it.live.loaded_at
        assert (counted("sluice_policies_wrong"), counted("sluice_policies_loaded_timestamp_seconds")) == (0, loaded_at)
        write_in_place(file, WRONG)
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        (problem,) = refused.problems
        assert (problem.line, problem.key) == (4, "limits[0].rate")
        assert it.live.problems == refused.problems
        assert (it.applied, it.live.current.revision, it.live.loaded_at) == ([], revision(GOOD), loaded_at)
        assert (counted("sluice_policies_wrong"), counted("sluice_policies_refused_total") - before) == (1, 1)
        line = fields_of(heard, "policies.refused")
        assert line["in_force"] == revision(GOOD)
        assert [(told["line"], told["key"]) for told in line["problems"]] == [(4, "limits[0].rate")]
        assert "30/minuet" in line["problems"][0]["message"]

        write_in_place(file, "version: 1\nlimit: []\nroute: []\n")
        refused = await it.said(2)
        assert isinstance(refused, Refused)
        assert [problem.line for problem in refused.problems] == [2, 3]

        write_in_place(file, EDITED)
        await it.goes_live(EDITED)
        assert (it.live.problems, counted("sluice_policies_wrong")) == ((), 0)
        assert counted("sluice_policies_loaded_timestamp_seconds") > loaded_at


async def test_a_wrong_file_that_is_put_right_again_is_told_and_touches_nothing(file: Path) -> None:
    async with watched(file) as it:
        write_in_place(file, WRONG)
        await it.said(1)
        write_in_place(file, GOOD)
        assert await it.said(2) == Loaded(revision(GOOD), (), ())
    assert (it.applied, it.live.problems) == ([], ())


async def test_a_file_that_stays_away_is_told_and_what_is_in_force_stays(file: Path) -> None:
    async with watched(file) as it:
        file.unlink()
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert refused.problems[0].message == "no such file"
        file.write_text(EDITED)
        await it.goes_live(EDITED)


async def test_what_passes_the_check_and_cannot_be_put_to_work_changes_nothing(file: Path) -> None:
    async with watched(file) as it:
        it.fails = True
        write_in_place(file, EDITED)
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert refused.problems[0].message == "could not be put to work (ValueError: no such host)"
        assert it.live.current.revision == revision(GOOD)


async def test_a_secret_that_is_rotated_goes_live(file: Path) -> None:
    secret = file.parent / "secrets" / "hmac"
    secret.parent.mkdir()
    secret.write_text("one\n")
    file.write_text(GOOD + SECRET)
    async with watched(file) as it:
        await until(lambda: it.live._last_digests)
        rename_over(secret, "two\n")
        assert await it.said(1) == Loaded(revision(GOOD + SECRET), ("signatures.workers.secret",), ())
        assert it.applied[-1].signatures["workers"].secret.reveal() == b"two"
        secret.unlink()
        refused = await it.said(2)
        assert isinstance(refused, Refused)
        assert (refused.problems[0].line, refused.problems[0].key) == (5, "signatures.workers.secret")
        assert it.live.current.signatures["workers"].secret.reveal() == b"two"
        secret.write_text("three")
        await it.said(3)
        assert it.live.current.signatures["workers"].secret.reveal() == b"three"


async def test_a_secret_that_changes_before_the_first_look_goes_live(file: Path) -> None:
    (file.parent / "secrets").mkdir()
    (file.parent / "secrets" / "hmac").write_text("one")
    file.write_text(GOOD + SECRET)
    live, applied = edits.live(load(file)), list[Policies]()
    (file.parent / "secrets" / "hmac").write_text("two")
    await live.check(Stop(), applied.append)
    assert [one.signatures["workers"].secret.reveal() for one in applied] == [b"two"]
    assert await live.check(Stop(), applied.append) is None


async def test_what_cannot_change_while_running_is_held_and_named(file: Path, heard: Heard) -> None:
    async with watched(file) as it:
        text = EDITED.replace("8080", "9090") + "store: {promise: always}\n"
        write_in_place(file, text)
        await it.goes_live(text)
        assert (port_of(it.live.current), it.live.current.store.promise) == (8080, "second")
        assert it.live.current.limits[0].burst == 50
        assert it.live.needs_restart == ("listen", "store.promise")
        line = fields_of(heard, "policies.needs_restart")
        assert line["keys"] == ("listen", "store.promise")
        rename_over(file, GOOD)
        await it.goes_live(GOOD)
        assert it.live.needs_restart == ()


async def test_the_same_text_written_again_is_no_edit(file: Path) -> None:
    async with watched(file) as it:
        rename_over(file, GOOD)
        os.utime(file)
        write_in_place(file, EDITED)
        await it.goes_live(EDITED)
    assert len(it.outcomes) == 1


async def test_a_variable_that_is_not_there_cannot_come_while_running(file: Path) -> None:
    async with watched(file) as it:
        write_in_place(file, GOOD + "console: {token: env:SLUICE_NOWHERE}\n")
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert str(refused.problems[0]) == (
            f"{file}:5:18: console.token: the environment variable SLUICE_NOWHERE is not set; "
            "export SLUICE_NOWHERE=… and restart Sluice, or write file:PATH, which needs no restart"
        )


@pytest.mark.parametrize("path", [r"a\0b", "policies.yaml/under", "x" * 300, "loop"])
async def test_a_secret_that_no_file_can_hold_is_refused_and_the_watch_goes_on(file: Path, path: str) -> None:
    (file.parent / "loop").symlink_to("loop")
    async with watched(file) as it:
        write_in_place(file, GOOD + SECRET.replace("'file:secrets/hmac'", f'"file:{path}"'))
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert refused.problems[0].key == "signatures.workers.secret"
        write_in_place(file, EDITED)
        await it.goes_live(EDITED)


async def test_what_can_be_read_only_once_is_left_alone(file: Path, heard: Heard) -> None:
    """`--policies <(…)`: to read it again would take for ever."""
    pipe = file.parent / "pipe"
    os.mkfifo(pipe)
    live, stop = edits.live(replace(load(file), source=pipe)), Stop()
    watching = asyncio.create_task(live.watch(stop, lambda policies: None))
    await until(lambda: "policies.not_watched" in heard.messages())
    stop.request()
    async with asyncio.timeout(3):
        await watching


async def test_it_stops_at_once_while_nothing_happens(file: Path) -> None:
    async with watched(file) as it:
        await until(lambda: it.live._last_digests)
        it.stop.request()


def test_every_folder_on_the_way_is_watched(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "a" / "policies.yaml").symlink_to("../c/deep/policies.yaml")
    folders = set(watching.folders_of(tmp_path / "a" / "policies.yaml"))
    assert folders >= {tmp_path / "a", tmp_path, tmp_path / "b" / "deep"}


def test_a_link_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    assert set(watching.folders_of(tmp_path / "x")) == {tmp_path}


def test_the_lease_is_held(file: Path) -> None:
    running = load(file)
    edited = replace(running, sessions=replace(running.sessions, lease=99.0, per_worker=3))
    held, keys = hold(running, edited)
    assert (held.sessions.lease, held.sessions.per_worker, keys) == (running.sessions.lease, 3, ("sessions.lease",))


def test_changes_are_named_as_in_the_file(tmp_path: Path) -> None:
    def policies(text: str) -> Policies:
        file = tmp_path / "one.yaml"
        file.write_text("version: 1\n" + text)
        return load(file, environment={"TOKEN": "t"})

    before = policies(
        "limits:\n  - {id: a, rate: 1/second, burst: 100}\n  - {id: b, rate: 2/second, burst: 10}\n"
        "upstreams: {laravel: {url: http://one}}\nroutes:\n  - {path: /**, upstream: laravel}\n"
        "relay: {endpoints: {laravel: {url: http://one}}}\n"
    )
    after = policies(
        "# a comment moves every line\nlimits:\n  - {id: b, rate: 3/second, burst: 10}\n"
        "  - {id: c, rate: 4/second, burst: 5}\n"
        "upstreams: {laravel: {url: http://one}}\nroutes:\n  - {path: /**, upstream: laravel}\n"
        "relay: {endpoints: {laravel: {url: http://two}}, retention: {dead: 1d}}\nconsole: {token: env:TOKEN}\n"
    )
    assert changed(before, after) == (
        "limits.a",
        "limits.b.rate",
        "relay.endpoints.laravel.url",
        "limits.c",
        "relay.retention",
        "console.token",
    )


def fields_of(heard: Heard, message: str) -> dict[str, Any]:
    """Of the one line of this message."""
    (fields,) = [fields for given, fields in heard.lines if given == message]
    return fields


def counted(name: str) -> float:
    value = REGISTRY.get_sample_value(name)
    assert value is not None
    return value


async def test_what_goes_live_is_kept_as_a_copy_that_only_we_can_read(file: Path) -> None:
    copy = file.parent / ".sluice" / "policies.last-good.yaml"

    def kept(text: str) -> bool:
        return copy.exists() and copy.read_text().partition("\n")[2] == text

    async with watched(file) as it:
        await until(lambda: kept(GOOD), what="the copy")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        file.write_text(EDITED)
        await until(lambda: kept(EDITED), what="the copy of the edit")
        file.write_text(WRONG)
        assert isinstance(await it.said(2), Refused)
        assert kept(EDITED)
    found = last_good.find(file)
    assert found == last_good.LastGood(file, revision(EDITED), EDITED.encode())
    assert [one.name for one in copy.parent.iterdir()] == [copy.name]


async def test_a_copy_that_cannot_be_kept_is_told_and_stops_nothing(file: Path, heard: Heard) -> None:
    file.with_name(".sluice").write_text("no folder")
    async with watched(file) as it:
        file.write_text(EDITED)
        await it.goes_live(EDITED)
        await until(lambda: "policies.not_kept" in heard.messages(), what="the warning")


# --- files that are only half written

TWO_LIMITS = GOOD + "  - {id: send, per: [session], rate: 30/minute, burst: 5}\n"
MARKED = TWO_LIMITS + "...\n"
HINT = "it counts after 30 s without a change, or at once if it is moved into place (mv)"


@pytest.mark.parametrize(
    ("whole_text", "half", "said"),
    [
        (
            TWO_LIMITS,
            GOOD[: GOOD.index("limits")],
            f"ends without limits.send.burst, which the version in force has, so it may be only half written; {HINT}",
        ),
        (
            TWO_LIMITS,
            GOOD,
            f"ends without limits.send.burst, which the version in force has, so it may be only half written; {HINT}",
        ),
        (
            "version: 1\nbodies: 16MiB\n",
            "version: 1\nbodies: 1MiB",
            f"ends without a line break, unlike the version in force, so it may be only half written; {HINT}",
        ),
        (
            MARKED,
            TWO_LIMITS.replace("burst: 5", "burst: 9"),
            "does not end with the line ... as the version in force does, so it may be only half written; "
            "add the line, or move the whole file into place (mv)",
        ),
    ],
)
async def test_a_copy_that_stands_still_half_way_does_not_go_live(
    file: Path, whole_text: str, half: str, said: str
) -> None:
    file.write_text(whole_text)
    edited = whole_text.replace("burst: 5", "burst: 50").replace("16MiB", "17MiB")
    async with watched(file) as it:
        await until(lambda: it.live._in_force)
        write_in_place(file, half)
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert [str(problem) for problem in refused.problems] == [f"{file}: {said}"]
        assert it.live.problems == refused.problems
        await asyncio.sleep(2.5)  # looked at again meanwhile
        assert (it.live.current.revision, len(it.outcomes)) == (revision(whole_text), 1)
        write_in_place(file, edited)
        await it.goes_live(edited)
        assert it.live.problems == ()


async def test_a_shorter_file_goes_live_when_it_has_not_changed_for_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "STILL_FOR", 1.0)
    file.write_text(TWO_LIMITS)
    async with watched(file) as it:
        await until(lambda: it.live._in_force)
        write_in_place(file, GOOD)
        assert isinstance(await it.said(1), Refused)
        await it.goes_live(GOOD)
        assert await it.said(2) == Loaded(revision(GOOD), ("limits.send",), ())


@pytest.mark.parametrize("text", [GOOD, TWO_LIMITS.rstrip("\n"), "version: 1\n"])
async def test_what_is_moved_into_place_goes_live_at_once(file: Path, text: str) -> None:
    file.write_text(MARKED)
    async with watched(file) as it:
        await until(lambda: it.live._in_force)
        rename_over(file, text)
        await it.goes_live(text)


async def test_a_mistake_in_a_shorter_file_is_told_at_once(file: Path) -> None:
    async with watched(file) as it:
        await until(lambda: it.live._in_force)
        write_in_place(file, "version: 1\nlimit: []\n")
        refused = await it.said(1)
        assert isinstance(refused, Refused)
        assert [problem.key for problem in refused.problems] == ["limit"]


async def test_a_secret_that_is_rotated_beside_a_half_written_file_does_not_make_it_whole(file: Path) -> None:
    (file.parent / "hmac").write_text("one")
    text = "version: 1\nsignatures: {workers: {preset: blazz, secret: file:hmac}}\nlimits: []\nbodies: 1MiB\n"
    file.write_text(text)
    async with watched(file) as it:
        await until(lambda: it.live._in_force)
        write_in_place(file, text[: text.index("limits")])
        assert isinstance(await it.said(1), Refused)
        rename_over(file.parent / "hmac", "two")
        assert isinstance(await it.said(2), Refused)
        assert it.live.current.revision == revision(text)
