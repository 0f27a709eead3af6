"""Addresses we call: upstreams, endpoints, workers and the store. Pure; raises Malformed."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from runtime.policies.problems import Malformed, not_yet, quoted

STORES = "write embedded, redis://127.0.0.1:6379/0, rediss://… or unix:///run/valkey.sock"
STORES_LATER = ("redis+sentinel", "redis+cluster")


def http_url(text: str) -> str:
    """Scheme, host, port and a path to put others behind. Without the slash at the end: paths begin with theirs."""
    malformed = Malformed(f"{quoted(text)} is not an http address", "write http://127.0.0.1:8000")
    if "@" in text.partition("://")[2].partition("/")[0]:
        # Before anything else, and not quoted: a password may stand in it.
        raise Malformed("has a user or password in it", "write it without; requests are signed, not logged in")
    parts = _split(text, malformed)
    if "?" in text or "#" in text:
        raise Malformed(f"{quoted(text)} has a query or fragment", "write scheme, host, port and path only")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise malformed
    return text.rstrip("/")


def store_url(text: str) -> str:
    """Never quoted in a message: a password may stand in it."""
    if text == "embedded":
        return text
    parts = _split(text, Malformed("is not an address of a store", STORES))
    if parts.scheme in STORES_LATER:
        raise not_yet(f"{parts.scheme}://", f", or {STORES}")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise Malformed("is not an address of a store", STORES)
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise Malformed("names no socket", "write unix:///run/valkey.sock")
    if parts.scheme != "unix" and not parts.hostname:
        raise Malformed("names no host", "write redis://127.0.0.1:6379/0")
    return text


def _split(text: str, malformed: Malformed) -> SplitResult:
    # urlsplit itself drops line breaks and tabs in silence.
    if not text.isprintable() or " " in text:
        raise malformed
    try:
        parts = urlsplit(text)
        if parts.port == 0:
            raise malformed
    except ValueError:
        raise malformed from None
    return parts
