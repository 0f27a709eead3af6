from __future__ import annotations

import pytest

from sluice.http.fields import CONTENT_LENGTH, FORWARDING, HOST, TRANSFER_ENCODING, Field, read_fields


@pytest.mark.parametrize(
    "name",
    [
        *(b"X_Forwarded_For", b"x.forwarded.for", b"X-Forwarded_Prefix", b"X_Forwarded-Anything", b"X_Real_IP"),
        *(b"X_Sluice_Fence", b"X.Sluice-Attempt", b"X_Original_URL", b"X.Rewrite.Url"),
        *(b"Keep_Alive", b"Proxy.Connection", b"Proxy_Authorization", b"Sec_WebSocket_Protocol"),
        *(b"Content_Length", b"Transfer_Encoding", b"transfer.encoding", b"X_Forwarded_For.", b"X_Forwarded_"),
    ],
)
def test_what_php_takes_for_a_field_of_ours_is_not_for_the_next(name: bytes) -> None:
    assert Field(name, b"1").kind == FORWARDING


@pytest.mark.parametrize(
    "name",
    [b"X_Api_Key", b"x.custom.header", b"X_Forward", b"_", b".", b"Sec-WebSocket-Protocol", b"X_RateLimit_Limit"],
)
def test_other_names_go_on_however_they_are_written(name: bytes) -> None:
    assert Field(name, b"1").kind == 0


def test_nobody_here_goes_by_a_field_that_only_looks_like_one_of_http() -> None:
    fields = read_fields(b"Host: a\r\nContent_Length: 7\r\nTransfer.Encoding: chunked\r\nHost_: b")
    assert fields.kinds == HOST | FORWARDING
    assert (fields.first(CONTENT_LENGTH), fields.first(TRANSFER_ENCODING), fields.first(HOST)) == (None, None, b"a")


@pytest.mark.parametrize("name", [b"X-Original-URL", b"x-rewrite-url", b"Proxy"])
def test_what_frameworks_and_scripts_believe_of_anybody_is_not_for_the_next(name: bytes) -> None:
    assert Field(name, b"http://evil.example").kind == FORWARDING
