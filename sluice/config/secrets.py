"""Secrets are named in the file, never written in it. No message here shows a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sluice.config.model import Secret
from sluice.config.problems import Malformed

CURE = "write env:NAME or file:PATH"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unresolved(Malformed):
    """Named rightly, but it is not there."""


def secret(text: str, environment: Mapping[str, str], folder: Path) -> Secret:
    """`env:NAME`, or `file:PATH` relative to `folder`. Raises Malformed, or Unresolved."""
    kind, _, name = text.partition(":")
    if kind == "env" and VARIABLE.fullmatch(name):
        return Secret(_from_environment(name, environment))
    if kind == "file" and name:
        return Secret(_from_file(folder / name))
    if kind in ("env", "file"):
        raise Malformed(f"names no {'variable' if kind == 'env' else 'file'} after {kind}:", CURE)
    raise Malformed("a secret must not stand in this file", CURE)


def _from_environment(name: str, environment: Mapping[str, str]) -> bytes:
    value = environment.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        raise Unresolved(f"the environment variable {name} is {state}", f"export {name}=…")
    return value.encode("utf-8", "surrogateescape")


def _from_file(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unresolved(f"the file {path} cannot be read ({reason.lower()})", "put the secret there") from None
    # Editors and `echo` end a file with a line break that is no part of the secret.
    value = content[:-1].removesuffix(b"\r") if content.endswith(b"\n") else content
    if not value:
        raise Unresolved(f"the file {path} is empty", "put the secret there")
    return value
