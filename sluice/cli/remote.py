"""A gateway that is asked over HTTP: the operations of the console, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, fields
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import orjson

from gateway.policies import Policies
from gateway.tokens import NO_TOKEN
from sluice.cli import local_http
from sluice.cli.errors import CommandError
from sluice.config.problems import Malformed, quoted
from sluice.config.secrets import secret
from sluice.console.operations import API, D, Operation, Q, R
from sluice.http.decode import Undecodable, decode, encode
from sluice.process.addresses import Reached, reached

_LOCAL_TIMEOUT = 3.0
_MARGIN = 10.0
"""Seconds that an answer may take beside what the operation takes."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """`named_by` and `token_from` say to a person where the address and the token were found. `timeout` in seconds;
    None: as long as the operation takes."""

    at: Reached
    token: bytes
    named_by: str
    token_from: str
    timeout: float | None

    async def ask(self, operation: Operation[D, Q, R], request: Q) -> R:
        """Raises CommandError."""
        response = await self._send(operation, request)
        match response.status_code:
            case 200:
                return self._result(operation, response)
            case 401:
                raise CommandError(
                    f"the gateway on {self.at} does not know {self.token_from}; "
                    "correct it, or restart the gateway with it"
                )
            case 403 if _detail(response) in ("", NO_TOKEN):
                cure = "set it in its policies.yaml and restart it"
                raise CommandError(f"the gateway on {self.at} runs without console.token; {cure}")
            case status:
                raise CommandError(_detail(response) or self._not_sluice(f"it answered {status}"))

    async def _send(self, operation: Operation[Any, Any, Any], request: object) -> httpx2.Response:
        path, query, body = _parts(operation, request)
        headers = {b"Authorization": b"Bearer " + self.token}
        url, within = self.at.url + API + path, self.timeout or operation.takes + _MARGIN
        try:
            async with asyncio.timeout(within), local_http.client(self.at, within) as client:
                return await client.request(operation.method, url, params=query, content=body, headers=headers)
        except (TimeoutError, httpx2.TimeoutException):
            raise CommandError(f"{self.at} did not answer within {within:g}s; look at its log") from None
        except httpx2.ConnectError as error:
            if isinstance(error.__cause__ and error.__cause__.__cause__, ssl.SSLError) or "SSL" in str(error):
                raise CommandError(f"{self.at} cannot be trusted: {error}") from None
            cure = f"start it with `sluice up`, or correct {self.named_by}"
            raise CommandError(f"nothing answers on {self.at}; {cure}") from None
        except httpx2.LocalProtocolError:
            # Its message holds the header, and so the token.
            raise CommandError(
                f"{self.token_from} does not fit into a header; take blanks and line ends off it"
            ) from None
        except httpx2.HTTPError as error:
            raise CommandError(self._not_sluice(str(error) or type(error).__name__)) from None

    def _result(self, operation: Operation[Any, Any, R], response: httpx2.Response) -> R:
        try:
            return decode(operation.result, orjson.loads(response.content), strict=False)
        except (Undecodable, orjson.JSONDecodeError):
            raise CommandError(self._not_sluice(f"its answer is no {operation.result.__name__}")) from None

    def _not_sluice(self, why: str) -> str:
        return f"what listens on {self.at} is no gateway of this version ({why}); see {self.named_by}"


def _parts(operation: Operation[Any, Any, Any], request: Any) -> tuple[str, dict[str, str], bytes | None]:
    """Path, query and body of a request."""
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    path = operation.path.format(**{name: quote(values.pop(name), safe="") for name in operation.path_fields})
    if operation.method == "POST":
        return path, {}, encode(values)
    return path, {name: _text(value) for name, value in values.items() if value is not None}, None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _detail(response: httpx2.Response) -> str:
    """What a refusal says; empty: it is none of ours."""
    if response.headers.get("content-type") != "application/problem+json":
        return ""
    try:
        return str(orjson.loads(response.content)["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


# --- which one


def local(policies: Policies) -> Gateway:
    """The one that runs with these policies on this machine. Raises CommandError."""
    source, token = policies.source, policies.console.token
    if token is None:
        raise CommandError(f"console.token is not set; set it in {source} and restart the gateway")
    if not token.reveal():
        raise CommandError(
            f"console.token: what {source} names for it is not here; "
            "export the variable (or make the file) that the gateway was started with"
        )
    key = "admin.listen" if policies.admin.listen else "listen"
    named_by, token_from = f"{key} in {source}", f"console.token in {source}"
    return Gateway(
        reached(policies.admin.listen or policies.listen), token.reveal(), named_by, token_from, _LOCAL_TIMEOUT
    )


def elsewhere(url: str, token_file: Path) -> Gateway:
    """The one behind a URL. Raises CommandError."""
    base = _checked(url)
    try:
        token = secret(f"file:{token_file}", {}, Path())
    except Malformed as error:
        raise CommandError(
            f"--token-file: {error.message}; write the value of the gateway's console.token into it"
        ) from None
    return Gateway(Reached(base), token.reveal(), "--gateway", f"the token in {token_file}", None)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    sound = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    if not sound or "@" in parts.netloc or any(char.isspace() for char in url):
        raise CommandError(
            f"--gateway: {quoted(url)} is not the URL of a gateway; write https://sluice.example.com "
            "or http://127.0.0.1:8080"
        )
    return url.rstrip("/")


def goes_unencrypted(url: str) -> bool:
    """Whether somebody on the way could read the token."""
    parts = urlsplit(url)
    try:
        loopback = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        loopback = parts.hostname == "localhost"
    return parts.scheme == "http" and not loopback
