"""How Laravel calls its workers, and what it makes of their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2

from tests.contract.accounts import Accounts, Row


@dataclass(frozen=True, slots=True)
class Said:
    """`status` 0: no answer in time, or no connection; then `value` says which."""

    status: int
    value: Any

    @property
    def well(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True)
class Calls:
    """`instances`: WHATSAPP_INSTANCE_1..4; `scale` of its time limits; `key`: what it sends as api_key, if anything."""

    accounts: Accounts
    instances: list[str]
    key: str | None
    scale: float = 1.0
    made: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def url_of(self, row: Row) -> str:
        """The column, else the modulo."""
        assigned: str | None = row["assigned_instance_url"]
        return assigned or self.instances[row["workspace_id"] % len(self.instances)]

    # --- the adapter and the status service

    async def create(self, row: Row) -> Said:
        """10 s; not a 2xx or slower: the row is failed."""
        session, workspace = row["session_id"], row["workspace_id"]
        base = self.instances[workspace % len(self.instances)]
        self.accounts.change(session, "create", assigned_instance_url=base)
        about = {"session_id": session, "workspace_id": workspace, "account_id": row["id"], "priority": "normal"}
        said = await self._ask("POST", f"{base}/api/sessions", 10.0, about)
        if not said.well:
            self.accounts.change(session, f"create answered {said.status}", status="failed")
        return said

    async def disconnect(self, row: Row) -> Said:
        """DELETE with a body; after any answer the row is disconnected and has no phone."""
        url = f"{self.url_of(row)}/api/sessions/{row['session_id']}"
        said = await self._ask("DELETE", url, 30.0, {"workspace_id": row["workspace_id"]})
        if said.status:
            self.accounts.change(row["session_id"], "disconnect", status="disconnected", phone_number=None)
        return said

    async def reconnect(self, row: Row) -> Said:
        return await self._ask("POST", f"{self._of(row)}/reconnect", 60.0, self._about(row))

    async def regenerate_qr(self, row: Row) -> Said:
        return await self._ask("POST", f"{self._of(row)}/regenerate-qr", 30.0, self._about(row))

    async def check(self, row: Row) -> Said:
        """The health check, 10 s: any answer that is not a 2xx makes the row disconnected."""
        said = await self._get(f"{self._of(row)}/status", 10.0, {"workspace_id": row["workspace_id"]})
        if said.status and not said.well:
            self.accounts.change(row["session_id"], f"health check: {said.status}", status="disconnected")
        return said

    async def logout(self, row: Row) -> Said:
        """ProxyController: no key, a path that no worker has; 404 disconnects the row."""
        said = await self._ask("POST", f"{self.url_of(row)}/sessions/{row['session_id']}/logout", 30.0, {}, key=False)
        if said.status == 404:
            self.accounts.change(row["session_id"], "logout: 404", status="disconnected")
        return said

    # --- the service client: campaigns and chats

    async def send(self, row: Row, to: str, message: str) -> Said:
        """A 4xx is final; 5xx and timeouts are tried three times. Its base URL loses a path prefix."""
        fields = {"session_id": row["session_id"], "recipient_phone": to, "message": message, "type": "text"}
        return await self._service("POST", row, "/api/messages/send", fields)

    async def send_bulk(self, row: Row, to: list[str], message: str) -> Said:
        fields = {"session_id": row["session_id"], "recipients": to, "message": message, "type": "text"}
        return await self._service("POST", row, "/api/messages/bulk-send", fields)

    async def service_status(self, row: Row) -> Said:
        """A GET, whose repeat has the query twice."""
        return await self._service("GET", row, f"/api/sessions/{row['session_id']}/status", {})

    async def service_delete(self, row: Row) -> Said:
        """Without a body, and so without a key."""
        return await self._ask("DELETE", f"{_origin(self.url_of(row))}/api/sessions/{row['session_id']}", 30.0, None)

    async def _service(self, method: str, row: Row, path: str, fields: dict[str, Any]) -> Said:
        url, query = f"{_origin(self.url_of(row))}{path}", urlencode(self._keyed({}))
        said = Said(0, "not asked")
        for attempt in range(3):
            if method == "GET":
                said = await self._ask(method, f"{url}?{'&'.join([query] * (attempt + 1))}", 30.0, None)
            else:
                said = await self._ask(method, url, 30.0, fields)
            if said.well or 400 <= said.status < 500:
                break
        return said

    # --- what it asks of itself

    async def why_not_received(self, workspace: Any) -> str:
        """Before it saves a message: is any connected row of the workspace alive at its worker? Empty: one is."""
        why = "no row is connected"
        for row in self.accounts.connected(workspace):
            health = await self._get(f"{self.url_of(row)}/health", 5.0, {}, key=False)
            sessions = health.value.get("sessions") if health.well and isinstance(health.value, dict) else None
            if not isinstance(sessions, dict) or not sessions.get("connected"):
                why = f"health: {health.status} {health.value}"
                continue
            status = await self._get(f"{self._of(row)}/status", 3.0, {"workspace_id": workspace})
            if status.status != 200 or (isinstance(status.value, dict) and status.value.get("status") == "connected"):
                return ""
            why = f"status: {status.value}"
        return why

    async def sync_instance_urls(self) -> None:
        """With the key in a header only: a keyed worker answers 401, and that is an alert."""
        for base in self.instances:
            said = await self._ask("GET", f"{base}/api/sessions", 5.0, None, key=False)
            if not said.well:
                self.alerts.append(f"{base}: {said.status}")
                continue
            for session in said.value.get("sessions", []):
                self.accounts.change(session["session_id"], "sync", assigned_instance_url=base)

    # ---

    def _of(self, row: Row) -> str:
        return f"{self.url_of(row)}/api/sessions/{row['session_id']}"

    def _about(self, row: Row) -> dict[str, Any]:
        return {"workspace_id": row["workspace_id"], "account_id": row["id"]}

    def _keyed(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields if self.key is None else {**fields, "api_key": self.key}

    async def _get(self, url: str, limit: float, query: dict[str, Any], *, key: bool = True) -> Said:
        text = urlencode(self._keyed(query) if key else query)
        return await self._ask("GET", f"{url}?{text}" if text else url, limit, None)

    async def _ask(self, method: str, url: str, limit: float, fields: Any, *, key: bool = True) -> Said:
        """A new connection for each, as each request of PHP is a new process's."""
        headers = {"X-API-Key": self.key or "", "User-Agent": "GuzzleHttp/7", "Accept": "application/json"}
        sent = self._keyed(fields) if fields is not None and key else fields
        try:
            async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=limit * self.scale) as client:
                answer = await client.request(method, url, json=sent, headers=headers)
            said = Said(answer.status_code, _value(answer))
        except httpx2.TimeoutException:
            said = Said(0, "timeout")
        except httpx2.HTTPError as error:
            said = Said(0, type(error).__name__)
        self.made.append({"method": method, "url": url, "status": said.status, "value": said.value})
        return said


def _origin(url: str) -> str:
    """Guzzle's base_uri with a path that begins with a slash."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _value(answer: httpx2.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text
