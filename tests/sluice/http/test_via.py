from __future__ import annotations

import pytest

from sluice.http.fields import Fields, fields_of
from sluice.http.problem import Refusal
from sluice.http.via import RETURNED, Via


def of(*chain: bytes) -> Fields:
    return fields_of([(b"Host", b"a"), *((b"X-Sluice-Via", one) for one in chain)])


def test_each_gateway_adds_its_name_to_those_before_it() -> None:
    first, second = Via(), Via()
    told = first.after(of())
    assert second.after(of(told.value)).value == told.value + b", " + second.after(of()).value
    assert second.after(of(told.value, b"0" * 8)).value.startswith(told.value + b", 00000000, ")


def test_a_request_that_comes_back_is_refused_by_whoever_has_seen_it() -> None:
    first, second = Via(), Via()
    told = second.after(of(first.after(of()).value))
    for gateway in (first, second):
        with pytest.raises(Refusal) as caught:
            gateway.refuse_returned(of(told.value))
        assert (caught.value.status, caught.value.detail) == (508, RETURNED)
    Via().refuse_returned(of(told.value))


def test_no_request_passes_any_number_of_gateways() -> None:
    told = Via().after(of())
    for _ in range(14):
        Via().refuse_returned(of(told.value))
        told = Via().after(of(told.value))
    Via().refuse_returned(of(told.value))
    with pytest.raises(Refusal):
        Via().refuse_returned(of(Via().after(of(told.value)).value))


@pytest.mark.parametrize(
    "forged", [b"", b"x", b"0" * 9, b"00000000,11111111", b"0" * 4000, b", ".join([b"00000000"] * 17)]
)
def test_what_no_gateway_has_written_is_not_passed_on(forged: bytes) -> None:
    gateway = Via()
    gateway.refuse_returned(of(forged))
    assert gateway.after(of(forged)).value == gateway.after(of()).value
