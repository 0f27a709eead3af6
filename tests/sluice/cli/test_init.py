"""A policies file from a few answers."""

from __future__ import annotations

import os
import pty
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from gateway.plan import Planner
from gateway.policies import Route, ToUpstream, ToWorkers, load
from sluice.config import Listen
from sluice.config.listening import at
from tests.sluice.cli.command import ROOT, Ran, command, environment, sluice

GIVEN = (
    *("--yes", "--listen", "0.0.0.0:8443", "--laravel", "https://app.example.org:8000"),
    *("--laravel-from", "192.0.2.1,2001:db8::/64", "--workers", "http://10.0.0.7:3001,http://w2:3001"),
    *("--workers-from", "10.0.0.0/24", "--secret-env", "HMAC", "--token-env", "TOKEN"),
)


def init(folder: Path, *arguments: str) -> Ran:
    return sluice("init", *arguments, folder=folder, secrets={})


def test_the_defaults_are_the_file_of_the_project(tmp_path: Path) -> None:
    ran = init(tmp_path, "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "policies.yaml is written; read what it says, and then:",
        "  export WHATSAPP_HMAC_SECRET=...",
        "  export SLUICE_CONSOLE_TOKEN=...",
        "  sluice check",
        "  sluice up",
    ]
    assert (tmp_path / "policies.yaml").read_text() == (ROOT / "policies.yaml").read_text()
    checked = sluice("check", folder=tmp_path)
    assert (checked.code, checked.err, "warning" in checked.out) == (0, "", False)


def test_what_is_given_stands_in_the_file(tmp_path: Path) -> None:
    ran = init(tmp_path, "mine.yaml", *GIVEN)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1:] == [
        "  export HMAC=...",
        "  export TOKEN=...",
        "  sluice check mine.yaml",
        "  sluice up --policies mine.yaml",
    ]
    policies = load(tmp_path / "mine.yaml", environment={"HMAC": "s", "TOKEN": "t"})
    assert policies.listen == (at(Listen("0.0.0.0", 8443)),)
    assert (
        policies.upstreams["laravel"].url == policies.relay.endpoints["laravel"].url == "https://app.example.org:8000"
    )
    lists = {name: [entry.network for entry in it.entries] for name, it in policies.trust.lists.items()}
    assert lists["laravel"] == [ip_network("192.0.2.1"), ip_network("2001:db8::/64")]
    assert lists["workers"] == [ip_network("10.0.0.0/24")]
    assert [(worker.name, worker.url, worker.prefix) for worker in policies.sessions.workers] == [
        ("w1", "http://10.0.0.7:3001", "/w/w1"),
        ("w2", "http://w2:3001", "/w/w2"),
    ]
    assert policies.signatures["workers"].secret.reveal() == policies.signatures["laravel"].secret.reveal() == b"s"
    assert policies.console.token is not None
    assert policies.console.token.reveal() == b"t"
    advice = [warning for warning in policies.warnings if warning.startswith("sessions: no advertise")]
    assert len(advice) == 1, "0.0.0.0 is no address that Laravel can call"


def test_workers_send_laravel_to_the_address_on_which_sluice_listens(tmp_path: Path) -> None:
    init(tmp_path, "--yes", "--listen", "10.0.0.1:8443", "--workers", "http://10.0.0.7:3001")
    policies = load(tmp_path / "policies.yaml", need_secrets=False)
    assert policies.sessions.advertise == "http://10.0.0.1:8443"
    assert not any(warning.startswith("sessions") for warning in policies.warnings)


def test_without_workers_nothing_is_advertised(tmp_path: Path) -> None:
    init(tmp_path, "--yes")
    assert load(tmp_path / "policies.yaml", need_secrets=False).sessions.advertise is None


def test_addresses_in_urls_are_those_that_call(tmp_path: Path) -> None:
    init(
        tmp_path, "--yes", "--laravel", "http://10.1.2.3:8000", "--workers", "http://10.0.0.7:1,http://[2001:db8::7]:1"
    )
    lists = load(tmp_path / "policies.yaml", need_secrets=False).trust.lists
    assert [entry.network for entry in lists["laravel"].entries] == [ip_network("10.1.2.3")]
    assert [entry.network for entry in lists["workers"].entries] == [ip_network("10.0.0.7"), ip_network("2001:db8::7")]


def test_what_check_refuses_is_not_written(tmp_path: Path) -> None:
    ran = init(tmp_path, "--yes", "--laravel", "http://192.0.2.1:8000")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sluice: with these answers the file would be wrong: policies.yaml:")
    assert ran.err.endswith(
        "relay.endpoints.laravel.url: 192.0.2.1 is no address of a receiver (documentation); "
        "write another, or private: allow beside it\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "link", "folder"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    file = tmp_path / "policies.yaml"
    {"file": file.touch, "link": lambda: file.symlink_to("nowhere"), "folder": file.mkdir}[there]()
    ran = init(tmp_path, "--yes")
    said = "policies.yaml is there already; name another file (sluice init FILE), or remove it"
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {said}\n")
    assert there != "file" or file.read_text() == ""


def test_without_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    ran = init(tmp_path)
    said = "standard input is no terminal to ask on; give --yes, and as options what differs from it"
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {said}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--laravel", "laravel", '"laravel" is not an http address; write http://127.0.0.1:8000'),
        (
            "--laravel",
            "http://u:p@x",
            "has a user or password in it; write it without; requests are signed, not logged in",
        ),
        ("--listen", "8080", '"8080" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080'),
        ("--workers", "http://a,b", '"b" is not an http address; write http://127.0.0.1:8000'),
        ("--workers-from", "w1", '"w1" is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32'),
        ("--secret-env", "a b", '"a b" is not the name of a variable; write WHATSAPP_HMAC_SECRET'),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_cure(tmp_path: Path, option: str, value: str, said: str) -> None:
    ran = init(tmp_path, "--yes", option, value)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[-1] == f"sluice init: error: argument {option}: {said}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    ran = init(tmp_path, "--yes", "nowhere/policies.yaml")
    said = "nowhere/policies.yaml cannot be written (no such file or directory); name another file: sluice init FILE"
    assert (ran.code, ran.out, ran.err) == (2, "", f"sluice: {said}\n")


def test_a_person_is_asked_and_asked_again(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("init"),
        cwd=tmp_path,
        env=environment({}),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        os.close(theirs)
        for answer in ("", "", "laravel", "http://laravel:8000", "192.0.2.1", "", "10.0.0.0/24", "", ""):
            os.write(ours, f"{answer}\n".encode())
        assert process.stdout is not None
        said = process.stdout.read().decode()
    os.close(ours)
    assert process.returncode == 0, said
    assert "where Sluice answers [127.0.0.1:8080]: " in said
    assert '  "laravel" is not an http address; write http://127.0.0.1:8000\n' in said
    policies = load(tmp_path / "policies.yaml", need_secrets=False)
    assert policies.upstreams["laravel"].url == "http://laravel:8000"
    assert [entry.network for entry in policies.trust.lists["laravel"].entries] == [ip_network("192.0.2.1")]
    assert [entry.network for entry in policies.trust.lists["workers"].entries] == [ip_network("10.0.0.0/24")]


def test_laravel_s_calls_to_the_workers_get_an_address_of_their_own(tmp_path: Path) -> None:
    given = ("--listen", "0.0.0.0:8443", "--workers-listen", "127.0.0.1:3000", "--workers", "http://10.0.0.7:3001")
    ran = init(tmp_path, "--yes", *given)
    assert (ran.code, ran.err) == (0, "")
    policies = load(tmp_path / "policies.yaml", need_secrets=False)
    assert [str(listener) for listener in policies.listen] == ["public 0.0.0.0:8443", "workers 127.0.0.1:3000"]
    to_workers = [route for route in policies.routes if isinstance(route.action, ToWorkers)]
    assert {route.on for route in to_workers} == {("workers",)}
    assert {route.on for route in policies.routes if route not in to_workers} == {("public",)}
    assert policies.sessions.advertise == "http://127.0.0.1:3000"
    assert not any("no key" in warning for warning in policies.warnings)
    planner = Planner(policies)
    assert isinstance(planner.rules_of("GET", b"/", "workers").route, Route)
    for path in (b"/", b"/health", b"/cleanup/stats", b"/remoteauth/health"):
        there, here = planner.rules_of("GET", path, "workers").route, planner.rules_of("GET", path, "public").route
        assert there is not None
        assert here is not None
        assert isinstance(there.action, ToWorkers)
        assert here.action == ToUpstream("laravel")


def test_without_it_strangers_reach_what_workers_do_without_a_key_and_check_says_so(tmp_path: Path) -> None:
    init(tmp_path, "--yes", "--listen", "0.0.0.0:8443")
    warned = [one for one in load(tmp_path / "policies.yaml", need_secrets=False).warnings if "no key" in one]
    assert len(warned) == 1
