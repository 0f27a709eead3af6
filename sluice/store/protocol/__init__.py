"""The connection to the store: RESP2 on asyncio, many callers on one socket.

`Wire` is one socket from its opening to its loss, `Link` the way to one server (a new wire when the last one was lost),
`Routes` the ways to all servers of a store: one, the master that sentinels name, or a cluster.
"""
