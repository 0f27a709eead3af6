"""Two releases side by side in one store, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice.store import layout
from sluice.store.client import Store, StoreAway
from tests.sluice.cli.command import sluice

pytestmark = pytest.mark.anyio

KEY = layout.KEY_PATTERNS[0]


@pytest.fixture
async def url(store: Store, store_url: str) -> str:
    await store.commands(("DEL", KEY))
    return store_url


async def noted(store: Store) -> bytes | None:
    (found,) = await store.commands(("GET", KEY))
    assert found is None or isinstance(found, bytes)
    return found


async def test_the_first_one_notes_its_own(store: Store, url: str) -> None:
    await layout.check(url, 4)
    assert await noted(store) == b"4"
    await layout.check(url, 4)
    assert await noted(store) == b"4"


async def test_the_next_release_and_the_one_before_live_side_by_side_and_back_again(store: Store, url: str) -> None:
    await layout.check(url, 4)
    await layout.check(url, 5)
    await layout.check(url, 4)
    assert await noted(store) == b"5"


async def test_a_release_that_is_two_ahead_is_refused_and_leaves_the_note_alone(store: Store, url: str) -> None:
    await layout.check(url, 4)
    said = (
        r"the store has layout 4, and this version reads 5 and 6: upgrade by one release at a time \(docs/upgrade.md\)"
    )
    with pytest.raises(layout.AnotherLayout, match=f"^{said}$"):
        await layout.check(url, 6)
    assert await noted(store) == b"4"


async def test_a_release_that_is_two_behind_is_refused(store: Store, url: str) -> None:
    await layout.check(url, 6)
    said = (
        "the store has layout 6, which a later release wrote, and this version reads 4 and 5: "
        r"start that release again, or restore a backup of before \(docs/upgrade.md\)"
    )
    with pytest.raises(layout.AnotherLayout, match=f"^{said}$"):
        await layout.check(url, 4)
    assert await noted(store) == b"6"


async def test_a_store_that_is_away_is_told_as_such() -> None:
    with pytest.raises(StoreAway):
        await layout.check("redis://127.0.0.1:1")


@pytest.mark.parametrize("kind", ["gateway", "relay", "up"])
async def test_no_process_starts_on_what_it_cannot_read(store: Store, url: str, kind: str, tmp_path: Path) -> None:
    await store.commands(("SET", KEY, layout.LAYOUT + 2))
    policies = tmp_path / "policies.yaml"
    policies.write_text(f"version: 1\nlisten: 127.0.0.1:0\nstore: {{url: 'unix://{url.partition('://')[2]}'}}\n")
    ran = sluice(kind, "--policies", policies)
    said = f"the store has layout {layout.LAYOUT + 2}, which a later release wrote"
    assert (ran.code, said in ran.err) == (2, True), ran.err
