from __future__ import annotations

from typing import Literal

import pytest

from sluice.console.status import UpstreamStatus
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
            "upstream laravel: its circuit is open: requests are refused with 503 at once, but for a probe now and "
            "then; 50 of 50 requests of the last minute failed (30 refused at once, 20 could not be reached), for 1m "
            "2s; start it or cure it: curl -i http://127.0.0.1:8000 shows whether it answers",
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


def test_workers_that_fail_lead_to_the_list_of_who_runs_what() -> None:
    assert said(upstreams={"workers": UpstreamStatus("", "closed", {"broken_off": 3, "answered": 1}, 0.0)}) == [
        "the workers: 3 of 4 requests of the last minute failed (3 broken off); sluice sessions list shows who runs "
        "which session"
    ]
