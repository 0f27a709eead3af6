"""What `sluice up` says of an edit of the policies file."""

from __future__ import annotations

import pytest

from sluice.cli.up import edited
from sluice.config import Problem
from sluice.config.live import Loaded, Outcome, Refused

FIRST = Problem(7, 3, "limits[0].rate", "is not a rate", "write 10/second", "/etc/sluice/policies.yaml")
OTHER = Problem(9, 3, "listen", "is not an address", "write 127.0.0.1:8080", "/etc/sluice/policies.yaml")
WRONG = (
    "policies.yaml is wrong and changes nothing: "
    "/etc/sluice/policies.yaml:7:3: limits[0].rate: is not a rate; write 10/second"
)


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        (Refused((FIRST,)), [WRONG]),
        (Refused((FIRST, OTHER)), [f"{WRONG}; and 1 more: sluice check"]),
        (
            Loaded("abc", ("limits.typing", "routes"), ()),
            ["policies.yaml is live, revision abc; changed: limits.typing, routes"],
        ),
        (Loaded("abc", (), ()), ["policies.yaml is live, revision abc; it says the same as before"]),
        (
            Loaded("abc", ("routes",), ("listen", "store.url")),
            [
                "policies.yaml is live, revision abc; changed: routes",
                "policies.yaml: listen, store.url: what was changed here counts from the next start on; restart Sluice",
            ],
        ),
        (
            Loaded("abc", (), ("listen",)),
            [
                "policies.yaml is live, revision abc; it says the same as before",
                "policies.yaml: listen: what was changed here counts from the next start on; restart Sluice",
            ],
        ),
    ],
)
def test_an_edit_is_told_in_words(outcome: Outcome, lines: list[str]) -> None:
    assert edited("policies.yaml", outcome) == lines
