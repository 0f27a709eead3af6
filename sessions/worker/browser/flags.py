"""How Chromium is started: what WhatsApp Web needs, what saves memory, and what must be the same everywhere.

Playwright adds its own, such as --disable-field-trial-config, without which a trial of the browser's maker may change
how it keeps IndexedDB.
"""

from __future__ import annotations

import os

from sessions.profiles.browsers import Browser

SAVING = (
    "--in-process-gpu",
    "--renderer-process-limit=1",
    "--process-per-site",
    "--disable-gpu",
    "--disable-software-rasterizer",
)
"""A page that nobody sees needs no process for its graphics, and one renderer."""
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
)
"""It asks nobody for anything but its page."""
KEPT_AWAKE = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)
"""A page that counts as hidden would answer its server late."""
CACHE = ("--disk-cache-size=33554432", "--media-cache-size=1048576")
"""Bytes: without a bound a profile grows by hundreds of megabytes a day, most of it cache."""
NOT_ASKED = ("crashlogs.whatsapp.net", "dit.whatsapp.net", "*.google-analytics.com", "*.googletagmanager.com")
"""What a page tells of crashes and habits, and what nobody here asked for. By their names, as intercepting requests
would switch off the browser's cache."""
_FEATURES_OFF = (
    "IdbSqliteOnDiskRollout",  # stores that one browser keeps so another one deletes: alike on all machines
    "IdbSqliteBackingStore",
    "IsolateOrigins",
    "site-per-process",
    "SpareRendererForSitePerProcess",
    "Translate",
    "OptimizationHints",
    "MediaRouter",
)
_MILESTONE = 150
_FEATURES_ON = ("NetworkServiceInProcess2",)


def arguments() -> list[str]:
    """Chromium refuses to sandbox what root runs, so root's has no sandbox."""
    found = [*SAVING, *QUIET, *KEPT_AWAKE, *CACHE]
    found.append(f"--host-resolver-rules={', '.join(f'MAP {host} ^NOTFOUND' for host in NOT_ASKED)}")
    found.append(f"--disable-features={','.join(_FEATURES_OFF)}")
    found.append(f"--enable-features={','.join(_FEATURES_ON)}")
    if os.geteuid() == 0:
        found.append("--no-sandbox")
    return found


def user_agent(browser: Browser) -> str:
    """Its own, without the word Headless, at which WhatsApp Web shows a page for unknown browsers."""
    version = f"Chrome/{browser.milestone or _MILESTONE}.0.0.0"
    return f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) {version} Safari/537.36"
