"""The names that sections of the file give and other sections use."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from sluice.config.references import Defined, defined


@dataclass(frozen=True, slots=True)
class References:
    upstreams: Defined
    signatures: Defined
    lists: Defined
    endpoints: Defined


def references(root: yaml.Node) -> References:
    return References(
        upstreams=defined("upstream", root, "upstreams"),
        signatures=defined("signature", root, "signatures"),
        lists=defined("list", root, "trust", "lists"),
        endpoints=defined("endpoint", root, "relay", "endpoints"),
    )
