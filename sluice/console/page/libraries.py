"""The libraries of the page: pinned, fetched once, and never part of the sources (sluice/process/npm.py).

    python -m sluice.console.page.libraries      fetches what is missing; exit code 1: the page does without

Without them the page is `plain.html`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sluice.process import npm
from sluice.process.npm import Package

FOLDER = Path(__file__).parent / "fetched"
LIBRARIES = (
    Package(
        "preact",
        "11.2.0",
        "sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        "LICENSE",
        {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"},
        # A browser resolves no bare name of a package; the files lie beside each other.
        {b'from"preact"': b'from"./preact.js"'},
    ),
    Package(
        "htm",
        "3.1.1",
        "sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        "LICENSE",
        {"dist/htm.mjs": "htm.js"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "LICENSE",
        {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"},
    ),
)


def complete(folder: Path = FOLDER) -> bool:
    """Whether each file is there, of its pinned version."""
    return npm.complete(LIBRARIES, folder)


def install(folder: Path = FOLDER) -> None:
    """Fetches what is missing. Raises Unavailable and Altered, with nothing changed, and OSError."""
    npm.install(LIBRARIES, folder)


def main() -> int:
    try:
        install()
    except (npm.Unavailable, npm.Altered, OSError) as error:
        sys.stderr.write(f"the console's page does without its libraries: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
