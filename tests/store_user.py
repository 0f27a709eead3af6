"""The users that docs/store.md describes."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "store.md").read_text()


def rights(*where: str) -> list[str]:
    """For those rows of the table, or else for every store."""
    said = PAGE.partition("\n## The least rights\n")[2]
    if where:
        rows = dict(re.findall(r"^\| (.+?) \| `(ACL SETUSER sluice .+)` \|$", said, re.MULTILINE))
        commands = [rows[row].replace("\\|", "|") for row in where]
    else:
        commands = said.partition("```\n")[2].partition("\n```")[0].splitlines()
    words = [word for command in commands for word in command.removeprefix("ACL SETUSER sluice ").split()]
    return [word for word in words if word not in ("reset", "on", ">PASSWORD")]


def backup_rights() -> list[str]:
    """Of the user who only makes backups."""
    lines = re.findall(r"^ACL SETUSER backup (.+)$", PAGE, re.MULTILINE)
    return [word for line in lines for word in line.split() if word not in ("reset", "on", ">PASSWORD")]


CLUSTER, MASTER, REPLICA = "a cluster", "a master that sentinels name", "`promise: replica`"
DATABASE, NAME, SENTINELS = (
    "a URL that names a database other than 0",
    "a URL with `client_name=`",
    "the sentinels (`sentinel_username`)",
)
BACKUP, RESTORE = "`sluice backup` as the same user", "`sluice restore`"
