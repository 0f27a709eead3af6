"""Upstreams: their circuits, their connections, and WebSockets to them."""
