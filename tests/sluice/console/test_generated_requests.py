"""Requests that the OpenAPI description allows, and such as it forbids, made by Schemathesis against the real API."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.policies import Policies
from gateway.resources import Resources
from sluice.console.operations import API
from tests.sluice.console.deployment import CONSOLE, TOKEN, VAULT, policies_in
from tests.sluice.console.test_acting import bury
from tests.sluice.console.test_http import served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    """Many of the requests have a wrong token."""
    return policies_in(tmp_path, f"{CONSOLE}{VAULT}admin: {{refused: 1000000/minute}}\n")


async def test_no_request_makes_it_fail_or_answer_what_is_not_described(parts: Resources, tmp_path: Path) -> None:
    for number in range(5):
        await bury(parts, f"evt_{number}", session=f"s{number}")
    async with served(parts) as http:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{http.base_url}{API}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN.encode().decode('latin-1')}"),
            *("--phases", "coverage,fuzzing", "--max-examples", "10", "--generation-deterministic", "--no-color"),
            # Of the dead letters that are meant at least one thing has to be said, which a schema cannot tell.
            *("--exclude-checks", "positive_data_acceptance"),
            cwd=tmp_path,  # it keeps what it has found
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(300):
            out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
