"""examples/node-remoteauth by itself: its own tests in Node, and what npm would publish of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "node-remoteauth"
TESTS = Path(__file__).parent / "remoteauth" / "store.test.js"


async def run(*command: str, **environment: str) -> str:
    program = shutil.which(command[0])
    assert program, "install Node.js 20 and npm: the store of RemoteAuth is run"
    process = await asyncio.create_subprocess_exec(
        *(program, *command[1:]),
        cwd=EXAMPLE,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(300):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.slow
async def test_the_store_does_what_its_cases_say() -> None:
    said = await run("node", "--test", "--test-reporter=tap", str(TESTS), STORE=str(EXAMPLE))
    assert "# fail 0" in said
    assert "# skipped 0" in said
    assert int(said.partition("# pass ")[2].split()[0]) >= 60


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("commonjs", "const { SluiceStore } = require('sluice-remoteauth');"),
        ("module", "import { SluiceStore } from 'sluice-remoteauth';"),
    ],
)
async def test_it_is_loaded_by_its_name(kind: str, statement: str) -> None:
    said = await run("node", f"--input-type={kind}", "-e", f"{statement} console.log(SluiceStore.name)")
    assert said == "SluiceStore\n"


async def test_npm_would_publish_the_class_its_types_and_its_page(tmp_path: Path) -> None:
    said = await run("npm", "pack", "--dry-run", "--json", "--offline", npm_config_cache=str(tmp_path))
    [packed] = json.loads(said)
    assert {one["path"] for one in packed["files"]} == {"README.md", "index.d.ts", "index.js", "package.json"}
    assert (packed["name"], packed["version"]) == ("sluice-remoteauth", "1.0.0")


def test_its_types_name_each_reason_and_option() -> None:
    code, types, page = ((EXAMPLE / name).read_text() for name in ("index.js", "index.d.ts", "README.md"))
    for reason in ("stale", "deleted", "skipped", "unknown", "broken", "too large", "full", "no zip", "other browser"):
        assert f"'{reason}'" in code
        assert f"'{reason}'" in types
        assert f"`{reason}`" in page
    for option in ("url", "secret", "dataPath", "onProblem", "pause", "timeout"):
        assert f"  {option}" in types
        assert f"`{option}`" in page
    assert max(map(len, code.splitlines())) <= 120
