"""`sluice alerts`: rules and what is wrong by them, a test of the receivers, silences."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from sluice.cli.options import command, seconds, subcommands, target_options
from sluice.cli.screen import print_json, screen, table
from sluice.cli.target import ask
from sluice.console.actions.alerts import (
    AlertList,
    AlertRule,
    ListAlerts,
    SilenceAlerts,
    Silenced,
    TestAlerts,
    UnsilenceAlerts,
)
from sluice.console.messages import age
from sluice.console.operations import LIST_ALERTS, SILENCE_ALERTS, TEST_ALERTS, UNSILENCE_ALERTS
from sluice.observe.printable import on_one_line


def add_options(parser: argparse.ArgumentParser) -> None:
    commands = subcommands(parser)
    listing = command(commands, "list", "rules, receivers, what is wrong by them, silences", _list)
    test = command(commands, "test", "send each receiver a message that is marked as a test", _test)
    test.add_argument("receiver", nargs="?", metavar="RECEIVER", help="only this one; heartbeat: only that")
    silence = command(commands, "silence", "tell nobody of this for a while", _silence)
    silence.add_argument("kind", metavar="KIND", help="as rules name it, such as circuit_open; '*': all")
    silence.add_argument("--for", dest="seconds", type=seconds, required=True, metavar="2h")
    silence.add_argument("--why", default="", metavar="TEXT", help="for whoever looks at it")
    unsilence = command(commands, "unsilence", "tell of it again", _unsilence)
    unsilence.add_argument("kind", metavar="KIND")
    for one in (silence, unsilence):
        one.add_argument(
            "--subject", default="*", metavar="NAME", help="an endpoint, upstream, limit, worker … or glob"
        )
    for one in (listing, test, silence, unsilence):
        target_options(one)


def _list(options: argparse.Namespace) -> None:
    found = ask(options, LIST_ALERTS, ListAlerts())
    if options.json:
        print_json(found)
        return
    out = screen()
    if not found.rules:
        out.print("there are no rules (alerts.rules in the policies)")
    _print_rules(found)
    for receiver in found.receivers:
        fails = f"; it fails: {receiver.why}" if receiver.failing_since is not None else ""
        out.print(f"receiver {receiver.receiver}: {receiver.way} {receiver.to}{fails}")
    for one in found.silences:
        why = f" ({one.why})" if one.why else ""
        out.print(f"silenced until {_moment(one.until)}: {one.kind} of {one.subject}{why}")
    for alert in found.alerts:
        silenced = ", silenced" if alert.silenced else ""
        notified = ", ".join(sorted(alert.notified)) or "nobody"
        out.print(f"{alert.state} since {_moment(alert.since)}{silenced}, told {notified}: {alert.text}")
    if found.rules and not found.alerts:
        out.print("nothing is wrong by these rules")


def _print_rules(found: AlertList) -> None:
    if found.rules:
        rows = table("rule", "over", "for", "repeat", "to", "only")
        for rule in found.rules:
            only = ", ".join(rule.only) or "-"
            never = f" (never fires: {rule.never})" if rule.never else ""
            rows.add_row(
                rule.id, _over(rule), age(rule.for_s), age(rule.repeat_s) if rule.repeat_s else "-",
                ", ".join(rule.to), only + never,
            )  # fmt: skip
        screen().print(rows)


def _over(rule: AlertRule) -> str:
    if rule.over is None:
        return "-"
    kind = rule.id.partition("#")[0]
    if kind == "backlog_age":
        return age(rule.over)
    return f"{rule.over:g}" if kind == "dead_letters" else f"{rule.over:.0%}"


def _test(options: argparse.Namespace) -> int:
    tested = ask(options, TEST_ALERTS, TestAlerts(options.receiver))
    if options.json:
        print_json(tested)
    else:
        for one in tested.receivers:
            sys.stdout.write(f"{one.receiver}: {'took it' if one.taken else 'FAILED'}: {on_one_line(one.said)}\n")
    return 0 if all(one.taken for one in tested.receivers) else 1


def _silence(options: argparse.Namespace) -> None:
    wanted = SilenceAlerts(options.kind, round(options.seconds), options.subject, options.why)
    made = ask(options, SILENCE_ALERTS, wanted)
    until = f"until {_moment(made.until)}" if made.until else ""
    undo = "sluice alerts unsilence " + made.kind
    _tell(options, made, f"{_what(made)}: nobody is told of it {until}; what is due then is told after; or: {undo}")


def _unsilence(options: argparse.Namespace) -> None:
    made = ask(options, UNSILENCE_ALERTS, UnsilenceAlerts(options.kind, options.subject))
    _tell(options, made, f"{_what(made)}: it is told again")


def _what(silenced: Silenced) -> str:
    return f"{silenced.kind} of {silenced.subject}" if silenced.subject != "*" else silenced.kind


def _tell(options: argparse.Namespace, made: Silenced, line: str) -> None:
    if options.json:
        print_json(made)
    else:
        sys.stdout.write(f"{on_one_line(line)}\n")


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
