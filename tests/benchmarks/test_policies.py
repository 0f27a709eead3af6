"""What the oracle reads of a policies file, and what it does not understand and says so."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from policies import Limit, NotReadable, Numbers, cost_of, read, seen_as

ROOT = Path(__file__).parent.parent.parent
HERE = ip_address("127.0.0.1")


def test_the_limits_of_the_project_s_own_file() -> None:
    limits = {limit.id: limit for limit in read(ROOT / "policies.yaml").limits}
    assert not [limit for limit in limits.values() if not limit.judged]
    assert limits["typing"].numbers == Numbers(0.5, 5)
    assert (limits["typing"].events, limits["typing"].per, limits["typing"].over) == (
        ("typing_indicator",),
        ("session",),
        "drop",
    )
    assert ip_network("127.0.0.1/32") in limits["address"].exempt
    assert limits["trial"].observed


@pytest.mark.parametrize(
    ("rate", "burst", "numbers"),
    [
        ("60/minute", None, Numbers(1.0, 60)),
        ("5/10 seconds", 7, Numbers(0.5, 7)),
        ("10 per 2 hours", None, Numbers(10 / 7200, 10)),
        ("1/day", 3, Numbers(1 / 86_400, 3)),
    ],
)
def test_rates(tmp_path: Path, rate: str, burst: int | None, numbers: Numbers) -> None:
    more = "" if burst is None else f", burst: {burst}"
    assert _one(tmp_path, f"rate: {rate}{more}").numbers == numbers


@pytest.mark.parametrize(
    ("text", "unclear"),
    [
        ("rate: 1/fortnight", "the rate '1/fortnight' is in no notation the oracle knows"),
        ("rate: 1/day, per: [workspace]", "the oracle does not know whom it counts per workspace"),
        ("rate: 1/day, mode: dry", "the oracle does not know mode: dry"),
        ("rate: 1/day, cost: {jq: .to}", "the oracle does not know cost: {'jq': '.to'}"),
        ("rate: 1/day, colour: red", "the oracle does not know colour"),
        ("rate: 1/day, except: [gone]", "there is no list gone"),
        ("rate: 1/day, except: [odd]", "the oracle does not know file"),
    ],
)
def test_what_it_does_not_understand_is_not_judged(tmp_path: Path, text: str, unclear: str) -> None:
    limit = _one(tmp_path, text, "odd: {file: banned.txt}")
    assert (limit.id, limit.judged, limit.unclear) == ("one", False, unclear)


def test_a_list_may_have_notes_and_ends(tmp_path: Path) -> None:
    lists = "some: {networks: [10.0.0.0/8, {network: 192.0.2.7, until: 2020-01-01}], note: HQ, until: 2999-12-31}"
    assert _one(tmp_path, "rate: 1/day, except: [some]", lists).exempt == (ip_network("10.0.0.0/8"),)
    assert _one(tmp_path, "rate: 1/day, except: [some]", lists.replace("2999", "2020")).exempt == ()


def test_overrides(tmp_path: Path) -> None:
    overrides = (
        "[{session: vip-*, rate: 2/second}, {list: some, unlimited: true}, {session: old, burst: 9, until: 2020-01-01}]"
    )
    limit = _one(tmp_path, f"rate: 1/second, burst: 5, overrides: {overrides}", "some: [192.0.2.0/24]")
    assert limit.judged, limit.unclear
    assert limit.numbers_for(HERE, "vip-1", None) == {Numbers(2.0, 5)}
    assert limit.numbers_for(ip_address("192.0.2.7"), "else", None) == {None}
    assert limit.numbers_for(HERE, "old", None) == {Numbers(1.0, 5)}
    assert limit.numbers_for(ip_address("192.0.2.7"), "vip-1", None) == {None, Numbers(2.0, 5)}


def test_whether_an_override_of_a_workspace_counts_nobody_can_tell(tmp_path: Path) -> None:
    limit = _one(tmp_path, "rate: 1/second, per: [session], overrides: [{workspace: '7', rate: 2/second}]")
    assert limit.numbers_for(HERE, "one", "7") == {Numbers(1.0, 1), Numbers(2.0, 2)}
    assert limit.numbers_for(HERE, "one", "8") == {Numbers(1.0, 1)}


@pytest.mark.parametrize(
    ("mode", "observed", "partly"),
    [("observe", True, False), ("enforce", False, False), ("{enforce: 25%}", False, True)],
)
def test_modes(tmp_path: Path, mode: str, observed: bool, partly: bool) -> None:
    limit = _one(tmp_path, f"rate: 1/day, mode: {mode}")
    assert (limit.observed, limit.partly, limit.judged) == (observed, partly, True)


@pytest.mark.parametrize(
    ("cost", "body", "tokens"),
    [
        (3.0, {}, 3.0),
        ("/to", {"to": ["a", "b"]}, 2.0),
        ("/to/0/n", {"to": [{"n": 3.5}]}, 4.0),
        ("/a~1b", {"a/b": 5}, 5.0),
        ("/gone", {"to": []}, 1.0),
        ("/to", None, 1.0),
    ],
)
def test_costs(cost: float | str, body: object, tokens: float) -> None:
    assert cost_of(Limit("one", cost=cost), body) == tokens


def test_a_forwarded_address_counts_only_from_a_trusted_proxy() -> None:
    assert seen_as(HERE, "192.0.2.7", ()) == HERE
    assert seen_as(HERE, "192.0.2.7", (ip_network("127.0.0.0/8"),)) == ip_address("192.0.2.7")


def test_json_needs_no_yaml_reader(tmp_path: Path) -> None:
    file = tmp_path / "policies.json"
    file.write_text('{"limits": [{"id": "one", "rate": "1/second"}]}')
    assert read(file).limits == (Limit("one", numbers=Numbers(1.0, 1)),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits: [{rate: 1/day}]", "`limits` is not a list of limits with an id each; what does `sluice check` say?"),
        ("- a list", "not a policies file"),
        ("limits: [", "while parsing a flow"),
        ("trust: {proxies: [10.0.0.1/8]}", "trust.proxies: 10.0.0.1/8 has host bits set"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(text)
    with pytest.raises(NotReadable) as caught:
        read(file)
    assert problem in str(caught.value)


def _one(folder: Path, text: str, lists: str = "") -> Limit:
    file = folder / "policies.yaml"
    file.write_text(f"trust:\n  lists:\n    none: []\n    {lists}\nlimits:\n  - {{id: one, {text}}}\n")
    return read(file).limits[0]
