"""How many users a shape has, and when. In a process of its own: importing locust changes the interpreter's sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOCUST = Path(__file__).parent.parent.parent / "benchmarks" / "locust"
PARTS = (0.0, 0.05, 0.2, 0.34, 0.5, 0.66, 0.67, 0.99)
PROGRAM = """
import json, sys
from shape import users_at
parts = json.loads(sys.argv[2])
print(json.dumps([users_at(sys.argv[1], part, 20, 5.0)[0] for part in parts]))
"""


@pytest.mark.parametrize(
    ("shape", "users"),
    [
        ("steady", [20, 20, 20, 20, 20, 20, 20, 20]),
        ("spike", [5, 5, 5, 20, 20, 20, 5, 5]),
        ("soak", [1, 10, 20, 20, 20, 20, 20, 20]),
    ],
)
def test_users_over_time(shape: str, users: list[int]) -> None:
    command = [sys.executable, "-c", PROGRAM, shape, json.dumps(PARTS)]
    done = subprocess.run(command, cwd=LOCUST, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == users
