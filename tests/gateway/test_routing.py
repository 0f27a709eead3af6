from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from gateway.policies import Fixed
from gateway.problems import BadPath
from gateway.routing import Match, Routes, segments_of
from tests.gateway.making import a_route


def match(raw_path: bytes, *paths: str, method: str = "GET") -> Match | None:
    return Routes([a_route(path) for path in paths]).match(method, raw_path)


def matched(raw_path: bytes, *paths: str) -> str | None:
    found = match(raw_path, *paths)
    return found.route.path if found else None


def test_the_first_that_matches_wins() -> None:
    routes = Routes([a_route("/a/*", name="first"), a_route("/a/b", name="second"), a_route("/**", name="last")])
    assert [routes.match("GET", path).route.event for path in (b"/a/b", b"/x")] == [Fixed("first"), Fixed("last")]  # type: ignore[union-attr]


def test_no_route_no_match() -> None:
    assert match(b"/b", "/a", "/a/**") is None
    assert match(b"/a") is None


def test_a_literal_is_the_whole_segment_and_its_case_counts() -> None:
    assert matched(b"/a/b", "/a/b") == "/a/b"
    assert [matched(path, "/a/b") for path in (b"/a", b"/a/bc", b"/a/b/c", b"/A/b", b"/")] == [None] * 5


def test_a_star_is_exactly_one_segment() -> None:
    assert matched(b"/a/anything", "/a/*") == "/a/*"
    assert [matched(path, "/a/*") for path in (b"/a", b"/a/", b"/a/b/c")] == [None] * 3


@pytest.mark.parametrize("path", [b"/a", b"/a/", b"/a/b", b"/a/b/c/d"])
def test_two_stars_are_any_rest_also_none(path: bytes) -> None:
    assert matched(path, "/a/**") == "/a/**"


def test_two_stars_alone_are_everything() -> None:
    assert [matched(path, "/**") for path in (b"/", b"/a", b"/a/b")] == ["/**"] * 3
    assert matched(b"/ab", "/a/**") is None


def test_the_root_is_the_root() -> None:
    assert matched(b"/", "/") == "/"
    assert matched(b"/a", "/") is None


def test_a_name_is_one_segment_decoded_once() -> None:
    found = match(b"/api/sessions/shop%2017%2525/qr", "/api/sessions/{session}/**")
    assert found is not None
    assert found.captured == {"session": "shop 17%25"}


def test_several_names_are_all_captured() -> None:
    found = match(b"/1/x/2", "/{one}/x/{two}")
    assert found is not None
    assert found.captured == {"one": "1", "two": "2"}


def test_the_method_counts_where_the_route_names_some() -> None:
    routes = Routes([a_route("/a", "POST", "PUT", name="writes"), a_route("/a", name="any")])
    found = [routes.match(method, b"/a") for method in ("POST", "PUT", "GET", "post")]
    assert [match.route.event for match in found if match] == [Fixed(n) for n in ("writes", "writes", "any", "any")]


@pytest.mark.parametrize(
    "path",
    [
        b"/admin/users",
        b"/admin/users/",
        b"//admin//users",
        b"/./admin/./users/.",
        b"/x/../admin/users",
        b"/%61dmin/users",
        b"/admin%2Fusers",
        b"/admin%2fusers",
        b"/admin%5Cusers",
        b"/admin\\users",
        b"/%2e/admin/users",
        b"/x/%2E%2e/admin/users",
        b"/admin/x/..%2Fusers",
        b"%2fadmin/users",
    ],
)
def test_no_spelling_of_a_path_slips_past_its_route(path: bytes) -> None:
    assert matched(path, "/admin/users", "/**") == "/admin/users"


def test_what_is_encoded_twice_is_another_path() -> None:
    assert matched(b"/admin%252Fusers", "/admin/users", "/**") == "/**"


@pytest.mark.parametrize("path", [b"/..", b"/a/../..", b"/%2e%2e/a", b"/a/..%2f..", b"\\..", b"/./../a"])
def test_a_way_out_of_the_root_is_refused(path: bytes) -> None:
    with pytest.raises(BadPath, match="out of the root"):
        match(path, "/**")


@pytest.mark.parametrize("path", [b"/a%00", b"/a%0d%0ab", b"/%1f", b"/%7F", b"/a\tb"])
def test_control_characters_are_refused(path: bytes) -> None:
    with pytest.raises(BadPath, match="control characters"):
        match(path, "/**")


def test_bytes_that_are_no_utf8_stay_what_they_are() -> None:
    assert segments_of(b"/%ff") != segments_of(b"/%fe")
    assert matched(b"/%ff", "/*") == "/*"


SEGMENT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=6
).filter(lambda text: text not in (".", ".."))


@st.composite
def one_path_two_spellings(draw: st.DrawFn) -> tuple[list[str], bytes]:
    """Segments, and a path in which any of their bytes (and slashes) may be percent-encoded, in either case."""
    segments = draw(st.lists(SEGMENT, max_size=4))
    spelled = b"/"
    for byte in "/".join(segments).encode():
        how = draw(st.sampled_from(["plain", "%02x", "%02X"]))
        # A bare % would begin an encoded byte; bytes over 127 never stand in a request target as they are.
        must = byte == 0x25 or byte > 0x7E
        spelled += bytes([byte]) if how == "plain" and not must else (b"%%%02x" if how == "%02x" else b"%%%02X") % byte
    return segments, spelled


@settings(deadline=None)
@given(one_path_two_spellings())
def test_any_percent_encoding_of_a_path_matches_the_same_route(case: tuple[list[str], bytes]) -> None:
    segments, spelled = case
    assert segments_of(spelled) == tuple(segments)
    assert matched(spelled, "/" + "/".join(["*"] * len(segments)) if segments else "/", "/**") != "/**"


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_matched_or_refused(path: bytes) -> None:
    try:
        segments = segments_of(b"/" + path)
    except BadPath:
        return
    assert not {"", ".", ".."} & set(segments)
    assert not any("/" in segment or "\\" in segment for segment in segments)
