"""The time of the scripts, whatever the store's own clock does: the real scripts, given a clock of ours."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import example, given, settings, strategies as st
from redis import Redis

from sluice.store.client import Script, clock_key, load_script
from sluice.store.clock import Look, jump

LOOK, TAKE = load_script("sluice.store", "look", drains=True), load_script("gateway.limits", "take")
START = 1_800_000_000_000_000  # us
SECOND, MINUTE = 1_000_000, 60_000_000
EXAMPLES = itertools.count()
LOOKED_EVERY, LEAP, SLOWER = 100, 2000, 100  # clock.lua


@pytest.fixture(scope="module")
def redis(store_address: str) -> Iterator[Redis]:
    with Redis.from_url(store_address) as client:
        yield client


class Clock:
    """A slot, and the clock of its store in our hand: the time that passes, and what the clock is wrong by (us)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._slot = f"sl:{{clocked{next(EXAMPLES)}}}"
        self.true, self.error, self.largest_error = START, 0, 0
        self._time = self._looked = 0

    def step(self, by: int) -> None:
        self.error += by
        self.largest_error = max(self.largest_error, self.error)

    def _run(self, script: Script, keys: list[str], *args: bytes) -> object:
        real = self.true + self.error
        text = script.text.replace("call('TIME')", f"{{{real // SECOND}, {real % SECOND}}}")
        assert text != script.text
        return self._redis.eval(text, len(keys) + 1, *keys, clock_key(keys[0]), *args)

    def now(self) -> int:
        """The time of the scripts in ms, as a watch looks that has looked before."""
        look = Look(0.0, 0.0, self._looked / SECOND, self._time)
        least = look.time_at(self.true / SECOND) if self._time else 0
        now, offset = self._run(LOOK, [self._slot], b"%d" % least)  # type: ignore[misc]
        assert offset >= 0
        assert now - offset == (self.true + self.error) // 1000
        self._time, self._looked = int(now), self.true
        return int(now)

    def take(self, interval: int, burst: int) -> tuple[bool, int]:
        """Whether one token was given; else in how many us there will be one."""
        key = f"{self._slot}:bucket"
        answer = self._run(TAKE, [key], orjson.dumps({"buckets": [[interval, burst]], "requests": [[4]]}))
        if self._redis.pttl(key) > 0:
            assert self._redis.pttl(key) + (self.true + self.error) // 1000 >= self._full_at(key, interval, burst) - 1
            self._redis.persist(key)  # the store that runs here has another clock
        ((marks, wait, *_), *_) = orjson.loads(answer)  # type: ignore[arg-type]
        return "r" not in marks, int(wait)

    def _full_at(self, key: str, interval: int, burst: int) -> float:
        """ms of the time of the scripts: only from then on may the store forget the bucket by its own clock."""
        level, high, low = struct.unpack(">dHI", self._redis.get(key))  # type: ignore[arg-type]
        return ((high << 32) + low) / 100 + (burst - level) * interval / 1000


def test_a_step_back_does_not_stop_the_time(redis: Redis) -> None:
    clock = Clock(redis)
    before = clock.now()
    clock.step(-10 * MINUTE)
    assert clock.now() == before
    clock.true += SECOND
    assert clock.now() == before + 1000 - 1000 // SLOWER


def test_a_step_back_and_forth_adds_nothing(redis: Redis) -> None:
    clock = Clock(redis)
    before = clock.now()
    for _ in range(20):
        clock.step(-10 * MINUTE)
        clock.now()
        clock.step(10 * MINUTE)
        clock.now()
    assert clock.now() == before


def test_what_the_time_is_ahead_is_given_back_by_a_hundredth(redis: Redis) -> None:
    clock = Clock(redis)
    before = clock.now()
    clock.step(-SECOND)
    for _ in range(120):
        clock.now()
        clock.true += SECOND
    assert clock.now() == before + 119_000, "it is what the store's clock says again"


def test_a_note_that_somebody_spoilt_is_begun_anew(redis: Redis) -> None:
    clock = Clock(redis)
    before = clock.now()
    redis.set(clock_key(clock._slot), "spoilt")
    assert clock.now() == before


def test_the_time_goes_on_in_a_store_that_is_full(redis: Redis) -> None:
    clock = Clock(redis)
    redis.config_set("maxmemory", 1)
    try:
        assert clock.now() == START // 1000
    finally:
        redis.config_set("maxmemory", 0)


STEPS = st.one_of(st.just(0), st.just(0), st.integers(-3 * SECOND, 3 * SECOND), st.integers(-20 * MINUTE, 20 * MINUTE))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, SECOND), STEPS), max_size=60))
@example([(SECOND, -10 * MINUTE), (SECOND, 10 * MINUTE)] * 20)
def test_however_the_clock_steps_the_time_goes_on_and_is_never_further_ahead_than_the_clock_was(
    redis: Redis, history: list[tuple[int, int]]
) -> None:
    """It is looked at once a second, as whoever runs does it."""
    clock = Clock(redis)
    last, steps = clock.now(), 0
    for passes, step in history:
        clock.true += passes
        clock.step(step)
        steps += step != 0
        now = clock.now()
        assert now >= last - LOOKED_EVERY, "it runs back"
        least = START / 1000 + (clock.true - START) / 1000 * (1 - 1 / SLOWER)
        assert now >= least - len(history) - 1, "it stands still"
        over = now - (clock.true + max(0, clock.largest_error)) / 1000
        assert over <= steps * max(LOOKED_EVERY, LEAP), "it is ahead of all that the clock has said"
        last = now


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([10_000, 300_000, 4_000_000]),
    st.lists(st.tuples(st.integers(0, SECOND), STEPS), max_size=60),
)
@example(5, 4_000_000, [(0, -10 * MINUTE), (0, 10 * MINUTE)] * 20)
def test_however_the_clock_steps_no_more_passes_than_it_has_been_ahead_at_most(
    redis: Redis, burst: int, interval: int, history: list[tuple[int, int]]
) -> None:
    clock = Clock(redis)
    passed, leaked = 0, 0
    for passes, step in history:
        clock.true += passes
        clock.step(step)
        leaked += LEAP * 1000 if step else 0
        given, wait = clock.take(interval, burst)
        passed += given
        assert given or wait <= interval + 10, "nobody is locked out"
        time = clock.true - START + clock.largest_error + leaked
        assert passed <= burst + time / interval + 1e-6


@pytest.mark.parametrize(
    ("first", "second", "by"),
    [
        (Look(100, 0, 0), Look(101, 1, 1), 0),
        (Look(100, 0, 0), Look(-499, 1, 1), -600),
        (Look(100, 0, 0), Look(701, 1, 1), 600),
        (Look(100, 0, 0), Look(100.5, 1, 1), 0),  # NTP slows it down, or corrects it by a little
        (Look(100, 0, 5), Look(104, 6, 9), 0),  # the answers took long, so little is known
        (Look(100, 0, 5), Look(120, 6, 9), 11),
        (Look(100, 0, 0), Look(3700, 3600, 3600), 0),  # the machine slept
    ],
)
def test_a_jump_is_what_the_clock_and_the_time_that_passed_differ_by(first: Look, second: Look, by: float) -> None:
    assert jump(first, second) == by
