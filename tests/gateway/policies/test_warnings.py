"""What is allowed and still worth a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import load

LISTS = "trust:\n  lists: {office: [192.0.2.0/28, 192.0.2.64/28], guest: [198.51.100.7]}\n"
LIMIT = "  - {id: a, per: [session], rate: 5/second, burst: 5"
ROUTE = (
    "signatures: {hmac: {secret: env:S}}\nrelay: {endpoints: {laravel: {url: http://127.0.0.1:2}}}\n"
    "routes: [{path: /hooks/*, verify: hmac, session: {json: /s}, relay: laravel}]\n"
)
PER_IP = "limits:\n  - {id: a, per: [ip], rate: 5/second, burst: 5"
BY_WORKER = (
    "limits[0]: counts all sessions of a worker together on /hooks/*; "
    "put the workers' addresses into a list workers, and that into except"
)
NOT_ADVERTISED = (
    "sessions: no advertise, so Laravel stores the workers' own addresses and calls them past Sluice; "
    "write advertise: with this gateway's address, as Laravel reaches it"
)
EVERYBODY = "believes everybody's X-Forwarded-For, so each client chooses its own address; name your proxies only"

QUIET = "advertise: http://192.0.2.1, shields: {divide: false}"
LIST = "routes: [{path: /api/sessions, methods: [GET], workers: list}]\n"


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            "trust: {proxies: [0.0.0.0/0, '::/0', 10.0.0.0/8]}\n",
            [f"trust.proxies: 0.0.0.0/0 {EVERYBODY}", f"trust.proxies: ::/0 {EVERYBODY}"],
        ),
        (
            "trust: {lists: {all: [0.0.0.0/0]}, deny: [all, '::/0']}\n",
            [f"trust.{one} is everybody" for one in ("lists.all: 0.0.0.0/0", "deny: 0.0.0.0/0", "deny: ::/0")],
        ),
        (
            "signatures: {one: {secret: env:S}, two: {secret: env:S}}\nsessions:\n  verify: one\n  keys:\n"
            "    - {signature: one, ids: [w1]}\n    - {signature: two, ids: [w2]}\n",
            [
                "sessions.verify: speaks for every worker, also for those in sessions.keys; remove it, if that is not "
                "meant",
                "sessions.keys[1]: has the secret of sessions.keys[0], so each of them speaks for both; give it one of "
                "its own",
            ],
        ),
        (LISTS, ["trust.lists.guest: never used", "trust.lists.office: never used"]),
        (f"{LISTS}  deny: [guest]\nlimits:\n{LIMIT}, except: [office]}}\n", []),
        (
            f"{LISTS}  deny: [guest]\nlimits:\n{LIMIT}, except: [office, guest]}}\n",
            ["limits[0].except: trust.deny refuses all of list guest before any limit"],
        ),
        (
            f"{LISTS}  deny: [192.0.2.0/26, guest]\nlimits:\n{LIMIT}, except: [office]}}\n",
            ["limits[0].except: trust.deny refuses 192.0.2.0/28 of list office before any limit"],
        ),
        (
            f"{LISTS}  deny: [guest]\nlimits:\n{LIMIT}, except: [office], "
            "overrides: [{list: guest, unlimited: true}, {list: office, unlimited: true}]}\n",
            [
                "limits[0].overrides[0]: trust.deny refuses all of list guest before any limit",
                "limits[0].overrides[1]: never counts, because except leaves all of list office alone",
            ],
        ),
        (
            "limits:\n  - {id: a, per: [session], rate: 1000/minute}\n",
            ["limits[0]: no burst, so it is the amount of the rate: 1000 at once"],
        ),
        (
            "limits:\n  - {id: a, rate: 10/minute, burst: 5}\n",
            [
                "limits[0]: no per, so all requests share one bucket of 5; "
                "write per: [session] or per: [ip], or per: [] if that is meant"
            ],
        ),
        ("limits:\n  - {id: a, per: [], rate: 10/minute, burst: 5}\n", []),
        (f"{PER_IP}}}\n", []),
        (
            f"listen: localhost:1\n{PER_IP}}}\n",
            [
                "limits[0]: per: [ip], and on localhost every client has the address of this machine; "
                "if a proxy on this machine sends them, add it to trust.proxies"
            ],
        ),
        (f"listen: 127.0.0.1:1\ntrust: {{proxies: [127.0.0.1]}}\n{PER_IP}}}\n", []),
        (f"listen: 127.0.0.1:1\ntrust: {{lists: {{here: [127.0.0.0/8]}}}}\n{PER_IP}, except: [here]}}\n", []),
        (f"listen: 127.0.0.1:1\n{PER_IP}, mode: observe}}\n", []),
        (f"{ROUTE}{PER_IP}}}\n", [BY_WORKER]),
        (f"{ROUTE}trust: {{lists: {{workers: [192.0.2.1]}}}}\n{PER_IP}, except: [workers]}}\n", []),
        (f"listen: 127.0.0.1:1\n{ROUTE}trust: {{lists: {{here: [127.0.0.0/8]}}}}\n{PER_IP}, except: [here]}}\n", []),
        (f"{ROUTE}limits:\n{LIMIT.replace('[session]', '[ip, session]')}}}\n", []),
        (
            f"{ROUTE}sessions: {{workers: [{{url: http://192.0.2.7:3001}}], advertise: http://192.0.2.1}}\n"
            f"trust: {{lists: {{fleet: [192.0.2.0/24]}}}}\n{PER_IP}, except: [fleet]}}\n",
            [],
        ),
        (
            f"{ROUTE}sessions: {{workers: [{{url: http://192.0.2.7:3001}}, {{url: http://198.51.100.7:3001}}], "
            "advertise: http://192.0.2.1, shields: {divide: false}}\n"
            f"trust: {{lists: {{fleet: [192.0.2.0/24]}}}}\n{PER_IP}, except: [fleet]}}\n",
            [BY_WORKER],
        ),
        ("sessions: {workers: [{url: http://192.0.2.7:3001}]}\n", [NOT_ADVERTISED]),
        (
            "sessions: {advertise: http://192.0.2.1, workers: "
            "[{url: http://192.0.2.7:1, prefix: /w/w1}, {url: http://192.0.2.7:2}]}\n",
            [
                "sessions.workers[1]: no prefix, so 192.0.2.7:2 starts the sessions of all workers; "
                "write prefix: /w/w1, and the same at the end of its LARAVEL_URL"
            ],
        ),
        (
            f"sessions: {{{QUIET}, workers: [{{url: http://localhost:3001, key: env:S}}, {{url: http://127.0.0.1:3001}}]}}\n",
            [
                "sessions.workers[1]: http://127.0.0.1:3001 and sessions.workers[0] are one address; keep one of them: "
                "each of its sessions would be disputed"
            ],
        ),
        (
            f"sessions: {{{QUIET}, workers: [{{url: http://localhost:3001}}]}}\n{LIST}",
            [
                "routes[0]: no worker has a key, so anybody can list all sessions with their numbers; give the workers "
                "an API_KEY, and write key: beside their url"
            ],
        ),
        (f"sessions: {{{QUIET}, workers: [{{url: http://localhost:3001, key: env:S}}]}}\n{LIST}", []),
        (LIST, []),
        (
            "upstreams: {laravel: {url: http://127.0.0.1:8000}}\n"
            "routes:\n  - {path: /api/**, methods: [GET, HEAD], upstream: laravel}\n"
            "  - {path: '/api/sessions/{session}/**', workers: owner}\n",
            [
                "routes[1]: routes[0] (/api/**) takes GET, HEAD of /api/sessions/{session}/** before it, past the "
                "workers; put this one first, if that is not meant"
            ],
        ),
        (
            "sessions: {vault: {key: env:T}}\n",
            [
                "sessions.vault: no verify, nor sessions.verify, so /_sluice/vault is closed to workers; write verify: "
                "with the name of a signature"
            ],
        ),
        (
            "signatures: {hmac: {secret: env:S}}\n"
            "sessions: {vault: {key: env:T, verify: hmac, url: file:/srv/nowhere}}\n",
            [
                "sessions.vault.url: /srv/nowhere is not there, so nothing can be saved; mkdir -m 700 /srv/nowhere, or "
                "mount it"
            ],
        ),
        (
            "signatures: {hmac: {secret: env:S}}\nsessions: {verify: hmac, vault: {key: [env:T, env:S]}}\n",
            [
                "sessions.vault.key: is the secret of signatures.hmac, too, so who may sign can read what is stored; "
                "give the vault a key of its own: openssl rand -hex 32"
            ],
        ),
    ],
)
def test_check_warns_of(tmp_path: Path, text: str, warnings: list[str]) -> None:
    file = tmp_path / "policies.yaml"
    listen = "" if "listen" in text else "listen: 0.0.0.0:1\n"
    file.write_text(f"version: 1\n{listen}console: {{token: env:T}}\n{text}")
    assert list(load(file, environment={"T": "t" * 16, "S": "s" * 16}).warnings) == warnings


SHORT = "the secret has under 16 bytes and can be guessed; make one with openssl rand -hex 32"


def test_check_warns_of_secrets_that_can_be_guessed(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "version: 1\nlisten: 0.0.0.0:1\nconsole: {token: env:SHORT}\n"
        "signatures: {a: {secrets: [env:LONG, env:SHORT]}, b: {preset: key, secret: env:LONG}, "
        "c: {preset: standard, secret: env:WHSEC}}\n"
        "sessions: {verify: a, keys: [{signature: b, ids: [w1]}, {signature: c, ids: [w2]}], "
        f"{QUIET}, "
        "workers: [{url: http://192.0.2.7:1, key: env:SHORT}, {url: http://192.0.2.8:1, key: env:LONG}]}\n"
    )
    environment = {"SHORT": "x" * 15, "LONG": "x" * 16, "WHSEC": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    places = ("signatures.a", "sessions.workers[0].key", "console.token")
    short = [one for one in load(file, environment=environment).warnings if "guessed" in one]
    assert short == [f"{place}: {SHORT}" for place in places]
    assert [one for one in load(file, environment={}, need_secrets=False).warnings if "guessed" in one] == []


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ("sign: hmac", True),
        ("sign: hmac, forward: [X-Forwarded-For]", True),
        ("sign: hmac, forward: [x-instance-url]", False),
        ("sign: hmac, headers: {X-Instance-Url: http://192.0.2.1}", False),
        ("sign: other", False),
        ("forward: []", False),
    ],
)
def test_check_warns_of_a_laravel_that_is_not_told_the_worker(tmp_path: Path, endpoint: str, warned: bool) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        "version: 1\nlisten: 0.0.0.0:1\nconsole: {token: env:S}\n"
        "signatures: {hmac: {secret: env:S}, other: {preset: dotted, secret: env:S}}\n"
        f"relay: {{verify: other, endpoints: {{laravel: {{url: http://127.0.0.1:2, {endpoint}}}}}}}\n"
        "routes: [{path: /hooks/*, verify: hmac, session: {json: /s}, relay: laravel}]\n"
    )
    expected = (
        "relay.endpoints.laravel: is not told which worker a webhook comes from; "
        "write forward: [X-Instance-Url, X-Forwarded-For] if it is Laravel"
    )
    assert list(load(file, environment={"S": "s" * 16}).warnings) == ([expected] if warned else [])
