"""What lies in a vault is sealed: AES-256-GCM, a key for each session, all from one secret.

    sealed = "SV" version(1) | id of the secret (4) | nonce (12) | ciphertext and tag

What it is, whose, and which one are authenticated beside it, so that nothing can be put in another's place. A chunk is
named by a keyed hash of its content: the same content of a session has the same name in each generation, and nobody
without the secret can tell what is in it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sessions.profiles.errors import Broken, WrongKey

CHUNK = 2 * 2**20
"""Bytes of content in a chunk, at most."""
MANIFEST = 8 * 2**20
"""Bytes of a manifest, at most: 20,000 files and 260 chunks need about 2 MiB."""
_MAGIC = b"SV\x01"
_ID, _NONCE, _TAG = 4, 12, 16
OVERHEAD = len(_MAGIC) + _ID + _NONCE + _TAG + 64
"""Bytes that a sealed chunk may be longer than its content, where that cannot be compressed."""
LONGEST = CHUNK + OVERHEAD
"""Bytes of a sealed chunk, at most."""
_LEVEL = 3


class Seals:
    """Of one session. `secrets`: the first one seals, all of them open."""

    def __init__(self, secrets: Sequence[bytes], session: str) -> None:
        self._session = session.encode()
        self._keys = {_id_of(secret): _key(secret, b"seal", self._session) for secret in secrets}
        self._id = _id_of(secrets[0])
        self._names = _key(secrets[0], b"name", self._session)

    def name_of(self, content: bytes | memoryview) -> str:
        """Of a chunk: 32 hexadecimal digits."""
        return hmac.new(self._names, content, hashlib.sha256).hexdigest()[:32]

    @property
    def current(self) -> str:
        """By which secret it seals, as it stands in what is sealed: 8 hexadecimal digits."""
        return self._id.hex()

    def seal(self, content: bytes | memoryview, what: str) -> bytes:
        """`what` says which one it is: it has to be said again to open it."""
        nonce = os.urandom(_NONCE)
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(content)
        sealed = AESGCM(self._keys[self._id]).encrypt(nonce, packed, self._about(what))
        return b"".join((_MAGIC, self._id, nonce, sealed))

    def open(self, sealed: bytes, what: str, most: int) -> bytes:
        """The content, of `most` bytes. Raises Broken or WrongKey."""
        head = len(_MAGIC) + _ID + _NONCE
        if len(sealed) < head + _TAG or not sealed.startswith(_MAGIC):
            raise Broken(f"{what} is cut, or was not written by Sluice")
        by, nonce = sealed[len(_MAGIC) : head - _NONCE], sealed[head - _NONCE : head]
        key = self._keys.get(by)
        if key is None:
            raise WrongKey(
                f"{what} is sealed with key {by.hex()}, which sessions.vault.key does not name: name the old key "
                "behind the new one"
            )
        try:
            packed = AESGCM(key).decrypt(nonce, sealed[head:], self._about(what))
        except InvalidTag:
            raise Broken(f"{what} was changed, or is that of another session or generation") from None
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= most:
                raise Broken(f"{what} would have {size:,} bytes, over {most:,}")
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=most)
        except zstandard.ZstdError:
            raise Broken(f"{what} cannot be unpacked") from None

    def content(self, sealed: bytes, name: str, size: int) -> bytes:
        """Of a chunk. Raises Broken or WrongKey."""
        content = self.open(sealed, name, size)
        if len(content) != size:
            raise Broken(f"chunk {name} has {len(content):,} bytes in place of {size:,}")
        return content

    def _about(self, what: str) -> bytes:
        return b"\0".join((b"sluice vault 1", self._session, what.encode()))


def key_of(sealed: bytes) -> str:
    """The id of the secret that something is sealed with; empty: it is not sealed by Sluice."""
    return sealed[len(_MAGIC) : len(_MAGIC) + _ID].hex() if sealed.startswith(_MAGIC) else ""


def _id_of(secret: bytes) -> bytes:
    return _key(secret, b"id", b"")[:_ID]


def _key(secret: bytes, purpose: bytes, session: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=b"sluice vault 1", info=purpose + b"\0" + session).derive(secret)
