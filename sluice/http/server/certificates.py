"""The certificate of a listener, read again when its files change.

A handshake gets the newest pair of certificate and key that can be used. A broken new one changes nothing: the one in
force stays, and what is wrong is kept for the log and `status`.
"""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

from sluice.config import watching
from sluice.config.listening import TlsFiles
from sluice.http.server import handshakes
from sluice.observe.log import Log
from sluice.process.loops import Stop

LOG = Log("gateway")
_STABLE_FOR = 0.2  # seconds for which both files must not change: certificate and key are written one after the other
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_SEQUENCE, _EXPLICIT_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


class Unusable(Exception):
    """A pair that cannot be used; the message says why and what to do."""


class Certificate:
    """Of one listener. Raises Unusable where its files cannot be used."""

    def __init__(self, listener: str, files: TlsFiles) -> None:
        self.listener = listener
        self.files = files
        self.context, self.ends = load(files)
        """The context that connections are accepted with; and the moment (Unix seconds) when what is in force ends."""
        self.problem: str | None = None
        """Why newer files are not in force; None: what is in force is what they hold."""
        handshakes.counted(self.context, listener)
        self._current = self.context
        self._seen = _digest(files)
        self.context.sni_callback = self._choose  # called at each handshake, also where the client names no server

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    async def look(self, stop: Stop) -> None:
        """Takes over what the files hold, if it is new, holds still and can be used."""
        digest = await asyncio.to_thread(_digest, self.files)
        while digest != self._seen:
            previous = digest
            if not await stop.sleep(_STABLE_FOR):
                return
            digest = await asyncio.to_thread(_digest, self.files)
            if digest == previous:
                self._seen = digest
                await self._take_over()

    async def _take_over(self) -> None:
        try:
            self._current, self.ends = await asyncio.to_thread(load, self.files)
        except Unusable as error:
            self.problem = str(error)
            LOG.warning("certificate.refused", on=self.listener, why=self.problem)
            return
        self.problem = None
        LOG.info("certificate.loaded", on=self.listener, ends=self.ends)


async def watch(certificates: Sequence[Certificate], stop: Stop) -> None:
    """Until stopped."""
    files = [file for one in certificates for file in (one.files.cert, one.files.key)]
    if not files:
        return
    async for _ in watching.hints(lambda: files, stop):
        for one in certificates:
            try:
                await one.look(stop)
            except Exception as error:  # noqa: BLE001 - what is in force stays so
                LOG.error("certificate.not_read", exception=error, on=one.listener)


def load(files: TlsFiles) -> tuple[ssl.SSLContext, float]:
    """A server's context, for TLS 1.2 and newer, and the Unix second at which its certificate ends. Raises Unusable."""
    pem, key = _read(files.cert), _read(files.key)
    if _BEGIN not in pem:
        raise Unusable(f"{files.cert} holds no certificate; write its PEM form there")
    if b"PRIVATE KEY-----" not in key:
        raise Unusable(f"{files.key} holds no private key; write its PEM form there")
    try:
        ends = ends_at(pem)
    except (ValueError, IndexError):
        raise Unusable(f"{files.cert} holds a certificate that cannot be read; write a right one there") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def encrypted() -> str:
        raise Unusable(f"{files.key} is encrypted; write the key there without a passphrase")

    try:
        context.load_cert_chain(files.cert, files.key, encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unusable(f"{files.key} is not the key of {files.cert}; put the right pair there") from None
        raise Unusable(f"{files.cert} and {files.key} are refused ({error.reason}); put a right pair there") from None
    except OSError as error:
        raise _unreadable(files.cert, error) from None
    return context, ends


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: OSError) -> Unusable:
    return Unusable(f"{file} cannot be read ({(error.strerror or str(error)).lower()}); put it there")


def _digest(files: TlsFiles) -> tuple[bytes | None, bytes | None]:
    return _digest_of(files.cert), _digest_of(files.key)


def _digest_of(file: Path) -> bytes | None:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return None


# --- the one field that is shown: no module of the standard library tells it of a certificate of our own


def ends_at(pem: bytes) -> float:
    """When the first certificate ends (`notAfter`, RFC 5280 section 4.1.2.5), in Unix seconds. Raises ValueError or
    IndexError for what is none."""
    text = pem[pem.index(_BEGIN) : pem.index(_END) + len(_END)].decode("ascii")
    certificate = _content(ssl.PEM_cert_to_DER_cert(text), _SEQUENCE)
    fields = _content(certificate, _SEQUENCE)
    if fields[0] == _EXPLICIT_VERSION:
        fields = _behind(fields)
    for _ in ("serialNumber", "signature", "issuer"):
        fields = _behind(fields)
    not_after = _behind(_content(fields, _SEQUENCE))
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(not_after[0])
    if form is None:
        raise ValueError("no time")
    return float(calendar.timegm(time.strptime(_content(not_after, not_after[0]).decode(), form)))


def _content(der: bytes, tag: int) -> bytes:
    """Of the first element, which must have this tag."""
    if der[0] != tag:
        raise ValueError("not the element that is expected")
    begin, end = _extent(der)
    return der[begin:end]


def _behind(der: bytes) -> bytes:
    """What comes after the first element."""
    return der[_extent(der)[1] :]


def _extent(der: bytes) -> tuple[int, int]:
    """Where the content of the first element begins and ends (X.690 section 8.1.3)."""
    size, begin = der[1], 2
    if size & 0x80:
        begin = 2 + (size & 0x7F)
        size = int.from_bytes(der[2:begin], "big")
    if begin + size > len(der):
        raise ValueError("it ends early")
    return begin, begin + size
