"""Webhooks are signed as the session workers sign them."""

from __future__ import annotations

from pathlib import Path

import pytest
import signing

from sluice.config import Secret, Signature
from sluice.http.signatures import refusal


def test_the_signature_of_the_contract() -> None:
    body = b'{"event":"message","session":"default","engine":"WEBJS"}'
    assert signing.headers(b"my-secret-key", body, 1_700_000_000.9) == {
        "X-HMAC-Signature": "1831fd1aa45381590c9a10ccac49fd2b461e7411731c6346890cbd751ee0f4b3",
        "X-Timestamp": "1700000000",
    }


def test_the_gateway_takes_it() -> None:
    headers = signing.headers(b"secret", b"{}", 1_700_000_000)
    signature = Signature("workers", "blazz", Secret(b"secret"), 300.0)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    assert refusal(signature, pairs, b"{}", 1_700_000_000) is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_in_a_file_ends_before_its_line_break(tmp_path: Path, end: str) -> None:
    (tmp_path / "hmac").write_bytes(b"secret" + end.encode())
    assert signing.secret_from(f"file:{tmp_path / 'hmac'}") == b"secret"


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "secret")
    assert signing.secret_from("env:SOME_SECRET") == b"secret"


def test_a_secret_s_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(signing.NoSecret, match=r"gone cannot be read: No such file or directory"):
        signing.secret_from(f"file:{tmp_path / 'gone'}")
