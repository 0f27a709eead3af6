"""What both sides of a proxied WebSocket have in common: how its frames are read, and how much may come.

`frames`  cuts what comes at the ends of frames      pure
`limits`  how much may come
`memory`  what messages take of all connections together
`intake`  hands frames on, fairly
`release` frees a connection that is over
"""

from sluice.http.websocket.frames import is_pong
from sluice.http.websocket.intake import Intake
from sluice.http.websocket.limits import Allowance, WebSocketLimits
from sluice.http.websocket.release import let_go

__all__ = ["Allowance", "Intake", "WebSocketLimits", "is_pong", "let_go"]
