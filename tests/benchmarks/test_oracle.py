"""Which limits a request meets, and what the oracle says of the answers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from oracle import Oracle, Subject
from policies import Limit, Numbers, Override

HERE = ip_address("127.0.0.1")


def test_a_refusal_under_way_takes_nothing_from_the_other_buckets() -> None:
    oracle = Oracle([_limit("one", burst=1), _limit("two", burst=2)])
    subject = Subject(HERE, session="s")
    oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0)
    assert oracle.answered(oracle.sent(subject, None, 0.0), "refused", 0.0, ["one"]) is None
    wrong = oracle.answered(oracle.sent(subject, None, 0.0), "refused", 0.0, ["two"])
    assert wrong == "wrong refusal: limit two, session s: there was a token for it"
    assert (oracle.findings.passed, oracle.findings.refused, oracle.findings.wrongly_refused) == (1, 2, 1)


def test_over_admission_names_the_limit_its_subject_and_the_numbers() -> None:
    oracle = Oracle([_limit("typing", burst=1)])
    subject = Subject(HERE, event="typing_indicator", session="s")
    oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0)
    wrong = oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.5)
    assert wrong == "over-admission: limit typing, session s: 2 passed in 0.500 s, at most 1.50"
    assert oracle.over_admitted == 1


@pytest.mark.parametrize(
    ("limit", "subject"),
    [
        pytest.param({"events": ("message_*",)}, Subject(HERE, "typing_indicator", "s"), id="another event"),
        pytest.param({"exempt": (ip_network("127.0.0.0/8"),)}, Subject(HERE, None, "s"), id="an exempt address"),
        pytest.param({}, Subject(HERE), id="no session"),
        pytest.param({"over": "queue"}, Subject(HERE, None, "s", relayed=True), id="a webhook that is queued"),
        pytest.param({"observed": True}, Subject(HERE, None, "s"), id="only observed"),
        pytest.param({"partly": True}, Subject(HERE, None, "s"), id="enforced for some"),
        pytest.param({"unclear": "it has overrides"}, Subject(HERE, None, "s"), id="not understood"),
    ],
)
def test_nothing_is_over_admitted_where_the_limit_lets_it_pass(limit: dict[str, object], subject: Subject) -> None:
    oracle = Oracle([_limit("one", burst=1, **limit)])
    for _ in range(5):
        assert oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0) is None
    assert not oracle.over_admitted


def test_a_limit_that_only_observes_refuses_wrongly_whatever_its_level() -> None:
    oracle = Oracle([_limit("trial", burst=1, observed=True)])
    subject = Subject(HERE, session="s")
    for _ in range(3):
        oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0)
    assert oracle.answered(oracle.sent(subject, None, 0.0), "refused", 0.0, ["trial"])


@pytest.mark.parametrize("refusing", [[], ["another"], ["everybody"], ["odd"]])
def test_a_refusal_of_which_nothing_is_known_is_not_judged(refusing: list[str]) -> None:
    oracle = Oracle([_limit("everybody", per=()), _limit("odd", unclear="it has overrides")])
    assert oracle.answered(oracle.sent(Subject(HERE), None, 0.0), "refused", 0.0, refusing) is None
    assert oracle.findings.not_judged == 1


def test_an_address_s_bucket_may_have_been_empty_when_we_came() -> None:
    oracle = Oracle([_limit("address", per=("ip",), rate=1.0, burst=2)])
    subject = Subject(HERE, session="s")
    assert oracle.answered(oracle.sent(subject, None, 0.0), "refused", 0.0, ["address"]) is None
    assert oracle.answered(oracle.sent(subject, None, 9.0), "refused", 9.0, ["address"])


def test_a_request_costs_what_the_limit_says() -> None:
    oracle = Oracle([_limit("bulk", burst=10, cost="/to")])
    subject = Subject(HERE, session="s")
    assert oracle.answered(oracle.sent(subject, {"to": [1] * 8}, 0.0), "passed", 0.0) is None
    assert oracle.answered(oracle.sent(subject, {"to": [1] * 8}, 0.0), "passed", 0.0)


def test_an_override_counts_for_those_it_meets() -> None:
    more = Override(sessions=("vip-*",), workspaces=(), networks=(), numbers=Numbers(1.0, 3))
    free = Override(sessions=("free",), workspaces=(), networks=(), numbers=None)
    oracle = Oracle([_limit("send", burst=1, overrides=(more, free))])

    def passing(session: str) -> int:
        """How many may pass at once before the oracle objects."""
        subject = Subject(HERE, session=session)
        answers = (oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0) for _ in range(9))
        return next((number for number, wrong in enumerate(answers) if wrong), 9)

    assert (passing("usual"), passing("vip-1"), passing("free")) == (1, 3, 9)
    assert oracle.answered(oracle.sent(Subject(HERE, session="free"), None, 0.0), "refused", 0.0, ["send"])


def test_where_two_overrides_meet_nothing_is_judged() -> None:
    two = tuple(Override((glob,), (), (), Numbers(1.0, burst)) for glob, burst in (("vip-*", 3), ("*", 5)))
    oracle = Oracle([_limit("send", burst=1, overrides=two)])
    subject = Subject(HERE, session="vip-1")
    for _ in range(9):
        assert oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0) is None
    assert oracle.answered(oracle.sent(subject, None, 0.0), "refused", 0.0, ["send"]) is None
    assert oracle.findings.not_judged == 1


def test_addresses_of_one_network_share_a_bucket_where_the_limit_says_so() -> None:
    oracle = Oracle([_limit("address", per=("ip",), burst=1, prefixes=(24, 64))])
    oracle.answered(oracle.sent(Subject(ip_address("192.0.2.1")), None, 0.0), "passed", 0.0)
    wrong = oracle.answered(oracle.sent(Subject(ip_address("192.0.2.2")), None, 0.0), "passed", 0.0)
    assert wrong == "over-admission: limit address, ip 192.0.2.0/24: 2 passed in 0.000 s, at most 1.00"


def _limit(
    name: str, *, per: tuple[str, ...] = ("session",), rate: float = 1.0, burst: float = 1.0, **more: object
) -> Limit:
    return Limit(name, per=per, numbers=Numbers(rate, burst), **more)  # type: ignore[arg-type]


# --- waits


def refused(oracle: Oracle, subject: Subject, at: float, wait: float | None, *names: str) -> str | None:
    return oracle.answered(oracle.sent(subject, None, at), "refused", at, names or ("one",), wait)


def waits(oracle: Oracle) -> tuple[int, int]:
    return oracle.findings.waits_kept, oracle.findings.waits_broken


def used_up() -> tuple[Oracle, Subject]:
    oracle, subject = Oracle([_limit("one", burst=1), _limit("other", burst=1)]), Subject(HERE, session="s")
    oracle.answered(oracle.sent(subject, None, 0.0), "passed", 0.0)
    return oracle, subject


def test_whoever_waits_as_told_has_to_pass() -> None:
    oracle, subject = used_up()
    assert refused(oracle, subject, 0.1, 1.0) is None
    assert oracle.answered(oracle.sent(subject, None, 1.1), "passed", 1.2) is None
    assert waits(oracle) == (1, 0)


def test_a_refusal_after_the_wait_that_was_told_is_wrong() -> None:
    oracle, subject = used_up()
    refused(oracle, subject, 0.1, 0.5)
    said = refused(oracle, subject, 0.6, 0.5)
    assert said == "broken wait: limit one, session s: refused again after the wait that it said"
    assert waits(oracle) == (0, 1)


@pytest.mark.parametrize(
    ("wait", "at", "names"),
    [
        pytest.param(0.5, 0.59, ("one",), id="too early"),
        pytest.param(None, 0.9, ("one",), id="nothing was told"),
        pytest.param(0.5, 0.6, ("other",), id="by another limit"),
    ],
)
def test_nothing_was_promised(wait: float | None, at: float, names: tuple[str, ...]) -> None:
    oracle, subject = used_up()
    refused(oracle, subject, 0.1, wait)
    refused(oracle, subject, at, wait, *names)
    assert waits(oracle) == (0, 0)


def test_a_wait_is_for_who_asks_next_and_not_for_who_comes_after_others() -> None:
    oracle, subject = used_up()
    refused(oracle, subject, 0.1, 0.5)
    oracle.answered(oracle.sent(subject, None, 0.7), "unclear", 0.7)
    refused(oracle, subject, 0.8, 0.5)
    under_way = oracle.sent(subject, None, 0.9)
    refused(oracle, subject, 0.9, 0.1)
    oracle.answered(under_way, "unclear", 0.95)
    refused(oracle, subject, 1.05, 0.5)
    assert waits(oracle) == (0, 0)
