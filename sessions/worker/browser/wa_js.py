"""The library that is injected into WhatsApp Web: pinned, fetched once, and never part of the sources
(sluice/process/npm.py).

    python -m sessions.worker.browser.wa_js      fetches it; exit code 1: no session can run in a browser here
"""

from __future__ import annotations

import sys
from pathlib import Path

from sessions.worker.browser.errors import NotInstalled
from sluice.process import npm
from sluice.process.npm import Package

FOLDER = Path(__file__).parent / "fetched"
PACKAGE = Package(
    "@wppconnect/wa-js",
    "4.6.0",  # before 4.4.1 it answers no ids of messages
    "sha512-epf+ucZO9c25dCaGraslVNHB1mRjid7rfijZhKbalXed/gbDzi6u69wdHCgPbcZW9McVpKmVW+3AzffI39p2SQ==",
    "LICENSE",
    {"dist/wppconnect-wa.js": "wa-js.js"},
)


def load(folder: Path | None = None) -> str:
    """Raises NotInstalled."""
    folder = folder or FOLDER
    if not npm.complete((PACKAGE,), folder):
        raise NotInstalled(
            f"{PACKAGE.name} {PACKAGE.version} is not here, without which no session runs in a browser: fetch it with "
            f"`python -m sessions.worker.browser.wa_js`"
        )
    return (folder / "wa-js.js").read_text(encoding="utf-8")


def main() -> int:
    try:
        npm.install((PACKAGE,), FOLDER)
    except (npm.Unavailable, npm.Altered, OSError) as error:
        sys.stderr.write(f"no session can run in a browser: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
