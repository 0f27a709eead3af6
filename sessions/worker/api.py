"""The contract's HTTP API over a worker's sessions: what Laravel asks of the existing service, and what it answers.

Whoever does not run the session answers 421, as nothing was done (docs/workers.md). Beyond the contract there are the
code as a picture and as text, and pairing by a code that is typed into the phone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.worker.login import Login
from sessions.worker.messages import PHONE, MessagesApi, done, moment
from sessions.worker.requests import fence_of, json_object, owned, refused, text
from sessions.worker.worker import Worker


class WorkerApi:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._began = time.monotonic()

    def app(self) -> Starlette:
        one = "/api/sessions/{session}"
        get: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/sessions": self.index,
            f"{one}/status": self.status,
            f"{one}/metadata": self.metadata,
            f"{one}/qr": self.code,
            "/api/internal/sessions/{session}/last-activity": self.last_activity,
            "/health": self.health,
            "/health/ready": self.ready,
            "/health/live": self.ready,
            "/health/detailed": self.health,
        }
        post: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/sessions": self.create,
            f"{one}/reconnect": self._restart(anew=False),
            f"{one}/restore": self._restart(anew=False),
            f"{one}/regenerate-qr": self._restart(anew=True),
            f"{one}/pairing-code": self.pair,
            f"{one}/logout": self.delete,
        }
        return Starlette(
            routes=[
                *(Route(path, endpoint) for path, endpoint in get.items()),
                *(Route(path, endpoint, methods=["POST"]) for path, endpoint in post.items()),
                Route(one, self.delete, methods=["DELETE"]),
                *MessagesApi(self._worker).routes(),
                Route(f"{one}/metadata", self.set_metadata, methods=["PUT"]),
            ],
            exception_handlers={HTTPException: refused},
        )

    # --- sessions

    async def index(self, request: Request) -> Response:
        sessions = [_status(login) for login in self._worker.logins()]
        return JSONResponse({"success": True, "sessions": sessions, "total": len(sessions)})

    async def create(self, request: Request) -> Response:
        body = await json_object(request)
        session, workspace = text(body, "session_id"), body.get("workspace_id")
        fence = fence_of(request)
        if re.fullmatch(r"[0-9]{1,18}", str(workspace)):
            self._worker.belongs_to(session, int(str(workspace)))
        if fence is not None:
            await self._worker.place(session, fence)
        login = owned(self._worker, request, session)
        status = login.state if login.state != "starting" else "qr_scanning"
        return JSONResponse({"success": True, "session_id": session, "status": status})

    async def delete(self, request: Request) -> Response:
        login = self._of_path(request)
        await self._worker.end_for_good(login.session)
        return JSONResponse({"success": True, "session_id": login.session, "message": "Session disconnected"})

    async def status(self, request: Request) -> Response:
        return JSONResponse(_status(self._of_path(request)))

    async def metadata(self, request: Request) -> Response:
        login = self._of_path(request)
        return JSONResponse({"success": True, "session_id": login.session, "metadata": login.metadata})

    async def set_metadata(self, request: Request) -> Response:
        updates = (await json_object(request)).get("updates")
        login = self._of_path(request)
        if not isinstance(updates, dict):
            raise HTTPException(400, "updates is missing or not an object")
        login.metadata = {**login.metadata, **updates}
        return JSONResponse({"success": True, "session_id": login.session, "metadata": login.metadata})

    def _restart(self, *, anew: bool) -> Callable[[Request], Awaitable[Response]]:
        async def restart(request: Request) -> Response:
            login = self._of_path(request)
            login.restart(anew=anew)
            answer = {"success": True, "session_id": login.session, "status": "qr_scanning"}
            return JSONResponse({**answer, "expires_in": 300} if anew else answer)

        return restart

    async def code(self, request: Request) -> Response:
        """As a data URL and as text; `?format=png` a picture, `?format=raw` the text alone."""
        login = self._of_path(request)
        if login.code is None:
            raise HTTPException(404, f"the session shows no code: it is {login.state}")
        wanted = request.query_params.get("format", "json")
        if wanted == "raw":
            return Response(login.code, media_type="text/plain")
        from sessions.worker.codes import data_url, png  # what draws is not here where no session has a code

        if wanted == "png":
            return Response(png(login.code), media_type="image/png", headers={"Cache-Control": "no-store"})
        answer = {"success": True, "session_id": login.session, "code": login.code}
        return JSONResponse({**answer, "qr_code": data_url(login.code)})

    async def pair(self, request: Request) -> Response:
        found = PHONE.fullmatch(text(await json_object(request), "phone_number"))
        if found is None:
            raise HTTPException(400, "phone_number has 5 to 20 digits, with the code of its country")
        login = self._of_path(request)
        return JSONResponse(
            {"success": True, "session_id": login.session, "code": await done(login.pairing_code(found[1]))}
        )

    async def last_activity(self, request: Request) -> Response:
        login = self._of_path(request)
        data = {"session_id": login.session, "last_activity": moment(login.last_activity)}
        return JSONResponse({"success": True, "data": data})

    # --- health

    async def health(self, request: Request) -> Response:
        logins = self._worker.logins()
        connected = sum(login.state == "connected" for login in logins)
        sessions = {"total": len(logins), "connected": connected, "disconnected": len(logins) - connected}
        uptime = round(time.monotonic() - self._began, 3)
        about = {"status": "healthy", "worker": self._worker.name, "uptime": uptime}
        return JSONResponse({**about, "sessions": sessions, "events": self._worker.sender.counted()})

    async def ready(self, request: Request) -> Response:
        return JSONResponse({"ready": True, "alive": True})

    # --- whose it is

    def _of_path(self, request: Request) -> Login:
        return owned(self._worker, request, request.path_params["session"])


def _status(login: Login) -> dict[str, Any]:
    return {
        "session_id": login.session,
        "status": login.state,
        "phone_number": login.phone,
        "workspace_id": login.workspace,
        "connected_at": moment(login.connected_at),
        "last_activity": moment(login.last_activity),
    }
