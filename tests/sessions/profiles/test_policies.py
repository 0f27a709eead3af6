"""What sessions.vault says, and what it leaves to others. Mistakes: tests/gateway/policies/test_bad_files.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import Policies, load
from gateway.policies.edits import changed, hold
from sessions.profiles.policies import Bucket, Folder, Place, VaultPolicy
from sluice.config.model import Secret

KEY = "a key of more than sixteen bytes"
SIGNATURES = "signatures: {workers: {secret: env:HMAC}, others: {secret: env:HMAC}}\n"


def read(folder: Path, text: str, **kwargs: bool) -> Policies:
    file = folder / "policies.yaml"
    file.write_text(f"version: 1\n{text}\n")
    environment = {"KEY": KEY, "OLD": f"old {KEY}", "HMAC": "h" * 16}
    return load(file, environment={} if kwargs else environment, **kwargs)


def vault(folder: Path, text: str = "key: env:KEY", **kwargs: bool) -> VaultPolicy:
    found = read(folder, f"sessions: {{vault: {{{text}}}}}", **kwargs).sessions.vault
    assert found is not None
    return found


def test_there_is_none_unless_it_is_written(tmp_path: Path) -> None:
    assert read(tmp_path, "").sessions.vault is None


def test_a_key_is_enough(tmp_path: Path) -> None:
    found = vault(tmp_path)
    assert found == VaultPolicy("store", (Secret(KEY.encode()),), 3, 600.0, None)
    assert (found.secrets, found.late) == ([KEY.encode()], 1800.0)
    assert KEY not in repr(found)


def test_the_first_key_is_the_newest(tmp_path: Path) -> None:
    assert vault(tmp_path, "key: [env:KEY, env:OLD]").secrets == [KEY.encode(), f"old {KEY}".encode()]


def test_keys_that_are_not_needed_may_be_missing(tmp_path: Path) -> None:
    """`sluice diff` and `sluice check --no-secrets` read files of other machines."""
    assert vault(tmp_path, "key: [env:KEY, env:OLD]", need_secrets=False).keys == (Secret(b""), Secret(b""))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("store", "store"),
        ("file:/srv/sluice vault", Folder(Path("/srv/sluice vault"))),
        ("file:///srv/sluice-vault/", Folder(Path("/srv/sluice-vault"))),
        ("s3://bucket", Bucket("bucket")),
        ("s3://my.bucket/a/b/", Bucket("my.bucket", "a/b")),
        ("s3://bucket/?region=eu-central-1", Bucket("bucket", region="eu-central-1")),
        (
            "s3://bucket/a?endpoint=https://minio.internal:9000/&region=x",
            Bucket("bucket", "a", "https://minio.internal:9000", "x"),
        ),
    ],
)
def test_it_may_lie_elsewhere(tmp_path: Path, url: str, place: Place) -> None:
    assert vault(tmp_path, f"key: env:KEY, url: '{url}'").place == place


def test_a_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    assert vault(tmp_path, "key: env:KEY, url: file:vault").place == Folder(tmp_path / "vault")


@pytest.mark.parametrize(
    ("text", "verify"),
    [
        ("sessions: {vault: {key: env:KEY}}", None),
        ("sessions: {verify: workers, vault: {key: env:KEY}}", "workers"),
        ("sessions: {verify: workers, vault: {key: env:KEY, verify: others}}", "others"),
    ],
)
def test_workers_prove_themselves_as_they_do_elsewhere_unless_it_says_otherwise(
    tmp_path: Path, text: str, verify: str | None
) -> None:
    found = read(tmp_path, SIGNATURES + text).sessions.vault
    assert found is not None
    assert found.verify == verify


# --- edits


def edited(folder: Path, before: str, after: str) -> tuple[Policies, tuple[str, ...], tuple[str, ...]]:
    """What is in force then, what needs a restart, and what is said to be live."""
    old, new = read(folder, f"sessions: {{{before}}}"), read(folder, f"sessions: {{{after}}}")
    return *hold(old, new), changed(old, new)


def test_another_place_counts_from_the_next_start_on_and_the_rest_at_once(tmp_path: Path) -> None:
    running, needs_restart, live = edited(
        tmp_path, "vault: {key: env:OLD}", "vault: {key: [env:KEY, env:OLD], url: file:vault, every: 5m}"
    )
    assert running.sessions.vault == VaultPolicy("store", (Secret(KEY.encode()), Secret(f"old {KEY}".encode())), 3, 300)
    assert needs_restart == ("sessions.vault.url",)
    assert live == ("sessions.vault.key", "sessions.vault.every")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("lease: 15s", "vault: {key: env:KEY, url: file:vault}"),
        ("vault: {key: env:KEY, url: file:vault}", "lease: 15s"),
    ],
)
def test_a_vault_that_is_new_or_gone_counts_at_once(tmp_path: Path, before: str, after: str) -> None:
    running, needs_restart, live = edited(tmp_path, before, after)
    assert (running.sessions.vault is not None) == ("vault" in after)
    assert needs_restart == ()
    assert "sessions.vault" in live
