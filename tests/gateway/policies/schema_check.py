"""What JSON Schema says of a policies file."""

from __future__ import annotations

import yaml
from jsonschema import Draft202012Validator

from gateway.policies.schema import json_schema

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


class Loader(yaml.SafeLoader):
    """As editors read it (YAML 1.2): a date is text, and so are on, off, yes and no."""


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regex)
        for tag, regex in resolvers
        if tag != "tag:yaml.org,2002:timestamp" and (tag != "tag:yaml.org,2002:bool" or first in "tTfF")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def problems_by_schema(text: str) -> list[str]:
    """The places of its mistakes."""
    document = yaml.load(text, Loader)
    return [error.json_path for error in VALIDATOR.iter_errors(document)]
