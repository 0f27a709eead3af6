"""The store: the client, the protocol, the embedded server, and how durable a write is."""
