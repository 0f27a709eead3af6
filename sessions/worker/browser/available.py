"""Whether sessions can run in browsers here at all. Nothing here needs what drives a browser."""

from __future__ import annotations

from importlib.util import find_spec

from sessions.worker.browser import executable, wa_js
from sessions.worker.browser.errors import NotInstalled
from sessions.worker.policies import BrowserPolicy

_EXTRA = ("playwright", "segno")


def missing(policy: BrowserPolicy) -> str | None:
    """What is missing, and the cure; None: nothing is."""
    for module in _EXTRA:
        if find_spec(module) is None:
            return f"{module} is not installed: pip install 'sluice[browser]'"
    try:
        executable.find(policy.path)
        wa_js.load()
    except NotInstalled as error:
        return str(error)
    return None
