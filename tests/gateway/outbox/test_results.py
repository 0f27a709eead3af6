"""What is known of a send in the store: it is given to a worker once, and its callers all hear the same of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.outbox.results import Ended, Handed, NoReceipts, Promised, Results
from gateway.problems import Refusal
from gateway.workers.send_records import unpacked
from gateway.workers.target import Target
from sluice.http.server import RecordedExchange
from sluice.http.server.head import read_head
from sluice.store.client import Store, StoreAway

pytestmark = pytest.mark.anyio
W1 = Target("w1", "http://127.0.0.1:1", fence=7)
HEAD = read_head(b"POST /api/messages/send HTTP/1.1\r\nHost: a\r\n\r\n")


class Noting(NoReceipts):
    def __init__(self, run: str = "") -> None:
        self.kept: list[Promised] = []
        self.run = run
        self.fail_with: list[Exception] = []

    def run_of(self, _: Target) -> str:
        return self.run

    async def promised(self, send: Promised) -> None:
        if self.fail_with:
            raise self.fail_with.pop()
        self.kept.append(send)


def results(store: Store, gateway: str = "g1", receipts: Noting | None = None) -> Results:
    made = Results(store, gateway)
    made.receipts = receipts or Noting()
    return made


def answer(body: bytes = b'{"success":true}', status: int = 200) -> RecordedExchange:
    made = RecordedExchange(HEAD, 1000)
    made.begin(status, [b"Content-Length: %d\r\n" % len(body)], len(body), body, more=False)
    return made


async def end(of: Results, send: str = "evt_1", *, dead: str = "", dead_if_promised: str = "") -> Ended:
    return await of.end(send, "s1", "w1", answer(), dead=dead, dead_if_promised=dead_if_promised, kept=60.0)


async def test_a_send_that_was_given_to_a_worker_is_not_given_to_another(store: Store) -> None:
    assert await results(store).hand_over("evt_1", "s1", W1, "attempt-1") is None
    again = await results(store, "g2").hand_over("evt_1", "s1", Target("w2", "http://127.0.0.1:2"), "attempt-2")
    assert isinstance(again, Handed)
    assert (again.gateway, again.worker) == ("g1", "w1")
    assert 0 <= again.ago < 10


async def test_who_says_so_gives_it_to_a_worker_again(store: Store) -> None:
    await results(store).hand_over("evt_1", "s1", W1, "attempt-1")
    assert await results(store, "g2").hand_over("evt_1", "s1", W1, "attempt-2", anyway=True) is None


@pytest.mark.parametrize(("run", "given"), [("run-1", True), ("run-2", False)])
async def test_a_worker_that_knows_sends_by_their_ids_gets_it_again_in_the_same_run(
    store: Store, run: str, given: bool
) -> None:
    await results(store, receipts=Noting("run-1")).hand_over("evt_1", "s1", W1, "attempt-1")
    again = await results(store, "g2", Noting(run)).hand_over("evt_1", "s1", W1, "attempt-2")
    assert (again is None) is given


async def test_what_was_not_sent_for_certain_is_given_again_and_counts_from_the_first_time(store: Store) -> None:
    one = results(store)
    await one.hand_over("evt_1", "s1", W1, "attempt-1")
    assert await one.put_off("evt_1", "s1", "attempt-1") == 0
    await asyncio.sleep(0.1)
    await one.hand_over("evt_1", "s1", W1, "attempt-1")
    assert await one.put_off("evt_1", "s1", "attempt-1") >= 0.05
    assert await one.hand_over("evt_1", "s1", W1, "attempt-1") is None


async def test_the_first_outcome_stays(store: Store) -> None:
    one = results(store)
    assert await end(one, dead="nobody knows") == Ended(promised=False, dead="nobody knows")
    assert await end(results(store, "g2")) == Ended(promised=False, dead="nobody knows")
    assert await one.hand_over("evt_1", "s1", W1, "attempt-1") == Ended(promised=False, dead="nobody knows")


async def test_who_waits_no_longer_gets_the_answer_that_is_there_and_nobody_is_promised_anything(store: Store) -> None:
    one, other = results(store), results(store, "g2")
    await end(other)
    kept = await one.promise("evt_1")
    assert kept is not None
    found = unpacked(kept, HEAD)
    assert not isinstance(found, Refusal)
    assert (found.status, found.body) == (200, b'{"success":true}')
    assert other.receipts.kept == []  # type: ignore[attr-defined]


async def test_whose_caller_was_promised_our_id_is_told_with_the_answer_of_its_worker(store: Store) -> None:
    noting = Noting()
    one = results(store, receipts=noting)
    assert await one.promise("evt_1") is None
    assert await end(one) == Ended(promised=True, dead="")
    assert noting.kept == [Promised("evt_1", "s1", "w1", b'{"success":true}')]
    assert await one.promise("evt_1") is None, "who was told our id stays with it"


async def test_a_promise_is_told_again_where_that_failed(store: Store) -> None:
    noting = Noting()
    one = results(store, receipts=noting)
    await one.promise("evt_1")
    noting.fail_with.append(StoreAway("away"))
    with pytest.raises(StoreAway):
        await end(one)
    assert await results(store, "g2", noting).hand_over("evt_1", "s1", W1, "attempt-2") == Ended(promised=True, dead="")
    assert [send.id for send in noting.kept] == ["evt_1"]


async def test_a_refusal_is_a_dead_letter_only_where_its_caller_was_promised_our_id(store: Store) -> None:
    one = results(store)
    await one.promise("evt_1")
    assert (await end(one, dead_if_promised="answered 400")).dead == "answered 400"
    assert (await end(one, "evt_2", dead_if_promised="answered 400")).dead == ""


async def test_what_a_person_has_sent_again_is_given_to_a_worker_and_its_caller_keeps_our_id(store: Store) -> None:
    noting = Noting()
    one = results(store, receipts=noting)
    await one.promise("evt_1")
    await end(one, dead_if_promised="nobody knows")
    await one.forget("evt_1")
    assert await one.hand_over("evt_1", "s1", W1, "attempt-1") is None
    await end(one)
    assert [send.id for send in noting.kept] == ["evt_1"]


async def test_who_waits_hears_of_an_end_here_and_at_another_gateway(store: Store) -> None:
    for waiting, ending in ((one := results(store), one), (results(store), results(store, "g2"))):
        send = f"evt_{ending.gateway}"
        began, ended = time.monotonic(), end(ending, send)
        await asyncio.gather(waiting.wait(send, began + 10.0), ended)
        assert time.monotonic() - began < 8.0


async def test_who_waits_goes_on_when_his_time_is_over(store: Store) -> None:
    began = time.monotonic()
    await results(store).wait("evt_1", began + 0.3)
    assert 0.25 < time.monotonic() - began < 5.0


async def test_who_looks_finds_in_which_run_a_worker_was_given_the_send(store: Store) -> None:
    await results(store, receipts=Noting("run-1")).hand_over("evt_1", "s1", W1, "attempt-1")
    found = await results(store, "g2").look("evt_1", "s1")
    assert isinstance(found, Handed)
    assert (found.gateway, found.worker, found.run) == ("g1", "w1", "run-1")


async def test_a_send_is_not_given_to_a_worker_while_nobody_could_find_that_it_is_under_way(store: Store) -> None:
    """Its webhooks would not wait for its answer."""

    class Away(Noting):
        async def begun(self, send: str, session: str, target: Target) -> None:
            raise StoreAway("away")

    with pytest.raises(StoreAway):
        await results(store, receipts=Away()).hand_over("evt_1", "s1", W1, "attempt-1")
    assert await results(store).look("evt_1", "s1") is None


async def test_what_one_worker_turns_down_in_a_turn_the_next_may_get(store: Store) -> None:
    one = results(store)
    assert await one.hand_over("evt_1", "s1", W1, "attempt-1") is None
    assert await one.hand_over("evt_1", "s1", Target("w2", "http://127.0.0.1:2"), "attempt-1") is None


async def test_a_worker_that_may_have_sent_it_keeps_it_when_it_cannot_be_reached_any_more(store: Store) -> None:
    """It broke off its answer, and was killed: nobody else may be given the send."""
    one = results(store, receipts=Noting("run-1"))
    await one.hand_over("evt_1", "s1", W1, "attempt-1")
    assert await one.hand_over("evt_1", "s1", W1, "attempt-2") is None, "it would know it"
    await one.put_off("evt_1", "s1", "attempt-2")
    await one.put_off("evt_1", "s1", "attempt-3")  # no worker has the session
    other = results(store, receipts=Noting("run-2"))
    found = await other.hand_over("evt_1", "s1", Target("w2", "http://127.0.0.1:2"), "attempt-4")
    assert isinstance(found, Handed)
    assert found.worker == "w1"
