"""`GET /api/sessions`, answered from the registry: as the named workers would, of all of them together.

Who has the key of a named worker is shown its sessions, and those of workers that ask for no key. `workspace_id` picks
those of one workspace; `limit` (1000 at most, and without it) and `after` go through them page by page: where there are
more, the answer has the `after` of the next page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.problems import Refusal, Send, answer_json
from gateway.request import Head
from gateway.workers.keys import Keys, answer_invalid, given_in
from gateway.workers.last_known import moment, word_of
from sessions.registry import Registry, SessionRow
from sluice.store.client import StoreAway, StoreRefused

_PAGE = 1000
_LOOKS = 20
"""Pages of the registry for one answer: of a filter that few sessions pass it may have fewer rows than asked for."""
_AFTER = re.compile(r"[!-~]{0,256}")


class Listing:
    def __init__(self, registry: Registry, keys: Keys) -> None:
        self._registry = registry
        self.keys = keys

    async def answer(self, head: Head, send: Send) -> int:
        """Its status. Raises Refusal."""
        given = given_in(head)
        if not self.keys.accept(given):
            return await answer_invalid(send)
        query = _query(head)
        rows, after = await self._rows(_limit(query), _after(query), query.get("workspace_id"), given)
        shown = [_shown(row) for row in rows]
        more = {"after": after} if after else {}
        await answer_json(send, 200, {"success": True, "sessions": shown, "total": len(shown), **more})
        return 200

    async def _rows(
        self, limit: int, after: str, workspace: str | None, given: bytes | None
    ) -> tuple[list[SessionRow], str]:
        hidden, found = self.keys.closed_to(given), dict[str, SessionRow]()
        try:
            for _ in range(_LOOKS):
                page = await self._registry.page(after, limit - len(found), workspace)
                for row in page.rows:
                    if (row.worker or row.last_owner) not in hidden:
                        found[row.session] = row
                after = page.go_on
                if not after or len(found) >= limit:
                    break
        except (StoreAway, StoreRefused):
            raise Refusal(503, "the registry cannot be read right now", retry_after=b"1") from None
        return sorted(found.values(), key=lambda row: row.session), after


def _query(head: Head) -> Mapping[str, str]:
    try:
        return dict(parse_qsl(head.target.partition(b"?")[2].decode(), max_num_fields=100))
    except ValueError:
        raise Refusal(400, "the query cannot be read") from None


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_PAGE))
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _PAGE:
        raise Refusal(400, f"limit: must be 1 to {_PAGE}")
    return int(text)


def _after(query: Mapping[str, str]) -> str:
    text = query.get("after", "")
    if not _AFTER.fullmatch(text):
        raise Refusal(400, "after: must be what the page before has under after")
    return text


def _shown(row: SessionRow) -> dict[str, Any]:
    connected = row.state == "connected"
    return {
        "session_id": row.session,
        "workspace_id": row.about.get("workspace_id", row.workspace),
        "status": word_of(row),
        "phone_number": row.phone,
        "connected_at": moment(row.since) if connected else None,
        "worker": row.worker,
    }
