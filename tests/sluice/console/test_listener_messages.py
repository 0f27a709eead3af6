"""What is said of certificates, and of what is refused under `/_sluice/`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from sluice.cli.status import render
from sluice.console.status import LastMinute, ListenerStatus
from tests.sluice.console.saying import WELL, said

DAY = 86400.0
SECURE = ListenerStatus("public", "0.0.0.0:443", admin=False, certificate="/etc/tls.crt", ends_s=60 * DAY)
READ = "put a new one into /etc/tls.crt"


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (14.1 * DAY, None),
        (13.99 * DAY, f"listener public: its certificate ends in 13d 23h: {READ}, which is read when it changes"),
        (60.0, f"listener public: its certificate ends in 1m: {READ}, which is read when it changes"),
        (-7200.0, f"listener public: its certificate ended 2h ago, and clients refuse it: {READ}"),
    ],
)
def test_a_certificate_that_ends_is_told_two_weeks_before(ends: float, sentence: str | None) -> None:
    assert said(listeners=(replace(SECURE, ends_s=ends),)) == ([sentence] if sentence else [])


def test_a_broken_one_and_the_end_of_the_old_one_are_both_told() -> None:
    broken = replace(
        SECURE, ends_s=DAY, problem="/etc/tls.key is not the key of /etc/tls.crt; put the right pair there"
    )
    assert said(listeners=(broken,)) == [
        "listener public: its new certificate is not in force, the one from before is: /etc/tls.key is not the key of "
        "/etc/tls.crt; put the right pair there",
        f"listener public: its certificate ends in 1d: {READ}, which is read when it changes",
    ]


@pytest.mark.parametrize(
    ("refused", "begin"),
    [
        ({"token": 1}, "1 wrong token was sent to /_sluice/ in the last minute: somebody guesses"),
        ({"token": 10, "limited": 2}, "12 wrong tokens were sent to /_sluice/ in the last minute: somebody guesses"),
        ({"not_allowed": 3}, "3 requests for /_sluice/ of the last minute came from addresses that are not in"),
        ({"host": 3}, "3 requests for /_sluice/ of the last minute named another host than those of admin.hosts"),
        ({"not_allowed": 2, "host": 2, "denied": 100, "listener": 100}, None),
    ],
)
def test_what_is_refused_under_the_reserved_paths_is_told(refused: dict[str, int], begin: str | None) -> None:
    sentences = said(last_minute=LastMinute(reserved=refused))
    assert [one.startswith(begin or "") for one in sentences] == ([True] if begin else [])


@pytest.mark.parametrize(
    ("failed", "sentence"),
    [
        (
            {"certificate": 3, "no_tls": 29},
            "listener public: clients refused its certificate 3 times in the last minute: put one that they trust into "
            "/etc/tls.crt, for the name by which they call it, with the certificates between it and the root behind it",
        ),
        (
            {"no_tls": 28, "version": 1, "other": 1, "certificate": 2},
            "listener public: 30 TLS handshakes of the last minute failed (28 spoke no TLS, 1 were for another version "
            "and 1 for other reasons): let those that are yours speak TLS 1.2 or newer there, and call it by https; "
            "refuse strangers (trust.deny)",
        ),
        ({"no_tls": 29, "certificate": 2}, None),
    ],
)
def test_handshakes_that_fail_are_told_where_they_are_many(failed: dict[str, int], sentence: str | None) -> None:
    sentences = said(listeners=(SECURE,), last_minute=LastMinute(handshakes={"public": failed}))
    assert sentences == ([sentence] if sentence else [])


def test_an_address_at_which_nobody_answers_any_more_is_told() -> None:
    assert said(unserved=("127.0.0.1:8080",)) == [
        "nobody answers at 127.0.0.1:8080 any more, as listen and admin.listen name it no longer, though clients still "
        "connect there: restart Sluice, or put it back"
    ]


def test_the_screen_lists_listeners_where_there_are_several() -> None:
    screen = Console(width=100, force_terminal=False)
    with screen.capture() as capture:
        screen.print(render(replace(WELL, listeners=(SECURE, ListenerStatus("ops", "unix:/run/a", admin=True)))))
    shown = [line.split() for line in capture.get().splitlines()]
    assert ["public", "0.0.0.0:443", "routes", "in", "60d"] in shown
    assert ["ops", "unix:/run/a", "/_sluice/", "-"] in shown
