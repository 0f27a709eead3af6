"""How many users there are, and when (--shape), within --users, --spawn-rate and --run-time.

steady   all of them, as fast as --spawn-rate makes them
spike    a quarter of them; for the middle third of the time all, at once; then a quarter again
soak     up to all of them over the first tenth of the time, then on until its end: hours, for what grows slowly
"""

from __future__ import annotations

import math

from locust import LoadTestShape

SHAPES = ("steady", "spike", "soak")
_AT_ONCE = 100.0  # users a second; more makes locust warn


class Shape(LoadTestShape):
    """A run without --run-time goes on until it is stopped, and is steady."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        options = self.runner.environment.parsed_options
        time = self.get_run_time()
        if options.run_time and time >= options.run_time:
            return None
        users = options.num_users or 1
        shape = options.shape if options.run_time else "steady"
        return users_at(shape, time / (options.run_time or 1), users, options.spawn_rate or users)


def users_at(shape: str, part: float, users: int, rate: float) -> tuple[int, float]:
    """How many users, and how many more or fewer of them each second, when this part (0 to 1) of the time is over."""
    if shape == "spike":
        return (users, _AT_ONCE) if 1 / 3 <= part < 2 / 3 else (math.ceil(users / 4), _AT_ONCE)
    if shape == "soak":
        return max(1, min(users, math.ceil(users * part * 10))), rate
    return users, rate
