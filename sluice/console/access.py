"""Who asks: by a token in the request, or by the cookie that a login gave. No I/O.

    console.token   may look and change: operator
    console.read    may look: reader

A cookie holds the role and its end, sealed with a key that is made of the token. So each gateway with this token knows
it, nothing is kept anywhere, and another token ends it. Because a browser sends it by itself, each change that comes
with one has to show in X-CSRF-Token what only a page that may read our answers knows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from gateway.client_ip import Client
from gateway.policies import ConsolePolicy
from gateway.tokens import NO_TOKEN, Role, TokenGuard
from sluice.config import Secret
from sluice.http.problem import Refusal

COOKIE = "sluice_console"
CSRF = "X-CSRF-Token"
LIFE = 12 * 3600
"""Seconds that a login holds."""
READS_ONLY = "console.read may look and change nothing; log in with console.token"
OPERATOR_ONLY = "console.read may not see this, as whoever sees it can act by it; log in with console.token"
STALE = "this login has ended; log in again"
FORGED = f"a change needs the {CSRF} of its login; load the page again"


@dataclass(frozen=True, slots=True)
class Login:
    """What a cookie holds."""

    role: Role
    ends: int
    """Unix seconds."""
    cookie: str
    csrf: str


@dataclass(frozen=True, slots=True)
class Person:
    role: Role
    through: Literal["api", "page"]
    login: Login | None

    @property
    def token(self) -> str:
        """The name of the one that he has."""
        return "console.token" if self.role == "operator" else "console.read"


def log_in(role: Role, policy: ConsolePolicy, now: float) -> Login:
    ends = int(now) + LIFE
    what = f"{role}.{ends}.{secrets.token_urlsafe(12)}"
    return _login(role, ends, f"{what}.{_seal(policy, role, 'login', what)}", policy)


def person(
    authorization: str, cookies: str, policy: ConsolePolicy, guard: TokenGuard, client: Client, at: float, now: float
) -> Person:
    """`at`: monotonic seconds; `now`: Unix seconds. Raises Refusal 401, 403 and 429."""
    cookie = "" if authorization else _cookie(cookies)
    if not cookie:
        return Person(guard.check(authorization, policy, client, at), "api", None)
    if not _is_set(policy.token):
        raise Refusal(403, NO_TOKEN)
    login = _read(cookie, policy, now)
    if login is None:
        raise Refusal(401, STALE)
    return Person(login.role, "page", login)


def may_change(one: Person, csrf: str) -> None:
    """Raises Refusal 403."""
    if one.login is not None and not hmac.compare_digest(csrf.encode(), one.login.csrf.encode()):
        raise Refusal(403, FORGED)
    if one.role != "operator":
        raise Refusal(403, READS_ONLY)


def may_see_secrets(one: Person) -> None:
    """Raises Refusal 403."""
    if one.role != "operator":
        raise Refusal(403, OPERATOR_ONLY)


def _is_set(secret: Secret | None) -> bool:
    return secret is not None and bool(secret.reveal())


def _cookie(cookies: str) -> str:
    """Ours; empty: there is none."""
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _read(cookie: str, policy: ConsolePolicy, now: float) -> Login | None:
    what, _, seal = cookie.rpartition(".")
    name, _, rest = what.partition(".")
    ends = rest.partition(".")[0]
    role: Role = "operator" if name == "operator" else "reader"
    if role == "reader" and (name != "reader" or not _is_set(policy.read)):
        return None
    if not hmac.compare_digest(seal.encode(), _seal(policy, role, "login", what).encode()) or int(ends) <= now:
        return None
    return _login(role, int(ends), cookie, policy)


def _login(role: Role, ends: int, cookie: str, policy: ConsolePolicy) -> Login:
    return Login(role, ends, cookie, _seal(policy, role, "change", cookie))


def _seal(policy: ConsolePolicy, role: Role, use: str, what: str) -> str:
    secret = policy.token if role == "operator" else policy.read
    key = hmac.digest(secret.reveal() if secret else b"", f"sluice console {role} {use}".encode(), hashlib.sha256)
    return hmac.new(key, what.encode(), hashlib.sha256).hexdigest()
