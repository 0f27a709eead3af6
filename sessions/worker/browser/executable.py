"""Where the browser of this machine is."""

from __future__ import annotations

import shutil
from pathlib import Path

from sessions.worker.browser.errors import NotInstalled
from sessions.worker.policies import AUTO

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
"""The first takes less than half of the memory, and opens the same profiles."""
_CURE = (
    "install one (Debian: apt install chromium-headless-shell), or name it: sessions.browser.path: /usr/bin/chromium"
)


def find(path: str) -> str:
    """The executable that `sessions.browser.path` names; `auto`: the first of the usual ones. Raises NotInstalled."""
    if path == AUTO:
        found = next(filter(None, map(shutil.which, _NAMES)), None)
        if found is None:
            raise NotInstalled(f"there is no Chromium on this machine: {_CURE}")
        return found
    if not Path(path).is_file():
        raise NotInstalled(f"sessions.browser.path: there is no file {path}: {_CURE}")
    return path
