"""Certificates and keys that the policies name: whether they can be used, and for how long.

Not a part of `load`: a new file that is broken must not make the policies wrong, in which it is only named.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.policies.model import Policies
from sluice.config.problems import PolicyError, Problem
from sluice.http.server.certificates import Unusable, load


def refuse_broken_certificates(policies: Policies) -> None:
    """Raises PolicyError."""
    problems = list(_broken(policies))
    if problems:
        raise PolicyError(problems)


def _broken(policies: Policies) -> Iterator[Problem]:
    for key, listeners in (("listen", policies.listen), ("admin.listen", policies.admin.listen)):
        for listener in listeners:
            try:
                if listener.tls is not None:
                    load(listener.tls)
            except Unusable as error:
                message, _, cure = str(error).partition("; ")
                yield Problem(0, 0, f"{key}.{listener.name}", message, cure, str(policies.source))
