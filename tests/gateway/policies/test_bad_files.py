"""One small file per mistake in `bad/`, and the exact words a person gets for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import load
from sluice.config import PolicyError

BAD = Path(__file__).parent / "bad"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRONMENT = {
    "HMAC": "secret", "EMPTY": "", "LINES": "two\nlines", "BYTES": "\udcff",
    "HOOK": "https://hooks.example.com/secret", "HOOK_LOGIN": "https://me:secret@hooks.example.com/",
    "LONG": "a secret of over sixteen bytes", "WHSEC": WHSEC, "WHSEC_SHORT": "whsec_c2hvcnQ=",
}  # fmt: skip

EXPECTED: dict[str, list[str]] = {
    "listen_list_of_parts": [
        '2:10: listen[0]: "127.0.0.1" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or '
        "unix:/run/sluice.sock",
        '2:21: listen[1]: "8080" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or '
        "unix:/run/sluice.sock",
    ],
    "listen_empty_list": [
        "2:9: listen: is empty, so nobody could ask; write 127.0.0.1:8080",
    ],
    "listen_empty_mapping": [
        "2:9: listen: is empty, so nobody could ask; write 127.0.0.1:8080",
    ],
    "listen_without_address": [
        "2:18: listen.public.address: is missing; write address: 127.0.0.1:8080",
    ],
    "listen_cert_without_key": [
        "2:49: listen.public.cert: has no key; write key: file:tls.key beside it",
    ],
    "listen_key_without_cert": [
        "2:48: listen.public.key: has no cert; write cert: file:tls.crt beside it",
    ],
    "listen_cert_no_file": [
        '2:49: listen.public.cert: "tls.crt" names no file; write file:tls.crt',
        '2:63: listen.public.key: "env:KEY" names no file; write file:tls.crt',
    ],
    "listen_mode_of_tcp": [
        "2:48: listen.public.mode: is for unix sockets; remove it",
    ],
    "listen_mode": [
        '2:43: listen.local.mode: "rw" is not the mode of a file; write 0660',
    ],
    "listen_unix_nowhere": [
        '2:10: listen[0]: "unix:" names no socket; write unix:/run/sluice.sock',
        '2:19: listen[1]: "unix://host/x" names no socket; write unix:/run/sluice.sock',
    ],
    "listen_unix_long": [
        '2:9: listen: "unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is '
        "longer than the 107 bytes of a unix socket's address; write a shorter path",
    ],
    "listen_twice": [
        "2:26: listen[1]: 127.0.0.1:80 is there twice; keep one of them",
    ],
    "listen_within": [
        "2:30: listen.b: 127.0.0.1:80 is within 0.0.0.0:80; keep one of them",
    ],
    "listen_name": [
        '2:10: listen.Public: "Public" is not a name; write 1 to 32 of a-z 0-9 _ -',
    ],
    "listen_unknown_key": [
        "2:43: listen.public.certificate: unknown key; known here: address, cert, key, mode",
    ],
    "route_on_nobody": [
        '3:37: routes[0].on: no listener is called "public"; name it: listen: {public: 127.0.0.1:3000}',
    ],
    "route_on_another": [
        '4:38: routes[0].on[0]: no listener is called "worker"; did you mean workers',
        '4:54: routes[0].on[2]: "public" is there twice; keep one',
        "4:92: routes[1].on: names no listener; write on: public, or leave it out for all of them",
    ],
    "admin_listen_again": [
        "3:17: admin.listen: 127.0.0.1:80 is there twice, in listen; write another; without admin.listen it "
        "answers there, too",
    ],
    "admin_metrics_without_token": [
        "2:18: admin.metrics: requires console.token, which is not set; write console: {token: "
        "env:SLUICE_CONSOLE_TOKEN}, or open",
    ],
    "console_read_alone": [
        "2:17: console.read: requires console.token, which is not set; set both, or only the token",
    ],
    "console_read_same": [
        "2:34: console.read: is the same as console.token; make another: openssl rand -hex 32",
    ],
    "admin_values": [
        '2:18: admin.metrics: "closed" is not known here; write open or token',
        '2:34: admin.allow[0]: no list is called "home"; define it under trust.lists',
        '2:49: admin.hosts[0]: "a:80" is not a host; write gate.example.org, without scheme and port',
        '2:67: admin.refused: "10" is not a rate; write 1000/minute or 5/10 seconds',
    ],
    "route_timeout": [
        "3:53: routes[0].timeout: is called headers: now; write headers: with the same time",
    ],
    "route_times_of_relay": [
        (
            "3:65: routes[0].headers: is for upstream:, and workers: place, owner and any; remove it; timeout: of an "
            "endpoint is how long a delivery may take"
        ),
        (
            "4:44: routes[1].idle: is for upstream:, and workers: place, owner and any; remove it; timeout: of an "
            "endpoint is how long a delivery may take"
        ),
    ],
    "route_bad_times": [
        '3:53: routes[0].headers: "60" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '3:63: routes[0].idle: "0s" is no time at all; write 1ms or more',
    ],
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
            "2:1: quux: unknown key; known here: version, listen, data, bodies, store, trust, clients, upstreams, "
            "signatures, routes, limits, limit_headers, relay, sessions, admin, console, alerts, log"
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
        "3:12: sessions.<<: unknown key; known here: lease, per_worker, workers, verify, "
        "keys, advertise, shared_profiles, one_phone, cleanup, rebalance, watch, shields, restore, browser, vault",
    ],
    "unknown_shield": [
        "2:22: sessions.shields.bulks: unknown key; did you mean bulk",
    ],
    "rebalance_too_eager": [
        '3:22: sessions.rebalance.moves: "fast" is not a rate; write 1000/minute or 5/10 seconds',
        '3:35: sessions.rebalance.quiet: "2s" is too short; write 3s or more',
        "3:39: sessions.rebalance.pause: unknown key; known here: moves, quiet",
    ],
    "shield_not_a_truth": [
        '2:30: sessions.shields.divide: "no" is not known here; write true or false',
    ],
    "advertise_with_a_path": [
        (
            '2:23: sessions.advertise: "http://10.0.0.1:8080/sluice" has a path, which Laravel leaves out; write '
            "scheme, host and port only"
        ),
    ],
    "advertise_everywhere": [
        (
            '2:23: sessions.advertise: "http://0.0.0.0:8080" is no address that can be called; write '
            "http://127.0.0.1:8080"
        ),
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
        "2:7: data: is a list, not a single value; write one value",
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
    "log_size_too_small": [
        "2:13: log.size: 1KiB is too small for a log; write 64KiB or more",
    ],
    "log_files_too_many": [
        "2:14: log.files: 100000 is too much; write 1000 or less",
    ],
    "log_to_nowhere": [
        '2:11: log.to: "stderr" is not known here; write files or stdout',
    ],
    "log_requests_unknown": [
        '2:17: log.requests: "common" is not known here; write json or combined',
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
        '2:9: listen: "8080" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or unix:/run/sluice.sock',
    ],
    "listen_port_too_big": [
        '2:9: listen: "127.0.0.1:80800" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or '
        "unix:/run/sluice.sock",
    ],
    "listen_bare_ipv6": [
        '2:9: listen: "::1:8080" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or '
        "unix:/run/sluice.sock",
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
    "list_without_networks": [
        "2:25: trust.lists.office.networks: is missing; write networks: [10.0.0.0/8]",
    ],
    "list_unknown_key": [
        "2:49: trust.lists.office.untill: unknown key; did you mean until",
    ],
    "list_entry_without_network": [
        "2:26: trust.lists.office[0].network: is missing; write network: 192.0.2.7",
    ],
    "list_entry_host_bits": [
        (
            '2:36: trust.lists.office[0].network: "192.0.2.7/24" has host bits set; write 192.0.2.0/24 for '
            "the network, or 192.0.2.7/32 for the address"
        ),
    ],
    "list_until_word": [
        '2:56: trust.lists.office.until: "friday" is not a date or time; write 2026-12-31 or 2026-12-31T18:00:00Z',
    ],
    "list_until_no_such_day": [
        (
            '2:56: trust.lists.office.until: "2026-02-30" is not a date or time; write 2026-12-31 or '
            "2026-12-31T18:00:00Z"
        ),
    ],
    "list_until_without_zone": [
        (
            '2:54: trust.lists.office[0].until: "2026-12-31T18:00:00" is in no time zone; write '
            "2026-12-31T18:00:00Z, or +01:00 for Z"
        ),
    ],
    "list_note_of_two_lines": [
        "2:55: trust.lists.office.note: is over 200 characters or not on one line; write a ticket or a name",
    ],
    "deny_until_word": [
        '2:44: trust.deny[0].until: "soon" is not a date or time; write 2026-12-31 or 2026-12-31T18:00:00Z',
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
    "route_trace": [
        "3:37: routes[0].methods[1]: TRACE is refused for every path; remove it",
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
    "bodies_unit": [
        '2:9: bodies: "128MB" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
    ],
    "bodies_zero": [
        '2:9: bodies: "0MiB" is no size at all; write 1B or more',
    ],
    "bodies_number": [
        '2:9: bodies: "1048576" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
    ],
    "bodies_under_a_route": [
        (
            "2:9: bodies: 1MiB does not hold one body of routes[0] (/upload), which may have 2MiB; "
            "write 2MiB or more, or a smaller body: in the route"
        ),
    ],
    "route_body_over_bodies": [
        (
            "5:27: routes[0].body: 1024MiB is more than bodies, of which one process holds 128MiB; "
            "write less, or bodies: 1024MiB at the top"
        ),
    ],
    "route_bad_body": [
        '3:28: routes[0].body: "1MB" is not a size; write 512B, 64KiB, 1MiB or 1GiB',
    ],
    "route_workspace_text": [
        (
            '3:32: routes[0].workspace: "workspace_id" says not where to look; write {json: /workspace_id}, '
            "{header: X-Workspace-Id} or {path: workspace}"
        ),
    ],
    "route_workspace_not_in_path": [
        "3:44: routes[0].workspace.path: the path has no {workspace}; write {workspace} for a segment of it",
    ],
    "route_shadowed": [
        (
            "5:12: routes[1].path: never matches: routes[0] (/api/**) takes its requests before it; put it "
            "first, or remove it"
        ),
    ],
    "route_shadowed_by_two": [
        (
            "6:12: routes[2].path: never matches: routes[0] (/a/*) and routes[1] (/a/{id}) take its requests "
            "before it; put it first, or remove it"
        ),
    ],
    "route_repeated": [
        (
            "5:12: routes[1].path: never matches: routes[0] (/a) takes its requests before it; put it first, "
            "or remove it"
        ),
    ],
    "route_relay_list": [
        "4:23: routes[0].relay: names no endpoint; write relay: laravel, or relay: [laravel, archive]",
        '5:33: routes[1].relay[1]: no endpoint is called "archiv"; did you mean archive',
        '5:41: routes[1].relay[2]: "laravel" is there twice; keep one',
        "6:23: routes[2].relay: is a mapping, not a single value; write one value",
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
    "limit_hold_too_long": [
        (
            '2:74: limits[0].hold: "30s" is longer than callers wait for the answer; write 25s or less: Laravel waits '
            "for 30s"
        ),
    ],
    "limit_hold_none": [
        '2:74: limits[0].hold: "0s" is no time at all; write 1ms or more',
    ],
    "limit_hold_without_over": [
        "2:62: limits[0].hold: is said, and nothing is held; write over: hold, or remove it",
    ],
    "limit_hold_on_relay": [
        (
            "7:83: limits[0].over: hold keeps callers waiting, and routes[1] (/hooks/*) answers at once and delivers "
            "later; write queue, or event: with what no such route has"
        ),
    ],
    "limit_hold_on_any_relay": [
        (
            "8:58: limits[0].over: hold keeps callers waiting, and routes[1] (/hooks/*) answers at once and delivers "
            "later; write queue, or event: with what no such route has"
        ),
        (
            "9:85: limits[1].over: hold keeps callers waiting, and routes[1] (/hooks/*) answers at once and delivers "
            "later; write queue, or event: with what no such route has"
        ),
    ],
    "limit_bad_over": [
        '2:40: limits[0].over: "block" is not known here; write queue, hold, drop or reject',
    ],
    "limit_bad_mode": [
        '2:41: limits[0].mode: "shadow" is not known here; write observe or enforce',
    ],
    "limit_share_without_percent": [
        '2:67: limits[0].mode.enforce: "0.25" is not a percentage; write 25%',
    ],
    "limit_share_zero": [
        '2:67: limits[0].mode.enforce: "0%" is out of range; write more than 0% and at most 100%',
    ],
    "limit_share_over_all": [
        '2:67: limits[0].mode.enforce: "125%" is out of range; write more than 0% and at most 100%',
    ],
    "limit_share_without_subject": [
        (
            "2:41: limits[0].mode: is a share of the subjects, and the limit has none; add per: [session], "
            "or write observe or enforce"
        ),
    ],
    "limit_share_of_observed": [
        "2:57: limits[0].mode.enforce: is missing; write enforce: 25%",
        "2:58: limits[0].mode.observe: unknown key; known here: enforce",
    ],
    "limit_bad_store_away": [
        '2:51: limits[0].when_store_away: "localy" is not known here; did you mean local',
    ],
    "limit_unknown_list": [
        '2:43: limits[0].except[0]: no list is called "office"; define it under trust.lists',
    ],
    "limit_cost_zero": [
        "2:41: limits[0].cost: 0 is too small; write 1 or more",
    ],
    "limit_cost_word": [
        '2:41: limits[0].cost: "many" is not a whole number; write digits, without quotes',
    ],
    "limit_cost_unreadable": [
        '2:73: limits[0].cost.unreadable: "2" is not known here; write refuse, max or 1',
    ],
    "limit_cost_without_pointer": [
        "2:41: limits[0].cost.json: is missing; write json: /recipients",
    ],
    "limit_cost_bad_pointer": [
        (
            '2:48: limits[0].cost.json: "recipients" is not a JSON pointer; write /data/session_id; ~ is ~0 '
            "and / in a key ~1"
        ),
    ],
    "limit_cost_over_burst": [
        (
            "2:42: limits[0].burst: a burst of 5 is less than the cost of one event (6), so none ever "
            "passes; raise burst or lower cost"
        ),
    ],
    "limit_cost_over_rate": [
        (
            "2:41: limits[0].cost: a burst of 10 is less than the cost of one event (11), so none ever "
            "passes; raise burst or lower cost"
        ),
    ],
    "limit_per_prefix_too_short": [
        (
            '2:41: limits[0].per[0]: "ip/4" is not the prefix of an IPv4 address; write ip/24 (8 to 32) for IPv4, '
            "or ip/24/56 (16 to 128) for IPv6, too"
        ),
    ],
    "limit_per_prefix_of_ipv6": [
        (
            '2:41: limits[0].per[0]: "ip/64" is not the prefix of an IPv4 address; write ip/24 (8 to 32) for IPv4, '
            "or ip/24/56 (16 to 128) for IPv6, too"
        ),
    ],
    "limit_per_prefix_of_ipv6_out_of_range": [
        (
            '2:41: limits[0].per[0]: "ip/24/129" is not the prefix of an IPv6 address; write ip/24 (8 to 32) for IPv4, '
            "or ip/24/56 (16 to 128) for IPv6, too"
        ),
        (
            '2:84: limits[1].per[0]: "ip/24/8" is not the prefix of an IPv6 address; write ip/24 (8 to 32) for IPv4, '
            "or ip/24/56 (16 to 128) for IPv6, too"
        ),
    ],
    "limit_per_twice": [
        "2:45: limits[0].per[1]: ip is there twice; keep one",
    ],
    "override_text": [
        "2:63: limits[0].overrides[0]: is a single value, not a mapping; write {key: value}",
    ],
    "override_for_nobody": [
        "2:63: limits[0].overrides[0]: is for nobody; add session, workspace or list",
    ],
    "override_for_two": [
        "2:63: limits[0].overrides[0]: has session and workspace; keep one of them",
    ],
    "override_changes_nothing": [
        "2:63: limits[0].overrides[0]: changes nothing; add rate, burst or unlimited: true",
    ],
    "override_unlimited_and_rate": [
        "2:63: limits[0].overrides[0]: has unlimited and rate; keep one of them",
    ],
    "override_unlimited_false": [
        '2:87: limits[0].overrides[0].unlimited: "false" is not known here; write true, or remove it',
    ],
    "override_unknown_key": [
        "2:76: limits[0].overrides[0].unlimitd: unknown key; did you mean unlimited",
    ],
    "override_unknown_list": [
        '2:70: limits[0].overrides[0].list: no list is called "office"; define it under trust.lists',
    ],
    "override_bad_rate": [
        '2:82: limits[0].overrides[0].rate: "fast" is not a rate; write 1000/minute or 5/10 seconds',
    ],
    "override_bad_name": [
        '2:73: limits[0].overrides[0].session: "" is not a name; write session-17, or vip-* for many',
    ],
    "override_bad_until": [
        (
            '2:100: limits[0].overrides[0].until: "31.12.2026" is not a date or time; write 2026-12-31 or '
            "2026-12-31T18:00:00Z"
        ),
    ],
    "override_session_without_bucket": [
        (
            "2:68: limits[0].overrides[0].session: the limit has no buckets per session, so one bucket would "
            "have two sizes; add session to per, or write unlimited: true"
        ),
    ],
    "override_workspace_without_bucket": [
        (
            "2:70: limits[0].overrides[0].workspace: the limit has no buckets per workspace or session, so "
            "one bucket would have two sizes; add workspace to per, or write unlimited: true"
        ),
    ],
    "override_list_without_bucket": [
        (
            "3:70: limits[0].overrides[0].list: the limit has no buckets per ip, so one bucket would have "
            "two sizes; add ip to per, or write unlimited: true"
        ),
    ],
    "override_cost_over_burst": [
        (
            "2:92: limits[0].overrides[0].burst: a burst of 1 is less than the cost of one event (2), so "
            "none ever passes; raise burst or lower cost"
        ),
    ],
    "override_cost_over_rate": [
        (
            "2:72: limits[0].overrides[0]: a burst of 1 is less than the cost of one event (2), so none ever "
            "passes; raise burst or lower cost"
        ),
    ],
    "override_repeated": [
        '2:93: limits[0].overrides[1]: limits[0].overrides[0] is already for session "b", without an end; keep one',
    ],
    "limit_headers_unknown": [
        '2:17: limit_headers[0]: "rate-limit" is not known here; did you mean ratelimit',
    ],
    "limit_event_of_no_route": [
        '4:57: limits[0].event[1]: no route has the event "message_sendt"; did you mean message_send',
        '4:72: limits[0].event[2]: no route has the event "typing_*"; add event: to a route',
    ],
    "limit_event_of_routes_without": [
        '4:42: limits[0].event: no route has the event "message_send"; add event: to a route',
    ],
    "limit_session_of_no_route": [
        (
            "4:50: limits[0].per: no route of its events says where to find the session, so it never "
            "applies; add session: to the route"
        ),
    ],
    "limit_subjects_never_together": [
        (
            "4:40: limits[0].per: no route of its events says where to find the session and the workspace, "
            "so it never applies; add session: to the route"
        ),
    ],
    "limit_longer_window_tighter": [
        (
            '3:24: limits[0].rate: never refuses anything: limits[1] ("hour", 50/3600s, burst 50) allows no '
            "more, at once and over time, for the same requests; remove it, or raise limits[1]"
        ),
    ],
    "limit_looser_per_session": [
        (
            '4:21: limits[1].rate: never refuses anything: limits[0] ("all", 50/1s, burst 50) allows no '
            "more, at once and over time, for the same requests; remove it, or raise limits[0]"
        ),
    ],
    "limit_repeated_numbers": [
        (
            '4:21: limits[1].rate: never refuses anything: limits[0] ("one", 60/60s, burst 60) allows no '
            "more, at once and over time, for the same requests; remove it, or raise limits[0]"
        ),
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
    "endpoint_event": [
        (
            '2:79: relay.endpoints.laravel.events[1]: "message received" is not an event type; write '
            "message_received, or session_* for many"
        ),
    ],
    "endpoint_headers": [
        '7:9: relay.endpoints.laravel.headers.Host: "Host" is written by Sluice alone; use another header',
        '8:9: relay.endpoints.laravel.headers.X Tenant: "X Tenant" is not the name of a header; write X-Event-Type',
        "9:18: relay.endpoints.laravel.headers.X-Token: the environment variable GONE is not set; export GONE=…",
        (
            "10:18: relay.endpoints.laravel.headers.X-Lines: has line breaks or characters beyond ASCII, or is "
            "over 4096 bytes, or begins or ends with a blank; write what a header can carry"
        ),
        '11:9: relay.endpoints.laravel.headers.x-lines: "x-lines" is there twice; keep one; case makes no difference',
        (
            '12:9: relay.endpoints.laravel.headers.Webhook-Id: "Webhook-Id" is written by Sluice alone; use '
            "another header"
        ),
        (
            "13:18: relay.endpoints.laravel.headers.X-Blank: has line breaks or characters beyond ASCII, or is "
            "over 4096 bytes, or begins or ends with a blank; write what a header can carry"
        ),
    ],
    "endpoint_headers_text": [
        "2:68: relay.endpoints.laravel.headers: is a single value, not a mapping; write {key: value}",
    ],
    "goes_first": [
        (
            "5:5: relay.events: session_ready cannot go first: only what is urgent goes before the rest of its "
            "session; add session_ready to relay.lanes.urgent, or remove first"
        ),
        "5:40: relay.events.session_ready.after: is a single value, not a list; write [a, b]",
        "6:20: relay.events.other.after: does nothing without first; add first: 30s or remove after",
        '7:22: relay.events.another.first: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '7:36: relay.events.another.after[0]: "session_*" is not an event type; write message_received',
    ],
    "goes_first_in_a_lane": [
        (
            "4:11: relay.events: session_ready cannot go first: only what is urgent goes before the rest of its "
            "session; add session_ready to relay.lanes.urgent, or remove first"
        ),
    ],
    "supersede": [
        "4:32: relay.events.session_ready.supersede: is a single value, not a list; write [a, b]",
        (
            '5:25: relay.events.other.supersede[0]: "data/phone_number" is not a JSON pointer; write /data/session_id; '
            "~ is ~0 and / in a key ~1"
        ),
    ],
    "endpoint_forward": [
        "4:48: relay.endpoints.a.forward: is a single value, not a list; write [a, b]",
        '5:49: relay.endpoints.b.forward[0]: "Host" is written by Sluice alone; use another header',
        '5:55: relay.endpoints.b.forward[1]: "X Tenant" is not the name of a header; write X-Event-Type',
    ],
    "endpoint_forwards_a_proof": [
        '9:17: relay.endpoints.a.forward[0]: "X-Webhook-Hmac" proves requests (signatures.waha), and is never sent on; '
        "remove it",
        '9:55: relay.endpoints.a.forward[2]: "x-timestamp" is made anew for each attempt, and is never sent on; '
        "remove it",
        '9:68: relay.endpoints.a.forward[3]: "authorization" proves requests (signatures.api), and is never sent on; '
        "remove it",
    ],
    "upstream_leads_back": [
        '3:28: upstreams.laravel.url: "http://localhost:8080" is this gateway itself (listen); write the address of '
        "the one that is meant, or another port to listen on",
        '4:32: relay.endpoints.crm.url: "http://127.0.0.1:8080/hooks" is this gateway itself (listen); write the '
        "address of the one that is meant, or another port to listen on",
        '5:28: sessions.workers[0].url: "http://127.0.0.1:8080" is this gateway itself (listen); write the address of '
        "the one that is meant, or another port to listen on",
    ],
    "upstream_member_leads_back": [
        '5:35: upstreams.laravel.urls[1]: "http://localhost:8080" is this gateway itself (listen); write the address '
        "of the one that is meant, or another port to listen on",
        '6:15: upstreams.edge.url: "unix:/run/sluice.sock" is this gateway itself (listen); write the address of the '
        "one that is meant, or another port to listen on",
    ],
    "upstream_leads_back_on_all_interfaces": [
        '3:28: upstreams.laravel.url: "http://127.0.0.1:8080" is this gateway itself (listen); write the address of '
        "the one that is meant, or another port to listen on",
    ],
    "route_ambiguous_paths": [
        '3:58: routes[0].ambiguous_paths: "yes" is not known here; write refuse or allow',
    ],
    "endpoint_batch": [
        "4:50: relay.endpoints.a.batch.max: 201 is too much; write 200 or less",
        "5:50: relay.endpoints.b.batch.max: 0 is too small; write 1 or more",
        '5:59: relay.endpoints.b.batch.wait: "0s" is no time at all; write 1ms or more',
        "6:45: relay.endpoints.c.batch.size: unknown key; known here: max, wait",
        "7:44: relay.endpoints.d.batch: is a single value, not a mapping; write {key: value}",
    ],
    "endpoint_address": [
        (
            "4:21: relay.endpoints.metadata.url: 169.254.169.254 is no address of a receiver (metadata); write "
            "another, or private: allow beside it"
        ),
        (
            "5:19: relay.endpoints.mapped.url: ::ffff:169.254.1.1 is no address of a receiver (link-local); "
            "write another, or private: allow beside it"
        ),
        (
            "6:23: relay.endpoints.everywhere.url: 0.0.0.0 is no address of a receiver (unspecified); write "
            "another, or private: allow beside it"
        ),
        '10:51: relay.endpoints.word.private: "yes" is not known here; write refuse or allow',
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
    "circuit_slow_start": [
        '2:81: relay.endpoints.laravel.circuit.slow_start: "0s" is no time at all; write 1ms or more, or none',
    ],
    "retry_cap_below_base": [
        "2:83: relay.endpoints.laravel.retry.cap: cap (5s) is less than base (10s); raise cap or lower base",
    ],
    "retry_for_below_base": [
        "2:83: relay.endpoints.laravel.retry.for: for (5s) is less than base (10s); raise for or lower base",
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
    "upstream_urls": [
        "3:16: upstreams.none.urls: names no address; write [http://127.0.0.1:8000, http://127.0.0.1:8001]",
        '4:38: upstreams.twice.urls[2]: "http://a" is there twice; keep one',
        "5:15: upstreams.both.url: stands beside urls; keep one of them",
        "6:15: upstreams.one.urls: is a single value, not a list; write [a, b]",
        '7:28: upstreams.wrong.urls[1]: "ftp://b" is not an http address; write http://127.0.0.1:8000',
        '8:28: upstreams.paths.urls[1]: "http://b/v2" has another path than http://a; write the same path in each, as '
        "they are one application",
    ],
    "upstream_unix": [
        '3:19: upstreams.relative.url: "unix:run/laravel.sock" names no socket; write unix:/run/laravel.sock',
        '4:18: upstreams.slashes.url: "unix:///run/laravel.sock" names no socket; write unix:/run/laravel.sock',
        "5:15: upstreams.long.url: is over 107 bytes, more than a unix socket may have; write a shorter path",
    ],
    "upstream_health": [
        '3:40: upstreams.path.health.path: "up" is not a path; write /up',
        '4:42: upstreams.often.health.every: "100ms" is too often; write 1s or more',
        "5:33: upstreams.text.health: is a single value, not a mapping; write {key: value}",
    ],
    "upstream_fails": [
        '3:37: upstreams.low.fails[1]: "404" is not a status of 5xx; write fails: [503]',
        "4:32: upstreams.text.fails: is a single value, not a list; write [a, b]",
    ],
    "upstream_ca": [
        "3:30: upstreams.plain.ca: is for https only; write https:// in the address, or remove ca",
        "4:31: upstreams.empty.ca: has no certificate in it; it is PEM: -----BEGIN CERTIFICATE-----",
        "5:30: upstreams.gone.ca: the file /nowhere/ca.pem cannot be read (no such file or directory); put the secret "
        "there",
    ],
    "upstream_numbers": [
        "3:41: upstreams.laravel.connections: 0 is too small; write 1 or more",
        '3:50: upstreams.laravel.wait: "1" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '3:59: upstreams.laravel.keep: "0s" is no time at all; write 1ms or more',
        '3:68: upstreams.laravel.age: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "store_url": [
        (
            "2:14: store.url: is not an address of a store; write embedded, redis://127.0.0.1:6379/0, rediss://…, "
            "unix:///run/valkey.sock, redis+sentinel://host:26379,host:26379/mymaster or "
            "redis+cluster://host:6379,host:6379"
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
    "worker_keys_unknown_signature": [
        '3:31: sessions.keys[0].signature: no signature is called "worker"; did you mean workers',
    ],
    "worker_keys_without_ids": [
        "5:7: sessions.keys[0].ids: is missing; write ids: [w1, w2-*]",
        "6:33: sessions.keys[1].ids: is empty, so the key speaks for nobody; write [w1, w2-*]",
        "7:7: sessions.keys[2].signature: is missing; write signature: workers",
    ],
    "worker_keys_id": [
        '3:50: sessions.keys[0].ids[1]: "w 2" is not a worker\'s id; write w1, or w2-* for many',
    ],
    "worker_keys_url": [
        '5:46: sessions.keys[0].urls[0]: "10.0.0.0/24" is not an http address; write http://127.0.0.1:8000',
        '6:46: sessions.keys[1].urls[0]: "http://10.0.0.1/24" is no network of addresses; write http://10.0.0.0/24',
        '7:46: sessions.keys[2].urls[0]: "http://10.0.0.0/33" is no network of addresses; write http://10.0.0.0/24',
    ],
    "signature_preset": [
        '2:26: signatures.a.preset: "blaz" is not known here; did you mean blazz',
    ],
    "signature_header": [
        '3:54: signatures.a.header: "Content-Length" is written by Sluice alone; use another header',
        '4:54: signatures.b.header: "X Signature" is not the name of a header; write X-Event-Type',
        (
            "5:54: signatures.c.prefix: has line breaks or characters beyond ASCII, or is over 4096 bytes; "
            "write what a header can carry"
        ),
        (
            "6:28: signatures.d.secret: has line breaks or characters beyond ASCII, or is over 4096 bytes, or "
            "begins or ends with a blank; write what a header can carry"
        ),
    ],
    "signature_option_without_effect": [
        "3:48: signatures.a.header: does nothing with preset blazz; remove it; it takes tolerance",
        "4:57: signatures.b.tolerance: does nothing with preset body-sha256; remove it; it takes header or prefix",
        "5:50: signatures.c.tolerance: does nothing with preset waha; remove it; it has no options",
        "6:52: signatures.d.prefix: does nothing with preset standard; remove it; it takes tolerance",
        "7:56: signatures.e.timestamp_header: does nothing with preset key; remove it; it takes header or prefix",
    ],
    "signature_secret_and_secrets": [
        "3:34: signatures.a.secrets: stands beside secret; keep one of them",
    ],
    "signature_secrets_wrong": [
        "3:16: signatures.a.secrets: names no secret; write [env:NEW, env:OLD], the newest first",
        "4:16: signatures.b.secrets: is a single value, not a list; write [a, b]",
        "5:27: signatures.c.secrets[1]: the environment variable GONE is not set; export GONE=…",
        "5:37: signatures.c.secrets[2]: a secret must not stand in this file; write env:NAME or file:PATH",
    ],
    "signature_standard_secret": [
        "3:37: signatures.plain.secret: is no secret of Standard Webhooks; it is whsec_ and 24 to 64 bytes in base64",
        "4:37: signatures.short.secret: is no secret of Standard Webhooks; it is whsec_ and 24 to 64 bytes in base64",
        (
            "5:55: signatures.one_of_two.secrets[1]: is no secret of Standard Webhooks; it is whsec_ and 24 to "
            "64 bytes in base64"
        ),
    ],
    "alerts_list": [
        "2:9: alerts: is a list, not a mapping; write {key: value}",
    ],
    "alerts_rules": [
        '5:14: alerts.rules[0].when: "circuit_opened" is not known here; did you mean circuit_open',
        "6:34: alerts.rules[1].over: circuit_open has no threshold; remove it",
        '7:33: alerts.rules[2].over: "80%" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '8:34: alerts.rules[3].over: "120%" is out of range; write more than 0% and at most 100%',
        '9:34: alerts.rules[4].over: "many" is not a whole number; write digits, without quotes',
        '9:45: alerts.rules[4].to[0]: no receiver is called "chta"; did you mean chat',
        '10:33: alerts.rules[5].for: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d, or none',
        '10:47: alerts.rules[5].repeat: "5s" is too often; write 60s or more, or none',
        "11:28: alerts.rules[6].evry: unknown key; known here: when, over, for, repeat, to, only",
        "12:7: alerts.rules[7].when: is missing; write when: circuit_open",
        "12:12: alerts.rules[7].to: names nobody; write to: [ops]",
    ],
    "alerts_receivers": [
        "4:24: alerts.receivers.written.webhook: a secret must not stand in this file; write env:NAME or file:PATH",
        "5:14: alerts.receivers.nowhere: sends nowhere; add webhook, mail or command",
        "5:21: alerts.receivers.nowhere.sign: is for a webhook only; remove it",
        "6:11: alerts.receivers.both: has webhook and mail; keep one of them",
        "7:24: alerts.receivers.strange.webhook: is not an http address; it is https://…",
        "8:22: alerts.receivers.login.webhook: has a user, password or fragment in it; write it without",
        "9:20: alerts.receivers.nobody.mail: names nobody; write mail: ops@example.com",
        '10:19: alerts.receivers.lines.mail: "ops@example.com\\nBcc: all@example.com" is not a mail address; write '
        "ops@example.com",
        '11:19: alerts.receivers.named.mail: "Ops <ops@example.com>" is not a mail address; write ops@example.com',
        "12:24: alerts.receivers.nothing.command: names no program; write [/usr/local/bin/page]",
        "13:22: alerts.receivers.shell.command: is a single value, not a list; write [a, b]",
        "14:42: alerts.receivers.signed.sign: is for a webhook only; remove it",
        '15:5: alerts.receivers.Chat: "Chat" is not a name; write 1 to 32 of a-z 0-9 _ -',
    ],
    "alerts_mail": [
        '3:18: alerts.mail.server: "smtp://mail.example.com" is not a mail server; write smtp.example.com:587',
        '3:51: alerts.mail.from: "Sluice" is not a mail address; write ops@example.com',
        '3:64: alerts.mail.tls: "ssl" is not known here; write starttls, tls or none',
        "3:75: alerts.mail.user: does nothing without password; add password: env:NAME or remove user",
        "4:14: alerts.heartbeat.url: is missing; write url: env:HEARTBEAT_URL",
        '4:22: alerts.heartbeat.every: "1s" is too often; write 5s or more',
    ],
    "alerts_mail_in_clear": [
        "3:67: alerts.mail.tls: sends the password unencrypted; write tls: starttls, or tls: tls",
    ],
    "alerts_no_mail_server": [
        "3:27: alerts.receivers.ops.mail: there is no server that takes mail; write alerts.mail: {server: "
        "smtp.example.com:587, from: sluice@example.com}",
    ],
    "sessions_watch": [
        '4:13: sessions.watch.silent: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d, or off',
        '5:15: sessions.watch.flapping: "30/10 minutes" counts too far; write 20 or fewer, such as 5/10 minutes',
        '6:18: sessions.watch.qr_scanning: "0s" is no time at all; write 1ms or more, or off',
        '7:15: sessions.watch.restart[0]: "stuck" is not known here; write silent, flapping, starting, qr_scanning, '
        "authenticated or disconnected",
        '8:15: sessions.watch.restarts: "often" is not a rate; write 1000/minute or 5/10 seconds',
        "9:5: sessions.watch.quiet: unknown key; known here: silent, flapping, starting, qr_scanning, authenticated, "
        "disconnected, restart, restarts",
    ],
    "sessions_more": [
        '3:14: sessions.one_phone: "both" is not known here; write newest, oldest or allow',
        "4:13: sessions.cleanup.each: unknown key; known here: every, qr_scanning, disconnected, failed, orphaned, "
        "purge, at_once, dry_run",
        "6:5: sessions.browser.profile: unknown key; known here: path, start_at_once",
        '7:11: sessions.browser.path: "chromium" is no absolute path; write auto, or where it is, such as '
        "/usr/bin/chromium",
        "8:20: sessions.browser.start_at_once: 17 is out of range; write 1 to 16: each start takes a core for seconds",
    ],
    "store_sentinel_without_master": [
        "2:14: store.url: names no master; write redis+sentinel://host:26379,host:26379/mymaster",
    ],
    "store_cluster_without_host": [
        "2:14: store.url: names no host; write redis+cluster://host,host",
    ],
    "retention_delivered": [
        '2:32: relay.retention.delivered: "never" is not a duration; write 250ms, 5s, 2m, 1h or 1d, or none',
        '2:45: relay.retention.dead: "none" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "relay_unknown_signature": [
        '2:17: relay.verify: no signature is called "publishers"; define it under signatures',
    ],
    "replica_of_embedded": [
        (
            "2:18: store.promise: the embedded store has no replica; set store.url to one of yours that has a "
            "replica, or write always"
        ),
    ],
    "too_many_limits": [
        "3:3: limits: there are 129 limits; keep to 128, for one request can meet all of them",
    ],
    "several": [
        '2:18: store.timeout: "soon" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
        '4:19: limits[0].rate: "often" is not a rate; write 1000/minute or 5/10 seconds',
        '5:9: listen: "here" is not an address to listen on; write 127.0.0.1:8080, [::1]:8080 or unix:/run/sluice.sock',
    ],
    "network_every_ipv4": [
        '2:19: trust.proxies[0]: "::ffff:0:0/96" stands for every IPv4 address; write 0.0.0.0/0 if that is meant',
        '2:44: trust.deny[0]: "64:ff9b::/96" stands for every IPv4 address; write 0.0.0.0/0 if that is meant',
    ],
    "rate_over_years": [
        (
            '3:30: limits[0].rate: "1/400000000 years" counts over more than a year; write a shorter time, such '
            "as 1000/day"
        ),
    ],
    "rate_too_fast": [
        '3:30: limits[0].rate: "1000001/second" is too fast; write 1000000/second or less',
    ],
    "rate_too_much": [
        '3:30: limits[0].rate: "1000000001/day" is too much at once; write the same over a shorter time',
    ],
    "burst_too_much": [
        "3:47: limits[0].burst: 1000000001 is too much; write 1000000000 or less",
    ],
    "burst_over_years": [
        (
            "3:45: limits[0].burst: a burst of 11 at 1/3.1104e+07s is full again only after more than ten years; "
            "lower burst or raise rate"
        ),
    ],
    "cost_too_much": [
        "3:56: limits[0].cost: 99999999999999999 is too much; write 1000000000 or less",
    ],
    "override_over_years": [
        (
            "3:101: limits[0].overrides[0].burst: a burst of 11 at 1/3.1104e+07s is full again only after more "
            "than ten years; lower burst or raise rate"
        ),
        (
            '3:125: limits[0].overrides[1].rate: "1/400 days" counts over more than a year; write a shorter '
            "time, such as 1000/day"
        ),
    ],
    "duration_over_years": [
        '2:17: relay.dedupe: "999999999999999d" is more than ten years; write 3650d or less',
    ],
    "size_too_large": [
        '2:9: bodies: "999999999999999GiB" is too much; write 1048576GiB or less',
    ],
    "worker_default_name_taken": [
        (
            '2:60: sessions.workers[1].url: "127.0.0.1:3001" is the name of sessions.workers[0]; give each '
            "worker its own, with name: w1"
        ),
    ],
    "worker_host_no_name": [
        '2:28: sessions.workers[0].url: "wörker:3001" is not a name of a worker; add name: w1',
    ],
    "worker_key_for_header": [
        (
            "2:56: sessions.workers[0].key: has line breaks or characters beyond ASCII, or is over 4096 "
            "bytes, or begins or ends with a blank; write what a header can carry"
        ),
    ],
    "worker_key_in": [
        '2:74: sessions.workers[0].key_in: "query" is not known here; write field or header',
    ],
    "worker_key_in_without_key": [
        "2:59: sessions.workers[0].key_in: does nothing without key; add it or remove key_in",
    ],
    "worker_key_not_utf8": [
        "2:56: sessions.workers[0].key: is not UTF-8; write what JSON can carry",
    ],
    "worker_name": [
        '2:57: sessions.workers[0].name: "a b" is not a name of a worker; write 1 to 64 of A-Z a-z 0-9 . _ : [ ] -',
    ],
    "worker_name_taken": [
        (
            '2:97: sessions.workers[1].name: "w1" is the name of sessions.workers[0]; give each worker its '
            "own, with name: w1"
        ),
    ],
    "worker_prefix": [
        '4:44: sessions.workers[0].prefix: "w/w1" does not begin with /; write /w/w1',
        '5:44: sessions.workers[1].prefix: "/w/w2/" ends with /; write it without, such as /w/w1',
        '6:44: sessions.workers[2].prefix: "/" ends with /; write it without, such as /w/w1',
        (
            '7:44: sessions.workers[3].prefix: "/w//w4" is no prefix of a path; write 1 to 8 segments of '
            "at most 64 of A-Z a-z 0-9 . _ ~ -, such as /w/w1"
        ),
        (
            '8:44: sessions.workers[4].prefix: "/w/{id}" is no prefix of a path; write 1 to 8 segments of '
            "at most 64 of A-Z a-z 0-9 . _ ~ -, such as /w/w1"
        ),
        (
            '9:44: sessions.workers[5].prefix: "/w/../w6" is no prefix of a path; write 1 to 8 segments of '
            "at most 64 of A-Z a-z 0-9 . _ ~ -, such as /w/w1"
        ),
        '10:44: sessions.workers[6].prefix: "/_sluice/w7" is reserved for Sluice; write another, such as /w/w1',
    ],
    "worker_prefix_taken": [
        (
            '2:101: sessions.workers[1].prefix: "/w" and "/w" of sessions.workers[0] cannot be told apart; '
            "give each worker its own, such as /w/w1 and /w/w2"
        ),
        (
            '2:143: sessions.workers[2].prefix: "/w/w3" and "/w" of sessions.workers[0] cannot be told '
            "apart; give each worker its own, such as /w/w1 and /w/w2"
        ),
    ],
    "worker_prefix_takes_route": [
        (
            '4:59: sessions.workers[0].prefix: "/api" takes all requests of routes[0] (/api/sessions); '
            "write another, such as /w/w1"
        ),
    ],
    "worker_url_taken": [
        '2:61: sessions.workers[1].url: "http://node" is that of sessions.workers[0], too; keep one of them',
    ],
    "sessions_restore": [
        '2:21: sessions.restore: "10min" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "vault_every": [
        '2:42: sessions.vault.every: "30s" is too short; write 1m or more: each time the whole profile is read',
    ],
    "vault_every_unit": [
        '2:42: sessions.vault.every: "10" is not a duration; write 250ms, 5s, 2m, 1h or 1d',
    ],
    "vault_generations": [
        "2:48: sessions.vault.generations: 21 is too much; write 20 or less",
    ],
    "vault_generations_zero": [
        "2:48: sessions.vault.generations: 0 is too small; write 1 or more",
    ],
    "vault_key": [
        "3:16: sessions.vault.key: a secret must not stand in this file; write env:NAME or file:PATH",
    ],
    "vault_key_gone": [
        "3:16: sessions.vault.key: the environment variable GONE is not set; export GONE=…",
    ],
    "vault_key_nothing": [
        "3:16: sessions.vault.key: names no key; write [env:NEW, env:OLD], the newest first",
    ],
    "vault_key_short": [
        (
            "3:27: sessions.vault.key[1]: the key has under 16 bytes and can be guessed; make one with openssl "
            "rand -hex 32"
        ),
    ],
    "vault_key_twice": [
        "3:16: sessions.vault.key: names one key twice; keep one of them",
    ],
    "vault_unknown_key": [
        "2:35: sessions.vault.generation: unknown key; did you mean generations",
    ],
    "vault_unknown_signature": [
        '3:43: sessions.vault.verify: no signature is called "worker"; did you mean workers',
    ],
    "vault_url_file_empty": [
        '2:40: sessions.vault.url: "file:" names no folder; write file:/srv/sluice-vault',
    ],
    "vault_url_file_host": [
        (
            '2:40: sessions.vault.url: "file://vault" names a host, not a folder; write '
            "file:///srv/sluice-vault, or file:vault for one beside this file"
        ),
    ],
    "vault_url_file_no_folder": [
        (
            '2:40: sessions.vault.url: "file:vault_without_key.yaml" is a file, not a folder; write '
            "file:/srv/sluice-vault"
        ),
    ],
    "vault_url_path": [
        (
            "2:40: sessions.vault.url: is no place for a vault; write store, file:/srv/sluice-vault or "
            "s3://bucket/prefix"
        ),
    ],
    "vault_url_s3_bucket": [
        '5:10: sessions.vault.url: "s3://bu,cket/x" is not the address of a bucket; write s3://bucket/prefix',
    ],
    "vault_url_s3_endpoint": [
        '2:40: sessions.vault.url: "minio:9000" is not an http address; write http://127.0.0.1:8000',
    ],
    "vault_url_s3_nothing": [
        '2:40: sessions.vault.url: "s3://" names no bucket; write s3://bucket/prefix',
    ],
    "vault_url_s3_one_slash": [
        '2:40: sessions.vault.url: "s3:/bucket" names no bucket; write s3://bucket/prefix',
    ],
    "vault_url_s3_option": [
        (
            '5:10: sessions.vault.url: "path_style" is not known here; write '
            "s3://bucket/prefix?endpoint=https://…&region=…"
        ),
    ],
    "vault_url_s3_option_empty": [
        '2:40: sessions.vault.url: "region" has no value; write s3://bucket/prefix?endpoint=https://…&region=…',
    ],
    "vault_url_s3_option_twice": [
        '5:10: sessions.vault.url: "region" is there twice; write s3://bucket/prefix?endpoint=https://…&region=…',
    ],
    "vault_url_s3_password": [
        (
            "5:10: sessions.vault.url: has a user or password in it; write it without; credentials come from "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ),
    ],
    "vault_url_s3_prefix": [
        (
            '2:40: sessions.vault.url: "s3://bucket/a//b" has a prefix that is none; write segments of A-Z a-z '
            "0-9 . _ ~ - and one / between them"
        ),
    ],
    "vault_url_s3_prefix_up": [
        (
            '2:40: sessions.vault.url: "s3://bucket/../b" has a prefix that is none; write segments of A-Z a-z '
            "0-9 . _ ~ - and one / between them"
        ),
    ],
    "vault_url_s3_prefix_odd": [
        (
            '2:40: sessions.vault.url: "s3://bucket/a%20b" has a prefix that is none; write segments of A-Z a-z '
            "0-9 . _ ~ - and one / between them"
        ),
    ],
    "vault_url_s3_slash": [
        '2:40: sessions.vault.url: "s3:///prefix" names no bucket; write s3://bucket/prefix',
    ],
    "vault_url_scheme": [
        (
            "2:40: sessions.vault.url: is no place for a vault; write store, file:/srv/sluice-vault or "
            "s3://bucket/prefix"
        ),
    ],
    "vault_without_key": [
        ("2:19: sessions.vault.key: is missing; write key: env:SLUICE_VAULT_KEY, with what openssl rand -hex 32 makes"),
    ],
    "worker_url_path": [
        '2:28: sessions.workers[0].url: "http://127.0.0.1:3001/é" has a path beyond ASCII; write it percent-encoded',
    ],
    "endpoint_called_outbox": [
        "2:29: relay.endpoints.outbox: is what the queue of sends to workers is called; call it differently"
    ],
    "limit_hours_bad": ['2:76: limits[0].hours: "8-20" are no hours of a time zone; write 08:00-20:00 Asia/Jakarta'],
    "limit_hours_never": [
        (
            '2:76: limits[0].hours: "08:00-08:00 UTC" begins when it ends; write two times, or remove it: '
            "then sends always go"
        ),
    ],
    "limit_hours_no_time": [
        '2:76: limits[0].hours: "08:00-25:00 UTC" has a time that no day has; write 08:00-20:00 Asia/Jakarta'
    ],
    "limit_hours_unknown_zone": [
        (
            '2:76: limits[0].hours: no time zone is called "Asia/Jakata"; write one of the IANA database, '
            "such as Asia/Jakarta or UTC"
        ),
    ],
    "limit_hours_without_queue": [
        "2:75: limits[0].hours: is said, and nothing is queued; write over: queue, or remove it",
        "2:103: limits[0].unknown: is said, and nothing is queued; write over: queue, or remove it",
    ],
    "limit_of_sends_on_relay": [
        (
            "5:91: limits[0].hold: is for sends, and no route that the limit meets takes any (POST, "
            "workers: owner); remove it"
        ),
        (
            "5:102: limits[0].hours: is for sends, and no route that the limit meets takes any (POST, "
            "workers: owner); remove it"
        ),
        (
            "5:130: limits[0].unknown: is for sends, and no route that the limit meets takes any (POST, "
            "workers: owner); remove it"
        ),
    ],
    "limit_unknown_bad": ['2:78: limits[0].unknown: "retry" is not known here; write report or repeat'],
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
