"""The forms of `listen` and `on`, what is warned of, and which edits of them count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.explain import HypotheticalRequest, explain
from gateway.policies import Policies, load
from gateway.policies.certificates import refuse_broken_certificates
from gateway.policies.edits import changed, hold
from gateway.policies.warnings import warnings
from sluice.config import Listen, PolicyError
from sluice.config.listening import Listener, TlsFiles, UnixSocket, at
from sluice.process.addresses import Reached, reached
from tests.authority import certify
from tests.gateway.policies.schema_check import problems_by_schema

UPSTREAM = "upstreams: {laravel: {url: 'http://127.0.0.1:8000'}}\n"
NAMED = "listen: {public: '127.0.0.1:8080', workers: '127.0.0.1:3000'}\n"


def read(folder: Path, text: str) -> Policies:
    file = folder / "policies.yaml"
    file.write_text(f"version: 1\nconsole: {{token: env:T}}\n{text}\n")
    assert problems_by_schema(file.read_text()) == []
    return load(file, environment={"T": "t" * 16})


def forms(folder: Path) -> list[tuple[str, tuple[Listener, ...]]]:
    local = "{address: 'unix:/a', mode: 0600}"
    tls = TlsFiles(folder / "tls.crt", folder / "keys" / "tls.key")
    files = "cert: file:tls.crt, key: file:keys/tls.key"
    return [
        ("'[::1]:8080'", (at(Listen("::1", 8080)),)),
        ("unix:/run/edge.sock", (at(UnixSocket(Path("/run/edge.sock"))),)),
        ("'unix:///run/edge.sock'", (at(UnixSocket(Path("/run/edge.sock"))),)),
        ("[127.0.0.1:80, 'unix:edge.sock']", (at(Listen("127.0.0.1", 80)), at(UnixSocket(folder / "edge.sock")))),
        (f"{{address: '0.0.0.0:443', {files}}}", (Listener("0.0.0.0:443", Listen("0.0.0.0", 443), tls),)),
        (
            f"{{public: {{address: '0.0.0.0:443', {files}}}, local: {local}, w: '127.0.0.1:1'}}",
            (
                Listener("public", Listen("0.0.0.0", 443), tls),
                Listener("local", UnixSocket(Path("/a"), 0o600)),
                Listener("w", Listen("127.0.0.1", 1)),
            ),
        ),
        ("['0.0.0.0:80', '[::]:80', '0.0.0.0:81', '127.0.0.1:82']", tuple(
            at(Listen(host, port)) for host, port in (("0.0.0.0", 80), ("::", 80), ("0.0.0.0", 81), ("127.0.0.1", 82))
        )),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(7))
def test_one_address_a_list_or_entries_by_name(tmp_path: Path, number: int) -> None:
    text, found = forms(tmp_path)[number]
    assert read(tmp_path, f"listen: {text}").listen == found
    assert read(tmp_path, f"admin: {{listen: {text}}}").admin.listen == found


def test_a_route_is_on_one_listener_or_some(tmp_path: Path) -> None:
    routes = "routes: [{path: /a, upstream: laravel, on: public}, {path: /b, upstream: laravel, on: [public, workers]}]"
    policies = read(tmp_path, NAMED + UPSTREAM + routes)
    assert [route.on for route in policies.routes] == [("public",), ("public", "workers")]


def test_a_later_route_on_another_listener_is_not_hidden(tmp_path: Path) -> None:
    both = "routes: [{path: /**, upstream: laravel, on: public}, {path: /health, upstream: laravel, on: workers}]"
    read(tmp_path, NAMED + UPSTREAM + both)
    with pytest.raises(PolicyError, match=r"routes\[1\].path: never matches: routes\[0\] \(/\*\*\) takes its requests"):
        read(tmp_path, NAMED + UPSTREAM + both.replace(", on: public", ""))
    with pytest.raises(PolicyError, match=r"routes\[1\].path: never matches"):
        read(tmp_path, NAMED + UPSTREAM + both.replace("on: workers", "on: public"))


# --- warnings


KEYLESS = (
    "routes[1] (/cleanup/run), routes[2] (/remoteauth/**): workers ask for no key there, and not only this machine "
    "reaches {}; give Laravel's calls to the workers a listener of their own on 127.0.0.1, and write on: with its name"
)


@pytest.mark.parametrize(
    ("listen", "on", "warned"),
    [
        ("127.0.0.1:8080", "", None),
        ("'unix:/run/a'", "", None),
        ("0.0.0.0:8080", "", "0.0.0.0:8080"),
        ("{public: '0.0.0.0:80', workers: '127.0.0.1:3000'}", ", on: workers", None),
        ("{public: '0.0.0.0:80', workers: '10.0.0.1:3000'}", ", on: workers", "workers"),
        ("{public: '0.0.0.0:80', workers: '127.0.0.1:3000'}", "", "public"),
    ],
)
def test_what_workers_do_without_a_key_is_only_for_this_machine(
    tmp_path: Path, listen: str, on: str, warned: str | None
) -> None:
    routes = ("{path: /info, workers: any}", f"{{path: /cleanup/run, workers: any{on}}}")
    policies = read(
        tmp_path, f"listen: {listen}\nroutes: [{', '.join(routes)}, {{path: /remoteauth/**, workers: any{on}}}]"
    )
    found = [one for one in policies.warnings if "no key" in one]
    assert found == ([KEYLESS.format(warned)] if warned else [])


def test_a_catch_all_of_workers_takes_those_paths_too(tmp_path: Path) -> None:
    policies = read(tmp_path, "listen: 0.0.0.0:80\nroutes: [{path: /**, workers: any}]")
    assert [one.partition(":")[0] for one in policies.warnings] == ["routes[0] (/**)"]


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("admin: {allow: [192.0.2.1]}", "127.0.0.1:8080"),
        ("admin: {allow: [192.0.2.1], listen: '127.0.0.1:8081'}", "127.0.0.1:8081"),
        ("admin: {allow: [192.0.2.1, 127.0.0.1]}", None),
        ("admin: {allow: [192.0.2.1], listen: '192.0.2.1:8081'}", None),
    ],
)
def test_an_allow_list_without_this_machine_is_told(tmp_path: Path, text: str, warned: str | None) -> None:
    said = f"admin.allow: leaves out this machine, so sluice status gets 403 on {warned}; add 127.0.0.1"
    assert list(warnings(read(tmp_path, text), 0.0)) == ([said] if warned else [])


def test_a_list_that_only_admin_names_is_used(tmp_path: Path) -> None:
    policies = read(tmp_path, "trust: {lists: {office: [127.0.0.1]}}\nadmin: {allow: [office]}")
    assert policies.warnings == ()


def test_check_reads_certificates_and_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    text = "listen: {public: {address: '0.0.0.0:443', cert: file:tls.crt, key: file:tls.key}}"
    with pytest.raises(PolicyError) as caught:
        refuse_broken_certificates(read(tmp_path, text))
    assert str(caught.value) == (
        f"{tmp_path}/policies.yaml: listen.public: {tmp_path}/tls.crt cannot be read (no such file or directory); "
        "put it there"
    )
    certify(tmp_path)
    refuse_broken_certificates(read(tmp_path, text))


# --- edits


def test_addresses_count_from_the_next_start_on_and_the_rest_of_the_section_at_once(tmp_path: Path) -> None:
    before = read(tmp_path, "listen: 127.0.0.1:8080\nadmin: {listen: '127.0.0.1:8081', metrics: open}")
    after = read(
        tmp_path, "listen: [127.0.0.1:8080, 127.0.0.1:9090]\nadmin: {listen: '127.0.0.1:8082', metrics: token}"
    )
    running, needs_restart = hold(before, after)
    assert needs_restart == ("listen", "admin.listen")
    assert (running.listen, running.admin.listen) == (before.listen, before.admin.listen)
    assert running.admin.metrics == "token"
    assert changed(before, after) == ("admin.metrics",)


def test_a_route_on_a_listener_that_does_not_run_yet_is_refused_until_the_restart(tmp_path: Path) -> None:
    before = read(tmp_path, UPSTREAM + "routes: [{path: /**, upstream: laravel}]")
    after = read(tmp_path, NAMED + UPSTREAM + "routes: [{path: /**, upstream: laravel, on: public}]")
    with pytest.raises(PolicyError) as caught:
        hold(before, after)
    (problem,) = caught.value.problems
    assert (problem.key, problem.message, problem.hint) == (
        "routes[0].on", '"public" is new in listen', "it answers from the next start on: restart Sluice",
    )  # fmt: skip
    assert hold(after, after) == (after, ())


# --- where it is found


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("0.0.0.0:8080", Reached("http://127.0.0.1:8080")),
        ("'[::]:8080'", Reached("http://[::1]:8080")),
        ("['unix:/run/a', 10.0.0.1:80]", Reached("http://10.0.0.1:80")),
        ("'unix:/run/a'", Reached("http://localhost", Path("/run/a"))),
    ],
)
def test_commands_on_this_machine_find_it(tmp_path: Path, listen: str, found: Reached) -> None:
    assert reached(read(tmp_path, f"listen: {listen}").listen) == found


def test_tls_is_the_last_way(tmp_path: Path) -> None:
    secure = "{address: '0.0.0.0:443', cert: file:a.crt, key: file:a.key}"
    assert reached(read(tmp_path, f"listen: [{secure}, 'unix:/run/a']").listen).socket == Path("/run/a")
    assert reached(read(tmp_path, f"listen: [{secure}]").listen) == Reached(
        "https://127.0.0.1:443", None, tmp_path / "a.crt"
    )


# --- explained


@pytest.mark.parametrize(
    ("on", "listener", "route"), [("", "public", "/**"), ("public", "public", "/**"), ("workers", "workers", "/health")]
)
def test_explain_says_what_becomes_of_a_request_at_a_listener(
    tmp_path: Path, on: str, listener: str, route: str
) -> None:
    routes = "routes: [{path: /health, workers: health, on: workers}, {path: /**, upstream: laravel, on: public}]"
    policies = read(tmp_path, NAMED + UPSTREAM + routes)
    request: dict[str, Any] = {"method": "GET", "target": "/health", "peer": "127.0.0.1", "on": on}
    found = explain(policies, HypotheticalRequest(**request), 0.0)
    assert (found.on, found.route) == (listener, route)
