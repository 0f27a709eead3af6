"""Certificates of listeners, and what is refused under `/_sluice/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sluice.console.messages.wording import age, listed, some
from sluice.console.status import ListenerStatus

_SOON = 14 * 86400.0
_SOME = 3
_MANY = 30  # a minute: fewer are scanners
_KINDS = {"no_tls": "spoke no TLS", "version": "were for another version", "other": "for other reasons"}


def listeners(seen: Sequence[ListenerStatus]) -> Iterator[str]:
    for one in seen:
        if one.problem:
            yield f"listener {one.name}: its new certificate is not in force, the one from before is: {one.problem}"
        if one.ends_s is not None and one.ends_s <= 0:
            yield (
                f"listener {one.name}: its certificate ended {age(-one.ends_s)} ago, and clients refuse it: put a new "
                f"one into {one.certificate}"
            )
        elif one.ends_s is not None and one.ends_s < _SOON:
            yield (
                f"listener {one.name}: its certificate ends in {age(one.ends_s)}: put a new one into "
                f"{one.certificate}, which is read when it changes"
            )


def unserved(addresses: Sequence[str]) -> Iterator[str]:
    for address in addresses:
        yield (
            f"nobody answers at {address} any more, as listen and admin.listen name it no longer, though clients still "
            "connect there: restart Sluice, or put it back"
        )


def handshakes(failed: Mapping[str, Mapping[str, int]], seen: Sequence[ListenerStatus]) -> Iterator[str]:
    """Of the last minute, by listener and reason."""
    certificates = {one.name: one.certificate for one in seen}
    for listener, reasons in failed.items():
        if (refused := reasons.get("certificate", 0)) >= _SOME:
            yield (
                f"listener {listener}: clients refused its certificate {some(refused, 'time', 'times')} in the last "
                f"minute: put one that they trust into {certificates.get(listener)}, for the name by which they call "
                "it, with the certificates between it and the root behind it"
            )
        others = sum(reasons.values()) - refused
        if others >= _MANY:
            kinds = [f"{n} {_KINDS[reason]}" for reason, n in reasons.items() if reason != "certificate"]
            yield (
                f"listener {listener}: {others} TLS handshakes of the last minute failed ({listed(kinds)}): let those "
                "that are yours speak TLS 1.2 or newer there, and call it by https; refuse strangers (trust.deny)"
            )


def reserved(refused: Mapping[str, int]) -> Iterator[str]:
    """Requests of the last minute, by what they were refused for."""
    if tokens := refused.get("token", 0) + refused.get("limited", 0):
        yield (
            f"{some(tokens, 'wrong token was', 'wrong tokens were')} sent to /_sluice/ in the last minute: somebody "
            "guesses, or a command, a page or a scrape has an old one; the log names their addresses (token.refused)"
        )
    if (strangers := refused.get("not_allowed", 0)) >= _SOME:
        yield (
            f"{some(strangers, 'request', 'requests')} for /_sluice/ of the last minute came from addresses that are "
            "not in admin.allow: add them if they are yours, or let /_sluice/ answer where strangers do not come "
            "(admin.listen)"
        )
    if (hosts := refused.get("host", 0)) >= _SOME:
        yield (
            f"{some(hosts, 'request', 'requests')} for /_sluice/ of the last minute named another host than those of "
            "admin.hosts or trust.hosts: add it if it is yours"
        )
