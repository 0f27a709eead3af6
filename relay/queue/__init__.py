"""The durable queue of an endpoint. Only this package knows the keys and the records in the store."""
