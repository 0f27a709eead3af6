"""What docs/workers.md shows is what the gateway takes."""

from __future__ import annotations

import hmac
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from sessions.calls import CALLS, PREFIX
from sessions.keys import WORKER_ID
from sessions.states import STATES
from sluice.config import Secret, Signature
from sluice.http.call_signatures import CallClaim, claim_of, sign_call
from sluice.http.decode import Bounds, decode, types_of

PAGE = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0)
PATH, BODY = "/_sluice/workers/w1/beat", b'{"instance":"4f1c","sessions":{}}'


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def proves(headers: dict[str, str], path: str = PATH, body: bytes = BODY) -> bool:
    claim = claim_of([(name.encode(), value.encode()) for name, value in headers.items()], "POST", path)
    return isinstance(claim, CallClaim) and claim.is_proven_by(SIGNATURE, body, time.time())


def test_the_signature_that_it_names_is_the_right_one() -> None:
    (_, (_, value)) = sign_call(SIGNATURE, "POST", PATH, BODY, 1_700_000_000)
    assert f"`{value.decode()}`" in PAGE
    assert f"`{BODY.decode()}`" in PAGE


def test_the_signing_in_python_is_right() -> None:
    names: dict[str, Any] = {"hmac": hmac, "time": time}
    exec(example("python"), names)
    assert proves(names["sign"](b"my-secret-key", PATH, BODY))


def test_the_signing_in_node_is_right() -> None:
    call = f"console.log(JSON.stringify(sign('my-secret-key', {PATH!r}, {BODY.decode()!r})));"
    program = f"import {{ createHmac }} from 'node:crypto';\n{example('js')}\n{call}"
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert proves(orjson.loads(done.stdout))


def test_the_signing_in_a_shell_is_right() -> None:
    program = f'curl() {{ printf "%s\\n" "$@"; }}\nSECRET=my-secret-key GATEWAY=http://gateway\n{example("sh")}'
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=True, timeout=60)
    url, _, body, _, *headers = done.stdout.splitlines()
    assert (url, body) == (f"http://gateway{PATH}", BODY.decode())
    assert proves(dict(line.split(": ", 1) for line in headers if line != "-H"))


def test_the_calls_that_it_shows_are_those_that_there_are_and_can_be_read() -> None:
    shown = re.findall(r"^POST (\S+) +(\{.*?\})(?=\n  200)", PAGE, re.DOTALL | re.MULTILINE)
    assert [path.replace("w1", "{id}") for path, _ in shown] == [PREFIX + call.path for call in CALLS]
    for (_, body), call in zip(shown, CALLS, strict=True):
        decode(call.request, orjson.loads(body))


def test_the_states_are_those_that_there_are() -> None:
    table = PAGE.partition("### States")[2].partition("###")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(STATES)


@pytest.mark.parametrize(
    ("call", "field", "row"),
    [
        (0, "id", r"`id` \| 1 to {} of"),
        (0, "instance", r"`instance` \| 1 to {} characters"),
        (0, "url", r"`url` \| {} characters"),
        (0, "capacity", r"`capacity`, sessions in a beat \| {}"),
        (1, "sessions", r"`capacity`, sessions in a beat \| {}"),
    ],
)
def test_the_bounds_are_those_that_hold(call: int, field: str, row: str) -> None:
    (bounds,) = (one for one in types_of(CALLS[call].request)[field].__metadata__ if isinstance(one, Bounds))
    assert re.search(row.format(bounds.maximum), PAGE)


def test_the_form_of_an_id_is_the_one_that_holds() -> None:
    assert "A-Z a-z 0-9 . _ : [ ] -" in PAGE
    assert all(re.fullmatch(WORKER_ID, one) for one in "AZaz09._:[]-")
