from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, strategies as st

from gateway.policies.paths import covers
from gateway.routing import Routes
from tests.gateway.making import a_route

SEGMENTS = st.sampled_from(["a", "b", "*", "{x}"])
PATTERNS = st.builds(
    lambda segments, rest: "/" + "/".join(segments + (["**"] if rest else [])),
    st.lists(SEGMENTS, max_size=3),
    st.booleans(),
)
# One segment more than a pattern has, and a letter that no pattern has: each difference between two patterns shows.
PATHS = [("/" + "/".join(segments)).encode() for count in range(5) for segments in product("abc", repeat=count)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/**", "/", True),
        ("/a/**", "/a", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/a/*/**", True),
        ("/a/*", "/a/{id}", True),
        ("/{id}", "/a", True),
        ("/a", "/a/", True),
        ("/a", "/{id}", False),
        ("/a/*", "/a/**", False),
        ("/a/b/**", "/a/**", False),
        ("/a/*", "/a", False),
        ("/", "/**", False),
    ],
)
def test_a_pattern_covers_another(one: str, other: str, expected: bool) -> None:
    assert covers(one, other) is expected


@given(PATTERNS, PATTERNS)
def test_a_pattern_covers_another_when_it_matches_all_that_the_other_matches(one: str, other: str) -> None:
    wide, narrow = Routes([a_route(one)]), Routes([a_route(other)])
    assert covers(one, other) is all(wide.match("GET", path) for path in PATHS if narrow.match("GET", path))
