"""`sluice check`: is this policies file valid, and what does it say."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from gateway.policies import Policies, load
from gateway.policies.certificates import refuse_broken_certificates
from sessions.profiles.policies import VaultPolicy
from sluice.cli.options import POLICIES, json_option
from sluice.config import PolicyError
from sluice.observe.printable import printable_json


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", default=POLICIES, metavar="FILE", help="default: policies.yaml")
    json_option(parser)
    parser.add_argument("--no-secrets", action="store_true", help="where they are not at hand, as in CI: do not look")
    parser.set_defaults(run=lambda it: run(it.file, as_json=it.json, need_secrets=not it.no_secrets))


def run(path: Path, *, as_json: bool, need_secrets: bool) -> int:
    """The exit code: 0 valid, 1 not."""
    try:
        policies = load(path, need_secrets=need_secrets)
        if need_secrets:
            refuse_broken_certificates(policies)
    except PolicyError as error:
        _print_problems(error, as_json=as_json)
        return 1
    warnings = [*policies.warnings, *(_of_the_vault(policies) if need_secrets else ())]
    if as_json:
        about = {"valid": True, "problems": [], "warnings": warnings, "revision": policies.revision}
        sys.stdout.write(printable_json(orjson.dumps(about).decode()) + "\n")
        return 0
    sys.stdout.write(f"{path}: valid (revision {policies.revision})\n{_summary(policies)}")
    for warning in warnings:
        sys.stdout.write(f"  warning: {warning}\n")
    return 0


def _of_the_vault(policies: Policies) -> Sequence[str]:
    """What only the store knows."""
    if policies.sessions.vault is None:
        return ()
    from sluice.cli import vault_fit

    return asyncio.run(vault_fit.warnings(policies))


def _print_problems(error: PolicyError, *, as_json: bool) -> None:
    if as_json:
        problems = [
            {"line": p.line, "column": p.column, "key": p.key, "message": p.message, "hint": p.hint}
            for p in error.problems
        ]
        about = {"valid": False, "problems": problems, "warnings": []}
        sys.stdout.write(printable_json(orjson.dumps(about).decode()) + "\n")
    else:
        sys.stderr.write(f"{error}\n")


def _summary(policies: Policies) -> str:
    rows = [
        ("listens on", ", ".join(map(str, policies.listen))),
        *([("admin on", ", ".join(map(str, policies.admin.listen)))] if policies.admin.listen else []),
        ("store", f"{policies.store.url.rpartition('@')[2]}, a 202 buys `{policies.store.promise}`"),
        ("routes", str(len(policies.routes))),
        ("limits", ", ".join(limit.id for limit in policies.limits) or "none"),
        *([("vault", _vault(policies.sessions.vault))] if policies.sessions.vault else []),
        ("endpoints", ", ".join(f"{e.name} ({e.url})" for e in policies.relay.receivers.values()) or "none"),
    ]
    return "".join(f"  {name:<11} {value}\n" for name, value in rows)


def _vault(vault: VaultPolicy) -> str:
    return f"{vault.place}, {vault.generations} generations, saved every {vault.every:g}s at least"
