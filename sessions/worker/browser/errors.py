"""What goes wrong with a browser, in words for a person: each names the cure where there is one."""

from __future__ import annotations


class BrowserError(Exception):
    """The message says what is wrong, and what to do."""


class NotInstalled(BrowserError):
    """The browser, the library that drives it, or the one that is injected is missing here: no session can start."""


class BrowserGone(BrowserError):
    """It has ended, or its page has; another one may be started on its profile."""


class BrowserHangs(BrowserGone):
    """It did not answer in time."""


class NotNow(BrowserError):
    """It may work in a while, as the store or the vault is away."""


class PageRefused(BrowserError):
    """The page answered that it cannot do this. Nothing is wrong with the browser."""
