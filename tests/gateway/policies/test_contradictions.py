from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import event, given, strategies as st

from gateway.limits.applicable import Limits, Subject
from gateway.limits.local import LocalBuckets
from gateway.policies import Limit, load
from sluice.config import PolicyError
from tests.gateway.making import a_client

RATES = st.sampled_from(["1/second", "2/second", "60/minute", "4/second", "1/minute"])
LIMITS = st.tuples(RATES, st.integers(1, 4), st.sampled_from(["", "session", "ip", "session, ip"]))
Written = tuple[str, int, str]
REQUESTS = st.lists(
    st.tuples(st.sampled_from([0, 0, 0.25, 1, 5]), st.sampled_from("ab"), st.sampled_from(["192.0.2.1", "192.0.2.2"])),
    max_size=40,
)


def line(name: str, written: Written) -> str:
    return f"  - {{id: {name}, rate: {written[0]}, burst: {written[1]}, per: [{written[2]}]}}\n"


def load_limits(*lines: str) -> tuple[Limit, ...]:
    with TemporaryDirectory() as folder:
        file = Path(folder, "policies.yaml")
        file.write_text("version: 1\nlimits:\n" + "".join(lines))
        return load(file, environment={}).limits


def is_useless(first: Written, second: Written) -> bool:
    try:
        load_limits(line("first", first), line("second", second))
    except PolicyError as error:
        return [problem.key for problem in error.problems] == ["limits[0].rate"]
    return False


@given(LIMITS, LIMITS, REQUESTS)
def test_a_limit_that_is_called_useless_refuses_nothing_that_the_other_one_lets_pass(
    first: Written, second: Written, requests: list[tuple[float, str, str]]
) -> None:
    useless = is_useless(first, second)
    event(f"useless: {useless}")
    if not useless:
        return
    limits = Limits([*load_limits(line("first", first)), *load_limits(line("second", second))], {})
    local, now = LocalBuckets(), 0.0
    for pause, session, address in requests:
        now += pause
        buckets = limits.buckets(Subject(a_client(address), None, session, relayed=False))
        assert local.take(buckets, now).violated != ("first",), "only the useless one refuses"
