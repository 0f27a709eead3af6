"""Compiles the hot path with mypyc (docs/decisions/0006). Without it, or with SLUICE_PURE set, all is plain Python.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from setuptools import Extension

COMPILED = tuple(
    f"{folder}/{name}.py"
    for folder, names in {
        "gateway": "access_log client_ip edge metrics plan reload request routing",
        "gateway/ingest": "carried fence hold identity webhooks",
        "gateway/limits": "applicable decide denial_cache headers limiter local take",
        "gateway/policies": "ranges",
        "gateway/proxy": "balancing circuit quota shares upstream",
        "gateway/workers": "prefixes",
        "relay": "circuit metrics",
        "relay/deliver": "outcome retry sender",
        "relay/dispatch": "attempts batching leases loop permits prefetch slots",
        "relay/queue": "codec history_codec inbox lanes layout queue replicated usage",
        "sluice/http": "bodies date fields request_id signatures via",
        "sluice/http/client": "chunks connection deadlines exchange framing pool response response_body response_head",
        "sluice/http/server": (
            "asgi bounds chunks cycle deadline exchange flow head metrics protocol recorded sending waiting"
        ),
        "sluice/observe": "log_lines tallies",
        "sluice/process": "boottime cache",
        "sluice/store": "client shared_calls",
        "sluice/store/protocol": "link packing routes wire",
    }.items()
    for name in names.split()
)
"""What every request or delivery passes through. One library for all of it: a call within it is a C call."""


def extensions() -> list[Extension]:
    if os.environ.get("SLUICE_PURE"):
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:  # so it is in an isolated build; .venv has the pinned one
        sys.stderr.write("warning: mypyc is not installed, so this is built as plain Python, for any platform\n")
        return []
    # At -O1 it is as fast as at -O3, and compiles in a third of the time.
    return mypycify([*COMPILED], opt_level="1", debug_level="0", group_name="sluice.hot_path")


if __name__ == "__main__":
    from setuptools import setup
    from setuptools.command.build_py import build_py

    sys.path.insert(0, os.getcwd())
    from sessions.worker.browser import wa_js
    from sluice.console.page.libraries import LIBRARIES
    from sluice.process import npm

    class BuildPackages(build_py):
        """With the policies file of the project, from which `sluice init` makes others, and what comes from npm."""

        def run(self) -> None:
            super().run()
            if not self.editable_mode:
                self.copy_file("policies.yaml", os.path.join(self.build_lib, "sluice", "cli", "policies.yaml"))
                self.fetch_packages()

        def fetch_packages(self) -> None:
            """What comes and is not what is pinned ends the build; where nothing comes, the wheel says so when used."""
            for packages, folder in ((LIBRARIES, "sluice/console/page"), ((wa_js.PACKAGE,), "sessions/worker/browser")):
                try:
                    npm.install(packages, Path(self.build_lib, folder, "fetched"))
                except npm.Unavailable as error:
                    sys.stderr.write(f"warning: {folder} is built without what it fetches: {error}\n")

    setup(ext_modules=extensions(), cmdclass={"build_py": BuildPackages})
