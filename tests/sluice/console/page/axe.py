"""axe-core, which finds what people with a screen reader or poor sight stumble over. Only for tests, so the page is
never served with it; pinned and fetched as the page's own libraries are.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from sluice.process import npm
from sluice.process.npm import Package

AXE = Package(
    "axe-core",
    "4.14.1",
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    "LICENSE",
    {"axe.min.js": "axe.js"},
)
_RUN = "async () => (await axe.run({ resultTypes: ['violations'] })).violations"


async def faults(page: Page) -> list[str]:
    """What is serious or critical: the rule, what it is about, and the first places."""
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_source())
    found: list[dict[str, Any]] = await page.evaluate(_RUN)
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@cache
def _source() -> str:
    with tempfile.TemporaryDirectory() as folder:
        npm.install((AXE,), Path(folder))
        return (Path(folder) / "axe.js").read_text()
