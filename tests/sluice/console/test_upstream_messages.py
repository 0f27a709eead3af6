from __future__ import annotations

from typing import Literal

import pytest

from sluice.console.status import MemberStatus, UpstreamStatus
from tests.sluice.console.saying import said

URL = "http://127.0.0.1:8000"


def fails(
    circuit: Literal["closed", "half-open", "open"] = "closed", failing_s: float = 0.0, **outcomes: int
) -> UpstreamStatus:
    return UpstreamStatus(URL, circuit, {name.removeprefix("answered_"): n for name, n in outcomes.items()}, failing_s)


@pytest.mark.parametrize(
    ("upstream", "sentence"),
    [
        (
            fails(answered=18, unreachable=40, answered_502=2, failing_s=185.0),
            "upstream laravel: 42 of 60 requests of the last minute failed (40 could not be reached, 2 answered 502), "
            "for 3m 5s; start it or cure it: curl -i http://127.0.0.1:8000 shows whether it answers",
        ),
        (
            fails(answered=1, timeout=1),
            "upstream laravel: 1 of 2 requests of the last minute failed (1 not answered in time); start it or cure "
            "it: curl -i http://127.0.0.1:8000 shows whether it answers",
        ),
        (
            fails(answered=95, answered_500=5),
            "upstream laravel: 5 of 100 requests of the last minute failed (5 answered 500); start it or cure it: "
            "curl -i http://127.0.0.1:8000 shows whether it answers",
        ),
        (
            fails("open", 62.0, unreachable=20, circuit_open=30),
            "upstream laravel: its circuit is open: one request a second goes through to find out whether it is back, "
            "and others get 503 after a second; 50 of 50 requests of the last minute failed (30 refused by the "
            "circuit, 20 could not be reached), for 1m 2s; start it or cure it: curl -i http://127.0.0.1:8000 shows "
            "whether it answers",
        ),
        (
            fails(answered=1, answered_503=9),
            "upstream laravel: 9 of 10 requests of the last minute failed (9 answered 503); start it or cure it: curl "
            "-i http://127.0.0.1:8000 shows whether it answers; where it is in maintenance, php artisan up ends that",
        ),
        (
            fails("half-open"),
            "upstream laravel: its circuit is half-open: the next request finds out whether it is back",
        ),
    ],
)
def test_an_upstream_that_fails_says_how_often_why_since_when_and_the_cure(
    upstream: UpstreamStatus, sentence: str
) -> None:
    assert said(upstreams={"laravel": upstream}) == [sentence]


@pytest.mark.parametrize(
    "upstream", [fails(), fails(answered=10), fails(answered=996, timeout=4), fails(answered=999, busy=5)]
)
def test_an_upstream_that_answers_nearly_always_has_nothing_to_say(upstream: UpstreamStatus) -> None:
    assert said(upstreams={"laravel": upstream}) == []


def with_members(**out: bool) -> UpstreamStatus:
    members = tuple(MemberStatus(f"http://{host}", is_out) for host, is_out in out.items())
    return UpstreamStatus(members[0].url, "closed", {"answered": 10}, 0.0, members)


def test_members_that_are_all_well_have_nothing_to_say() -> None:
    assert said(upstreams={"laravel": with_members(a=False, b=False)}) == []


def test_a_member_that_is_left_out_is_told_with_who_takes_its_requests_and_the_cure() -> None:
    assert said(upstreams={"laravel": with_members(a=False, b=True, c=False)}) == [
        "upstream laravel: its member http://b is left out, as it fails (upstream.member_out in the log says how), and "
        "2 other members take its requests; start it or cure it: curl -i http://b shows whether it answers"
    ]
    assert "and 1 other member takes its requests;" in said(upstreams={"laravel": with_members(a=False, b=True)})[0]


def test_of_members_that_are_all_left_out_each_is_told() -> None:
    assert said(upstreams={"laravel": with_members(a=True, b=True)}) == [
        f"upstream laravel: its member http://{host} is left out, as it fails (upstream.member_out in the log says "
        "how), and no other is left, so it is asked all the same; start it or cure it: curl -i http://"
        f"{host} shows whether it answers"
        for host in "ab"
    ]


def test_a_unix_socket_is_asked_by_curl_in_its_own_way() -> None:
    upstream = UpstreamStatus("unix:/run/laravel.sock", "closed", {"unreachable": 3}, 0.0)
    assert said(upstreams={"laravel": upstream})[0].endswith(
        "; start it or cure it: curl -i --unix-socket /run/laravel.sock http://localhost shows whether it answers"
    )


def test_workers_that_fail_lead_to_the_list_of_who_runs_what() -> None:
    assert said(upstreams={"workers": UpstreamStatus("", "closed", {"broken_off": 3, "answered": 1}, 0.0)}) == [
        "the workers: 3 of 4 requests of the last minute failed (3 broken off); sluice sessions list shows who runs "
        "which session"
    ]
