"""JSON Schema of policies.yaml, made from the declarations by which it is read."""

from __future__ import annotations

from gateway.policies.read import policies_from
from sluice.config import schema
from sluice.config.fields import Schema


def json_schema() -> Schema:
    """For editors. It knows keys and forms; what they mean beside each other only `sluice check` knows."""
    found = schema.of(lambda root: policies_from(root, ""))
    return {"$schema": schema.DIALECT, "title": "policies.yaml of Sluice", **found}
