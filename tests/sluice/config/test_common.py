from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import pytest

from gateway.policies import load
from sluice.config import Secret, Signature

KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRONMENT = {"OLD": "old", "NEW": "new", "WHSEC": f"whsec_{KEY}", "OTHER": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}


def signature(folder: Path, settings: str, *, need_secrets: bool = True) -> Signature:
    path = folder / "policies.yaml"
    path.write_text(f"version: 1\nsignatures: {{a: {{{settings}}}}}\n")
    environment = ENVIRONMENT if need_secrets else {}
    return load(path, environment=environment, need_secrets=need_secrets).signatures["a"]


@pytest.mark.parametrize("preset", ["blazz", "body-sha256", "dotted", "waha", "key"])
def test_a_preset_needs_no_more_than_a_secret(tmp_path: Path, preset: str) -> None:
    found = signature(tmp_path, f"preset: {preset}, secret: env:NEW")
    assert (found.preset, found.secret, found.older) == (preset, Secret(b"new"), ())
    assert (found.header, found.timestamp_header, found.prefix) == ("", "", None)


def test_several_secrets_are_named_the_newest_first(tmp_path: Path) -> None:
    found = signature(tmp_path, "preset: waha, secrets: [env:NEW, env:OLD]")
    assert (found.secret, found.older) == (Secret(b"new"), (Secret(b"old"),))
    assert found.secrets == (Secret(b"new"), Secret(b"old"))


def test_a_secret_of_the_standard_is_the_bytes_that_it_encodes(tmp_path: Path) -> None:
    found = signature(tmp_path, "preset: standard, secrets: [env:WHSEC, env:OTHER]")
    assert found.secret == Secret(b64decode(KEY))
    assert found.older == (Secret(b64decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")),)


def test_headers_prefix_and_tolerance_are_the_preset_s_to_set(tmp_path: Path) -> None:
    found = signature(
        tmp_path,
        "preset: dotted, secret: env:NEW, header: X-Sig, timestamp_header: X-Sig-Time, prefix: v1=, tolerance: 1m",
    )
    assert (found.header, found.timestamp_header, found.prefix) == ("X-Sig", "X-Sig-Time", "v1=")
    assert found.tolerance == 60.0


@pytest.mark.parametrize("preset", ["standard", "key"])
def test_secrets_that_are_not_there_are_missed_only_where_they_are_needed(tmp_path: Path, preset: str) -> None:
    found = signature(tmp_path, f"preset: {preset}, secrets: [env:GONE, env:LOST]", need_secrets=False)
    assert found.secrets == (Secret(b""), Secret(b""))


def test_a_store_with_a_replica_can_promise_it(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text("version: 1\nstore: {url: redis://127.0.0.1:6379/0, promise: replica}\n")
    assert load(path).store.promise == "replica"
