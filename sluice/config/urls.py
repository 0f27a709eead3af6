"""Addresses we call: upstreams, endpoints, workers and the store. Pure; raises Malformed."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from sluice.config.problems import Malformed, quoted

STORES = (
    "write embedded, redis://127.0.0.1:6379/0, rediss://…, unix:///run/valkey.sock, "
    "redis+sentinel://host:26379,host:26379/mymaster or redis+cluster://host:6379,host:6379"
)
_ONE = ("redis", "rediss", "unix")
_SEVERAL = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


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
    if not parts.path.isascii():
        raise Malformed(f"{quoted(text)} has a path beyond ASCII", "write it percent-encoded")
    return text.rstrip("/")


def store_url(text: str) -> str:
    """Never quoted in a message: a password may stand in it."""
    if text == "embedded":
        return text
    malformed = Malformed("is not an address of a store", STORES)
    scheme, _, rest = text.partition("://")
    if scheme in _SEVERAL:
        return _several(text, scheme, rest, malformed)
    parts = _split(text, malformed)
    if parts.scheme not in _ONE:
        raise malformed
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise Malformed("names no socket", "write unix:///run/valkey.sock")
    if parts.scheme != "unix" and not parts.hostname:
        raise Malformed("names no host", "write redis://127.0.0.1:6379/0")
    return text


def _several(text: str, scheme: str, rest: str, malformed: Malformed) -> str:
    netloc, _, path = rest.partition("?")[0].partition("/")
    login, at, hosts = netloc.rpartition("@")
    for host in hosts.split(","):
        if not _split(f"redis://{login}{at}{host}", malformed).hostname:
            raise Malformed("names no host", f"write {scheme}://host,host")
    _split(text.replace(netloc, "host", 1), malformed)
    if scheme.endswith("sentinel") and not path.strip("/"):
        raise Malformed("names no master", f"write {scheme}://host:26379,host:26379/mymaster")
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
