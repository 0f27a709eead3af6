"""One small file per mistake in `bad/`, and the exact words a person gets for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.policies import PolicyError, load

BAD = Path(__file__).parent / "bad"
ENVIRONMENT = {"HMAC": "secret", "EMPTY": ""}

EXPECTED: dict[str, list[str]] = {
    "empty": [
        "1:1: the file is empty; begin with version: 1",
    ],
    "only_comments": [
        "1:1: the file is empty; begin with version: 1",
    ],
    "only_dashes": [
        "2:1: the file is empty; begin with version: 1",
    ],
    "list_at_the_root": [
        "1:1: the file is not a mapping; begin with version: 1",
    ],
    "text_at_the_root": [
        "1:1: the file is not a mapping; begin with version: 1",
    ],
    "two_documents": [
        "3:1: a second document begins here; keep one and remove the ---",
    ],
    "syntax_unclosed": [
        (
            "2:29: not YAML: expected ',' or ']', but got '}'; check the indentation, and quote a value that "
            "holds { } [ ] # or a colon"
        ),
    ],
    "syntax_braces_unquoted": [
        (
            "4:17: not YAML: expected ',' or '}', but got '{'; check the indentation, and quote a value that "
            "holds { } [ ] # or a colon"
        ),
    ],
    "syntax_colon": [
        (
            "2:8: not YAML: mapping values are not allowed here; check the indentation, and quote a value that "
            "holds { } [ ] # or a colon"
        ),
    ],
    "syntax_tab": [
        "3:1: not YAML: found character '\\t' that cannot start any token; indent with spaces",
    ],
    "undefined_alias": [
        (
            "2:8: not YAML: found undefined alias 'gone'; check the indentation, and quote a value that holds {"
            " } [ ] # or a colon"
        ),
    ],
    "not_utf8": [
        "2:10: this byte is not UTF-8; save the file as UTF-8",
    ],
    "control_character": [
        "2:8: a character that YAML does not allow; remove it",
    ],
    "too_deep": [
        "1:1: nested too deeply; write fewer brackets",
    ],
    "duplicate_key": [
        '3:1: listen: "listen" is already on line 2; keep one',
    ],
    "duplicate_key_deep": [
        '5:5: trust.lists.office: "office" is already on line 4; keep one',
    ],
    "duplicate_key_in_a_list": [
        '3:29: limits[0].id: "id" is already on line 3; keep one',
    ],
    "list_as_a_key": [
        "2:1: a list or a mapping cannot be a key; quote it if it is text",
    ],
    "version_missing": [
        "1:1: version: is missing; write version: 1 at the top",
    ],
    "version_two": [
        '1:10: version: "2" is not a version that is known here; write version: 1',
    ],
    "version_text": [
        '1:10: version: "1" is not a version that is known here; write version: 1',
    ],
    "version_true": [
        '1:10: version: "true" is not a version that is known here; write version: 1',
    ],
    "unknown_key": [
        "2:1: limts: unknown key; did you mean limits",
    ],
    "unknown_key_far_off": [
        (
            "2:1: quux: unknown key; known here: version, listen, data, store, trust, upstreams, signatures, "
            "routes, limits, relay, sessions, console"
        ),
    ],
    "unknown_key_in_store": [
        "2:9: store.promis: unknown key; did you mean promise",
    ],
    "unknown_key_in_route": [
        "6:5: routes[0].boddy: unknown key; did you mean body",
    ],
    "unknown_key_in_limit": [
        "3:29: limits[0].brust: unknown key; did you mean burst",
    ],
    "unknown_key_in_circuit": [
        "6:17: relay.endpoints.laravel.circuit.windw: unknown key; did you mean window",
    ],
    "unknown_key_in_session": [
        "4:27: routes[0].session.jsn: unknown key; did you mean json",
    ],
    "unknown_key_merge": [
        "3:12: sessions.<<: unknown key; known here: lease, per_worker, workers, verify",
    ],
    "key_of_two_kinds": [
        "4:24: routes[0].event: must say one place to look; write {json: /event} or {header: X-Event-Type}",
        "4:56: routes[0].event.cookie: unknown key; known here: json, header",
    ],
    "list_for_mapping": [
        "2:8: store: is a list, not a mapping; write {key: value}",
    ],
    "mapping_for_list": [
        "2:9: routes: is a mapping, not a list; write [a, b]",
    ],
    "text_for_list": [
        "2:18: trust.proxies: is a single value, not a list; write [a, b]",
    ],
    "list_for_value": [
        "2:9: listen: is a list, not a single value; write one value",
    ],
    "mapping_for_value": [
        "2:7: data: is a mapping, not a single value; write one value",
    ],
    "nothing_for_mapping": [
        "2:7: trust: is empty; give it a value or remove it",
    ],
    "nothing_for_value": [
        "2:6: data: is empty; give it a value or remove it",
    ],
    "text_for_limit": [
        "2:10: limits[0]: is a single value, not a mapping; write {key: value}",
    ],
    "text_for_named": [
        "2:22: upstreams.laravel: is a single value, not a mapping; write {key: value}",
    ],
    "true_for_number": [
        '2:24: sessions.per_worker: "true" is not a whole number; write digits, without quotes',
    ],
    "quoted_number": [
        '2:24: sessions.per_worker: "25" is not a whole number; write digits, without quotes',
    ],
    "octal_number": [
        '2:24: sessions.per_worker: "010" is not a whole number; write digits, without quotes',
    ],
    "fraction_for_number": [
        '2:24: sessions.per_worker: "2.5" is not a whole number; write digits, without quotes',
    ],
    "number_zero": [
        "2:41: limits[0].burst: 0 is too small; write 1 or more",
    ],
    "number_negative": [
        '2:24: sessions.per_worker: "-1" is not a whole number; write digits, without quotes',
    ],
    "duration_without_unit": [
        '2:18: store.timeout: "250" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "duration_wrong_unit": [
        '2:19: sessions.lease: "15sec" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "duration_zero": [
        '2:17: relay.dedupe: "0s" is no time at all; write 1ms or more',
    ],
    "lease_too_short": [
        '2:19: sessions.lease: "500ms" is too short; write 1s or more',
    ],
    "size_wrong_unit": [
        '2:26: relay.backlog.bytes: "1GB" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
    ],
    "size_zero": [
        '2:26: relay.backlog.bytes: "0MiB" is no size at all; write 1B or more',
    ],
    "rate_wrong_unit": [
        '4:11: limits[0].rate: "10/minuet" is not a rate; write 1000/minute or 5/10 seconds',
    ],
    "rate_number": [
        '2:24: limits[0].rate: "10" is not a rate; write 1000/minute or 5/10 seconds',
    ],
    "rate_zero": [
        '2:24: limits[0].rate: "0/second" lets nothing through; write 1/minute or more',
    ],
    "rate_two": [
        (
            '2:24: limits[0].rate: "1/second;10/minute" is more than one rate; write one, and a second limit '
            "for the other"
        ),
    ],
    "rate_no_period": [
        '2:24: limits[0].rate: "5/0 seconds" is not a rate; write 1000/minute or 5/10 seconds',
    ],
    "listen_without_port": [
        '2:9: listen: "8080" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080',
    ],
    "listen_port_too_big": [
        '2:9: listen: "127.0.0.1:80800" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080',
    ],
    "listen_bare_ipv6": [
        '2:9: listen: "::1:8080" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080',
    ],
    "network_host_bits": [
        (
            '3:13: trust.proxies[0]: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network, or '
            "10.0.0.1/32 for the address"
        ),
    ],
    "network_not_one": [
        (
            '2:26: trust.lists.office[0]: "office.example.org" is not a network; write 10.0.0.0/8, 192.0.2.7 or'
            " 2001:db8::/32"
        ),
    ],
    "network_host_bits_ipv6": [
        (
            '2:16: trust.deny[0]: "2001:db8::1/32" has host bits set; write 2001:db8::/32 for the network, or '
            "2001:db8::1/128 for the address"
        ),
    ],
    "deny_unknown_list": [
        '2:47: trust.deny[0]: no list is called "offise"; did you mean office',
    ],
    "host_with_scheme": [
        (
            '2:17: trust.hosts[0]: "http://gate.example.org" is not a host; write gate.example.org, without '
            "scheme and port"
        ),
    ],
    "list_name": [
        '2:17: trust.lists.The Office: "The Office" is not a name; write 1 to 32 of a-z 0-9 _ -',
    ],
    "secret_env_missing": [
        (
            "2:18: console.token: the environment variable SLUICE_CONSOLE_TOKEN is not set; export "
            "SLUICE_CONSOLE_TOKEN=…"
        ),
    ],
    "secret_env_empty": [
        "2:18: console.token: the environment variable EMPTY is empty; export EMPTY=…",
    ],
    "secret_env_unnamed": [
        "2:18: console.token: names no variable after env:; write env:NAME or file:PATH",
    ],
    "secret_file_missing": [
        (
            "2:18: console.token: the file /nowhere/token cannot be read (no such file or directory); put the "
            "secret there"
        ),
    ],
    "secret_file_empty": [
        "2:18: console.token: the file /dev/null is empty; put the secret there",
    ],
    "secret_file_is_a_folder": [
        "2:18: console.token: the file / cannot be read (is a directory); put the secret there",
    ],
    "secret_file_unnamed": [
        "2:18: console.token: names no file after file:; write env:NAME or file:PATH",
    ],
    "secret_literal": [
        "2:18: console.token: a secret must not stand in this file; write env:NAME or file:PATH",
    ],
    "secret_missing": [
        "2:23: signatures.laravel.secret: is missing; write secret: env:NAME or file:PATH",
    ],
    "secret_literal_of_worker": [
        "2:56: sessions.workers[0].key: a secret must not stand in this file; write env:NAME or file:PATH",
    ],
    "route_no_action": [
        "3:5: routes[0]: goes nowhere; add upstream, relay or workers",
    ],
    "route_two_actions": [
        "5:5: routes[0]: has upstream and relay; keep one of them",
    ],
    "route_without_path": [
        "3:10: routes[0].path: is missing; write path: /api/**",
    ],
    "route_path_relative": [
        '3:17: routes[0].path: "api/*" does not begin with /; write /api/sessions/{session}/**',
    ],
    "route_path_stars_inside": [
        ('3:17: routes[0].path: "/**/a" has ** in the middle; write * for one segment; ** is the rest of the path'),
    ],
    "route_path_part_star": [
        '3:17: routes[0].path: the segment "foo*" is not known; write a literal, *, {name} or a last **',
    ],
    "route_path_empty_segment": [
        ('3:17: routes[0].path: "//a" has an empty, . or .. segment; write it without; requests are normalised'),
    ],
    "route_path_twice_captured": [
        '3:17: routes[0].path: "/{a}/{a}" captures one name twice; give each segment its own name',
    ],
    "route_bad_method": [
        '3:32: routes[0].methods[0]: "get" is not a method; write GET',
    ],
    "route_methods_text": [
        "3:31: routes[0].methods: is a single value, not a list; write [a, b]",
    ],
    "route_unknown_upstream": [
        '3:32: routes[0].upstream: no upstream is called "larvel"; did you mean laravel',
    ],
    "route_unknown_endpoint": [
        '2:29: routes[0].relay: no endpoint is called "laravel"; define it under relay.endpoints',
    ],
    "route_unknown_signature": [
        '4:30: routes[0].verify: no signature is called "phones"; there are: workers',
    ],
    "route_workers_unknown": [
        '2:40: routes[0].workers: "ownr" is not known here; did you mean owner',
    ],
    "route_owner_without_session": [
        (
            "2:43: routes[0].workers: owner needs a session; write session: {json: /session_id}, or {session} "
            "in the path"
        ),
    ],
    "route_place_without_session": [
        (
            "2:41: routes[0].workers: place needs a session; write session: {json: /session_id}, or {session} "
            "in the path"
        ),
    ],
    "route_session_not_in_path": [
        "2:47: routes[0].session.path: the path has no {id}; write {id} for a segment of it",
    ],
    "route_session_text": [
        (
            '2:30: routes[0].session: "session_id" says not where to look; write {json: /session_id}, {header: '
            "X-Session-Id} or {path: session}"
        ),
    ],
    "route_session_empty": [
        (
            "2:30: routes[0].session: must say one place to look; write {json: /session_id}, {header: "
            "X-Session-Id} or {path: session}"
        ),
    ],
    "route_bad_pointer": [
        (
            '3:36: routes[0].event.json: "event" is not a JSON pointer; write /data/session_id; ~ is ~0 and / '
            "in a key ~1"
        ),
    ],
    "route_bad_pointer_escape": [
        ('3:36: routes[0].event.json: "/a~2" is not a JSON pointer; write /data/session_id; ~ is ~0 and / in a key ~1'),
    ],
    "route_bad_header": [
        '3:38: routes[0].event.header: "X Event" is not the name of a header; write X-Event-Type',
    ],
    "route_bad_event": [
        '3:29: routes[0].event: "message_*" is not an event type; write message_received',
    ],
    "route_bad_body": [
        '3:28: routes[0].body: "1MB" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
    ],
    "limit_duplicate_id": [
        '4:10: limits[1].id: "a" is the id of limits[0]; give each limit its own',
    ],
    "limit_bad_id": [
        '2:15: limits[0].id: "a b" is not an id; write 1 to 64 of A-Z a-z 0-9 _ . -',
    ],
    "limit_without_id_and_rate": [
        "2:10: limits[0].rate: is missing; write rate: 1000/minute",
        "2:10: limits[0].id: is missing; write id: a name that stays",
    ],
    "limit_bad_event": [
        (
            '2:42: limits[0].event[0]: "message received" is not an event type; write message_received, or '
            "session_* for many"
        ),
    ],
    "limit_bad_per": [
        '2:40: limits[0].per[0]: "sesion" is not known here; did you mean session',
    ],
    "limit_bad_over": [
        '2:40: limits[0].over: "block" is not known here; write queue, drop or reject',
    ],
    "limit_bad_mode": [
        '2:40: limits[0].mode: "enforce" is not known here; write observe',
    ],
    "limit_bad_store_away": [
        '2:51: limits[0].when_store_away: "localy" is not known here; did you mean local',
    ],
    "limit_unknown_list": [
        '2:43: limits[0].except[0]: no list is called "office"; define it under trust.lists',
    ],
    "endpoint_name": [
        '2:21: relay.endpoints.La Ravel: "La Ravel" is not a name; write 1 to 32 of a-z 0-9 _ -',
    ],
    "endpoint_without_url": [
        "2:30: relay.endpoints.laravel.url: is missing; write url: http://127.0.0.1:8000",
    ],
    "endpoint_unknown_signature": [
        '2:65: relay.endpoints.laravel.sign: no signature is called "laravel"; define it under signatures',
    ],
    "endpoint_bad_order": [
        '2:66: relay.endpoints.laravel.order: "sessions" is not known here; did you mean session',
    ],
    "ratio_out_of_range": [
        "2:76: relay.endpoints.laravel.circuit.ratio: 1.5 is out of range; write more than 0 and at most 1",
    ],
    "ratio_zero": [
        "2:76: relay.endpoints.laravel.circuit.ratio: 0 is out of range; write more than 0 and at most 1",
    ],
    "ratio_text": [
        '2:76: relay.endpoints.laravel.circuit.ratio: "half" is not a number; write 0.5',
    ],
    "circuit_cap_below_open": [
        ("2:75: relay.endpoints.laravel.circuit.open: cap (300s) is less than open (600s); raise cap or lower open"),
    ],
    "retry_cap_below_base": [
        "2:83: relay.endpoints.laravel.retry.cap: cap (5s) is less than base (10s); raise cap or lower base",
    ],
    "event_by_without_keep": [
        "2:34: relay.events.heartbeat.by: does nothing without keep: latest; add it or remove by",
    ],
    "event_keep_oldest": [
        '2:36: relay.events.heartbeat.keep: "oldest" is not known here; write latest',
    ],
    "event_glob_policy": [
        '2:18: relay.events.session_*: "session_*" is not an event type; write message_received',
    ],
    "lane_bad_event": [
        '2:24: relay.lanes.bulk[0]: "" is not an event type; write message_received, or session_* for many',
    ],
    "url_wrong_scheme": [
        '2:28: upstreams.laravel.url: "ftp://127.0.0.1" is not an http address; write http://127.0.0.1:8000',
    ],
    "url_without_scheme": [
        '2:28: upstreams.laravel.url: "127.0.0.1:8000" is not an http address; write http://127.0.0.1:8000',
    ],
    "url_with_query": [
        (
            '2:28: upstreams.laravel.url: "http://127.0.0.1:8000/?a=b" has a query or fragment; write scheme, '
            "host, port and path only"
        ),
    ],
    "url_with_password": [
        (
            "2:28: upstreams.laravel.url: has a user or password in it; write it without; requests are signed, "
            "not logged in"
        ),
    ],
    "url_bad_port": [
        ('2:28: upstreams.laravel.url: "http://127.0.0.1:99999" is not an http address; write http://127.0.0.1:8000'),
    ],
    "store_url": [
        (
            "2:14: store.url: is not an address of a store; write embedded, redis://127.0.0.1:6379/0, "
            "rediss://… or unix:///run/valkey.sock"
        ),
    ],
    "store_url_without_host": [
        "2:14: store.url: names no host; write redis://127.0.0.1:6379/0",
    ],
    "store_promise": [
        '2:18: store.promise: "seconds" is not known here; did you mean second',
    ],
    "sessions_unknown_signature": [
        '2:20: sessions.verify: no signature is called "workers"; define it under signatures',
    ],
    "signature_preset": [
        '2:26: signatures.a.preset: "blaz" is not known here; write blazz',
    ],
    "later_alerts": [
        "2:1: alerts: not in this version yet; remove it",
    ],
    "later_sessions": [
        "3:3: sessions.one_phone: not in this version yet; remove it",
        "4:3: sessions.cleanup: not in this version yet; remove it",
        "5:3: sessions.vault: not in this version yet; remove it",
        "6:3: sessions.browser: not in this version yet; remove it",
    ],
    "later_delivered": [
        "2:21: relay.retention.delivered: not in this version yet; remove it",
    ],
    "later_cost": [
        "2:34: limits[0].cost: not in this version yet; remove it",
    ],
    "later_per_workspace": [
        ('2:40: limits[0].per[0]: "workspace" is not in this version yet; remove it, or write session, ip or event'),
    ],
    "later_mode_enforce": [
        "2:40: limits[0].mode: a mode with settings is not in this version yet; remove it, or write observe",
    ],
    "later_list_notes": [
        (
            "4:14: trust.lists.office[0]: a network with note or until is not in this version yet; remove it, "
            "or write the network alone"
        ),
        (
            "5:11: trust.lists.home: a list with note or until is not in this version yet; remove it, or write "
            "[10.0.0.0/8]"
        ),
    ],
    "later_replica": [
        ('2:18: store.promise: "replica" is not in this version yet; remove it, or write memory, second or always'),
    ],
    "later_presets": [
        '3:15: signatures.a.preset: "body-sha256" is not in this version yet; remove it, or write blazz',
        '4:15: signatures.b.preset: "dotted" is not in this version yet; remove it, or write blazz',
        '5:15: signatures.c.preset: "waha" is not in this version yet; remove it, or write blazz',
        '6:15: signatures.d.preset: "standard" is not in this version yet; remove it, or write blazz',
        '7:15: signatures.e.preset: "key" is not in this version yet; remove it, or write blazz',
    ],
    "later_store_urls": [
        (
            "2:14: store.url: redis+sentinel:// is not in this version yet; remove it, or write embedded, "
            "redis://127.0.0.1:6379/0, rediss://… or unix:///run/valkey.sock"
        ),
    ],
    "later_store_cluster": [
        (
            "2:14: store.url: redis+cluster:// is not in this version yet; remove it, or write embedded, "
            "redis://127.0.0.1:6379/0, rediss://… or unix:///run/valkey.sock"
        ),
    ],
    "later_endpoint_keys": [
        "2:59: relay.endpoints.laravel.events: not in this version yet; remove it",
        "2:72: relay.endpoints.laravel.headers: not in this version yet; remove it",
        "2:89: relay.endpoints.laravel.batch: not in this version yet; remove it",
    ],
    "several": [
        '2:18: store.timeout: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '4:19: limits[0].rate: "often" is not a rate; write 1000/minute or 5/10 seconds',
        '5:9: listen: "here" is not an address to listen on; write 127.0.0.1:8080 or [::1]:8080',
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_says_what_is_wrong_where_and_the_cure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(PolicyError) as caught:
        load(Path(f"{name}.yaml"), environment=ENVIRONMENT)
    assert str(caught.value) == "\n".join(f"{name}.yaml:{line}" for line in EXPECTED[name])


def test_every_bad_file_has_an_expectation() -> None:
    assert {path.stem for path in BAD.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_no_message_shows_a_secret(name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(BAD / f"{name}.yaml", environment=ENVIRONMENT)
    assert "hunter2" not in str(caught.value)
