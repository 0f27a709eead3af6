"""Who gets an answer under `/_sluice/`, and at which listener. What is decided is decided by `ReservedAccess`, purely.

    area      paths                        listeners                  Host            client
    health    healthz, readyz              all                        any             all but trust.deny
    signed    workers/**, vault/**, events all                        trust.hosts     all but trust.deny
    metrics   metrics                      admin.listen, or all       admin.hosts     admin.allow, but not trust.deny
    console   all other                    the same                   the same        the same

A host is served besides when it is this machine's own address to which the request came, as commands and scrapes name
it. `console.token` and signatures are looked at behind this.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, Literal, NoReturn
from urllib.parse import unquote

from gateway.access_log import combined_line, tell_client
from gateway.client_ip import Client, client_of
from gateway.metrics import reserved_refused
from gateway.plan import DENIED
from gateway.policies import AddressList, Policies
from gateway.problems import Receive, Refusal, Send, answer_refusal
from gateway.proxy.websocket import WebSocketLogEntry, serve as serve_websocket
from gateway.request import host_name, id_line_for
from sluice.config import Listen
from sluice.http.fields import Fields, fields_of, pair_of
from sluice.http.request_id import id_of
from sluice.http.server import listener_of, target_of
from sluice.http.signed_json import ID_LINE, WHY
from sluice.observe.log import Log

LOG = Log("gateway")
PREFIX = "/_sluice"
ROUTE = f"{PREFIX}/**"
Area = Literal["health", "signed", "metrics", "console"]
Reason = Literal["denied", "not_allowed", "host", "listener"]
Scope = MutableMapping[str, Any]
_CLIENT = "sluice.client"
_CLIENT_GONE = 499
_HEALTH = (f"{PREFIX}/healthz", f"{PREFIX}/readyz")
_WORKERS, _EVENTS, _METRICS = f"{PREFIX}/workers", f"{PREFIX}/events", f"{PREFIX}/metrics"
_VAULT = f"{PREFIX}/vault"


def area_of(path: str) -> Area:
    """Of a decoded path. What is not known belongs to the console."""
    if path in _HEALTH:
        return "health"
    if path in (_EVENTS, _WORKERS) or path.startswith((f"{_WORKERS}/", f"{_VAULT}/")):
        return "signed"
    return "metrics" if path == _METRICS else "console"


def client_of_scope(scope: Scope, proxies: AddressList) -> Client:
    client = scope.get(_CLIENT)
    if client is None:
        peer = scope.get("client")
        client = scope[_CLIENT] = client_of(peer[0] if peer else None, fields_of(scope["headers"]), proxies)
    found: Client = client
    return found


def _is_asked_all_the_time(path: str) -> bool:
    return path in (_METRICS, _WORKERS) or path.startswith(f"{_WORKERS}/")


class ReservedAccess:
    """What the policies say of it, prepared for many requests."""

    def __init__(self, policies: Policies) -> None:
        self._trust = policies.trust
        self._admin = policies.admin
        self._listeners = {listener.name for listener in policies.admin.listen}
        self._own_hosts = {one.address.host for one in policies.listeners if isinstance(one.address, Listen)}

    def refusal(
        self, area: Area, client: Client, host: str, listener: str, server: str, now: float
    ) -> tuple[Reason, Refusal] | None:
        """`host`: as `host_name` has it; `server`: the address that the client came to; `now`: Unix seconds."""
        trust, admin = self._trust, self._admin
        if trust.deny and trust.deny.holds(client.address, now):
            return "denied", Refusal(403, DENIED)
        if area == "health":
            return None
        if area == "signed":
            return self._refuse_host(host, client, server, trust.hosts, "trust.hosts")
        if self._listeners and listener not in self._listeners:
            return "listener", Refusal(404, "console, API and metrics answer at the addresses of admin.listen only")
        if admin.allow and not admin.allow.holds(client.address, now):
            return "not_allowed", Refusal(403, "this address is not one of admin.allow")
        hosts, key = (admin.hosts, "admin.hosts") if admin.hosts else (trust.hosts, "trust.hosts")
        return self._refuse_host(host, client, server, hosts, key)

    def _refuse_host(
        self, host: str, client: Client, server: str, hosts: tuple[str, ...], key: str
    ) -> tuple[Reason, Refusal] | None:
        if not hosts or host in hosts or host.strip("[]") == server or host.strip("[]") in self._own_hosts:
            return None
        if host == "localhost" and client.address.is_loopback:
            return None
        return "host", Refusal(400, f"this host is not served here; {key} in policies.yaml lists those that are")


class ReservedPaths:
    """The ASGI application of the reserved paths: refuses, passes on, and leaves a line in the access log.

    What programs ask all the time leaves none while it goes well: probes, scrapes and the calls of workers.
    """

    def __init__(self, policies: Policies, application: Any) -> None:
        self._access = ReservedAccess(policies)
        self._proxies = policies.trust.proxies
        self._several = len(policies.listeners) > 1
        self._combined = policies.log.requests == "combined"
        self._limits = policies.clients.websocket
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await serve_websocket(scope, receive, send, self._open, self._limits, combined=self._combined)
            return
        started, status, size = time.monotonic(), 0, 0
        fields = fields_of(scope["headers"])
        id_line = scope[ID_LINE] = id_line_for(fields, client_of_scope(scope, self._proxies))

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        async def identified(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), pair_of(id_line)]}
            await noting(message)

        path = unquote(target_of(scope).partition(b"?")[0].decode("latin-1"))
        client, area, listener = client_of_scope(scope, self._proxies), area_of(path), listener_of(scope)
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        server = scope.get("server")
        refused = self._access.refusal(
            area,
            client,
            host_name(hosts[0]) if len(hosts) == 1 else "",
            listener,
            str(server[0]) if server else "",
            time.time(),
        )
        try:
            if refused is None:
                await self._application(scope, receive, identified)
            else:
                reserved_refused(refused[0])
                await answer_refusal(noting, refused[1], scope["headers"], id_line)
        finally:
            if refused is not None or not (area == "health" or (status < 400 and _is_asked_all_the_time(path))):
                why = scope.get(WHY) if refused is None else refused[1].detail
                seconds = time.monotonic() - started
                self._log(scope, path, status or _CLIENT_GONE, size, seconds, fields, why)

    async def _open(self, scope: Scope, log: WebSocketLogEntry) -> NoReturn:
        log.client, log.route = client_of_scope(scope, self._proxies).text, ROUTE
        raise Refusal(404, f"there are no WebSockets under {PREFIX}/")

    def _log(
        self,
        scope: Scope,
        path: str,
        status: int,
        size: int,
        seconds: float,
        fields: Fields,
        why: str | None,
    ) -> None:
        client, method = client_of_scope(scope, self._proxies).text, scope["method"]
        if self._combined:
            LOG.text(combined_line(client, method.encode(), target_of(scope), 1, status, size, fields))
            return
        said: dict[str, Any] = {
            "method": method,
            "path": path,
            "route": ROUTE,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "client": client,
            "request_id": id_of(scope[ID_LINE]),
            "bytes_out": size,
            "counted": "none",
        }
        tell_client(fields, said)
        if self._several:
            said["on"] = listener_of(scope)
        if why is not None:
            said["why"] = why
        LOG.line("request", said)
