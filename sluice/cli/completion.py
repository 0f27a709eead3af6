"""`sluice completion SHELL`: what Tab completes, made from the table of the commands and their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Option:
    flags: tuple[str, ...]
    about: str
    takes: bool
    """A value follows."""
    choices: tuple[str, ...]
    file: bool


@dataclass(frozen=True, slots=True)
class Command:
    path: str
    """`dead replay`; empty: `sluice` itself."""
    about: str
    commands: tuple[tuple[str, str], ...]
    """Names and help of what may follow."""
    options: tuple[Option, ...]
    choices: tuple[str, ...]
    """Of its arguments."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=list(SCRIPTS))
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from sluice.cli.main import whole_parser

    sys.stdout.write(SCRIPTS[options.shell](list(commands_of(whole_parser()))))


def commands_of(parser: argparse.ArgumentParser, path: str = "", about: str = "") -> Iterator[Command]:
    """The command, and all below it."""
    below: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    options, choices = list[Option](), list[str]()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            helps = {one.dest: one.help or "" for one in action._choices_actions}
        elif action.option_strings:
            if action.help != argparse.SUPPRESS:
                options.append(_option(action))
        else:
            choices += map(str, action.choices or ())
    yield Command(path, about, tuple(helps.items()), tuple(options), tuple(choices))
    for name, inner in below.items():
        yield from commands_of(inner, f"{path} {name}".strip(), helps.get(name, ""))


def _option(action: argparse.Action) -> Option:
    return Option(
        tuple(action.option_strings),
        (action.help or "").replace("%%", "%"),
        action.nargs != 0,
        tuple(map(str, action.choices or ())),
        action.type is Path,
    )


def _bash(commands: Sequence[Command]) -> str:
    values = []
    for one in commands:
        for option in (it for it in one.options if it.takes):
            pattern = "|".join(_quoted(f"{one.path}:{flag}") for flag in option.flags)
            done = (
                f'COMPREPLY=($(compgen -W {_quoted(" ".join(option.choices))} -- "$word")); ' if option.choices else ""
            )
            values.append(f"    {pattern}) {done}return ;;")
    offered = [f"    {_quoted(one.path)}) words={_quoted(' '.join(_offered(one)))} ;;" for one in commands]
    return "\n".join(
        (
            "# Completion of sluice for bash: source <(sluice completion bash)",
            "_sluice() {",
            '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} path="" words="" i',
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            *_following(commands, '"$path ${COMP_WORDS[i]}"', 'path="${path:+$path }${COMP_WORDS[i]}"'),
            "  done",
            "  COMPREPLY=()",
            '  case "$path:$before" in',
            *values,
            "  esac",
            '  case "$path" in',
            *offered,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            "complete -o bashdefault -o default -F _sluice sluice",
            "",
        )
    )


def _zsh(commands: Sequence[Command]) -> str:
    values, described = [], []
    for one in commands:
        for option in (it for it in one.options if it.takes):
            pattern = "|".join(_quoted(f"{one.path}:{flag}") for flag in option.flags)
            done = f"compadd -- {' '.join(option.choices)}" if option.choices else "_files"
            values.append(f"    {pattern}) {done}; return ;;")
        pairs = [*one.commands, *((choice, "") for choice in one.choices)]
        pairs += [(flag, option.about) for option in one.options for flag in option.flags]
        texts = " ".join(_quoted(f"{name}:{about}" if about else name) for name, about in pairs)
        described.append(f"    {_quoted(one.path)}) described=({texts}) ;;")
    return "\n".join(
        (
            "#compdef sluice",
            "# Completion of sluice for zsh: source <(sluice completion zsh), after compinit",
            "_sluice() {",
            '  local before=${words[CURRENT-1]} path_="" i',
            "  local -a described",
            "  for ((i = 2; i < CURRENT; i++)); do",
            *_following(commands, '"$path_ ${words[i]}"', 'path_="${path_:+$path_ }${words[i]}"'),
            "  done",
            '  case "$path_:$before" in',
            *values,
            "  esac",
            '  case "$path_" in',
            *described,
            "  esac",
            "  _describe 'sluice' described || _files",
            "}",
            "compdef _sluice sluice",
            "",
        )
    )


def _fish(commands: Sequence[Command]) -> str:
    lines = [
        "# Completion of sluice for fish: sluice completion fish | source",
        "function __sluice_is",
        "  set -l said (commandline -opc)",
        "  set -l last (math 1 + (count $argv))",
        '  test "$said[2..$last]" = "$argv"',
        "end",
        "complete -c sluice -f",
    ]
    for one in commands:
        below = " ".join(name for name, _ in one.commands)
        seen = [f"__sluice_is {one.path}"] if one.path else []
        ends = [f"not __fish_seen_subcommand_from {below}"] if below else []
        when = "; and ".join(seen + ends) or "true"
        for name, about in (*one.commands, *((choice, "") for choice in one.choices)):
            lines.append(f"complete -c sluice -n {_quoted(when)} -a {name} -d {_quoted(about)}")
        for option in one.options:
            flags = " ".join(f"-l {it[2:]}" if it.startswith("--") else f"-s {it[1:]}" for it in option.flags)
            takes = f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -r" if option.takes else ""
            if option.file:
                takes += " -F"
            lines.append(f"complete -c sluice -n {_quoted(when)} {flags}{takes} -d {_quoted(option.about)}")
    return "\n".join((*lines, ""))


SCRIPTS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def _offered(command: Command) -> list[str]:
    names = [name for name, _ in command.commands]
    return [*names, *command.choices, *(flag for option in command.options for flag in option.flags)]


def _following(commands: Sequence[Command], path: str, goes_on: str) -> Iterator[str]:
    """How the path grows by a word that is a command there."""
    known = "|".join(
        _quoted(f"{before} {last}") for before, _, last in (it.path.rpartition(" ") for it in commands) if last
    )
    yield f"    case {path} in"
    yield f"      {known}) {goes_on} ;;"
    yield "    esac"


def _quoted(text: str) -> str:
    """In single quotes, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"
