"""Whose failure an answer is."""

from __future__ import annotations

import pytest

from gateway.proxy.verdict import says_that_it_fails

NGINX = [(b"Server", b"nginx/1.26"), (b"Content-Type", b"text/html"), (b"Content-Length", b"157")]
LARAVEL = [*NGINX, (b"Cache-Control", b"no-cache, private"), (b"Set-Cookie", b"laravel_session=1")]


@pytest.mark.parametrize("status", [502, 504])
def test_what_a_known_proxy_says_of_its_own_counts(status: int) -> None:
    assert says_that_it_fails(status, NGINX)


@pytest.mark.parametrize("status", [502, 504])
def test_without_a_body_it_counts_whoever_says_it(status: int) -> None:
    assert says_that_it_fails(status, [(b"content-length", b"0")])


@pytest.mark.parametrize("status", [502, 504])
def test_what_an_application_behind_a_proxy_has_written_does_not_count(status: int) -> None:
    assert not says_that_it_fails(status, LARAVEL)
    assert not says_that_it_fails(status, [*LARAVEL[3:], (b"Content-Length", b"0")])


@pytest.mark.parametrize("status", [502, 504])
def test_a_body_of_an_unknown_server_does_not_count(status: int) -> None:
    assert not says_that_it_fails(status, [(b"Server", b"swoole"), (b"Content-Length", b"9")])


@pytest.mark.parametrize("status", [500, 503, 505, 200, 429])
def test_other_statuses_never_count_whoever_says_them(status: int) -> None:
    assert not says_that_it_fails(status, NGINX)
    assert not says_that_it_fails(status, [(b"Content-Length", b"0")])
