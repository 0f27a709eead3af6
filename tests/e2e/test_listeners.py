"""`sluice up` at several addresses: with one gateway and with two, through a crash, and found by commands."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.authority import certify
from tests.e2e.deployment import Deployment, deployment
from tests.sluice.cli.command import SECRETS
from tests.waiting import until

pytestmark = pytest.mark.anyio

LISTEN = """listen:
  public: 127.0.0.1:{public}
  secure: {{address: "127.0.0.1:{secure}", cert: file:tls.crt, key: file:tls.key}}
  local: {{address: "unix:edge.sock", mode: 0600}}
"""


class Site:
    def __init__(self, deployed: Deployment, folder: Path, ports: dict[str, int]) -> None:
        self.deployed = deployed
        self.folder = folder
        self.ports = ports

    async def get(self, name: str, path: str = "/_sluice/healthz") -> httpx2.Response:
        """Over a connection of its own."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.folder / "edge.sock")) if name == "local" else None
        trusted: ssl.SSLContext | bool = False
        base = "http://localhost" if name == "local" else f"http://127.0.0.1:{self.ports[name]}"
        if name == "secure":
            trusted, base = ssl.create_default_context(cafile=str(self.folder / "tls.crt")), f"https{base[4:]}"
        async with httpx2.AsyncClient(
            base_url=base, transport=transport, trust_env=False, verify=trusted, timeout=15
        ) as client:
            return await client.get(path, headers={"connection": "close"})

    def edit(self, old: str, new: str) -> None:
        text = self.deployed.file.read_text()
        assert old in text
        self.deployed.file.write_text(text.replace(old, new))


@pytest.fixture
async def site(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Site]:
    ports = {name: free_port() for name in ("public", "secure", "admin", "laravel")}
    certify(short_folder)
    async with deployment(short_folder, (ports["public"], ports["laravel"])) as deployed:
        made = Site(deployed, short_folder, ports)
        made.edit(f"listen: 127.0.0.1:{ports['public']}\n", LISTEN.format(**ports))
        yield made


@pytest.mark.parametrize("processes", [1, 2])
async def test_each_listener_answers_also_after_a_gateway_was_killed(site: Site, processes: int) -> None:
    await site.deployed.start_up("--processes", str(processes))
    for name in ("public", "secure", "local"):
        assert (await site.get(name)).status_code == 200, name
    assert os.stat(site.folder / "edge.sock").st_mode & 0o777 == 0o600
    for name, file in zip(("tls.crt", "tls.key"), certify(site.folder, "next"), strict=True):
        os.replace(file, site.folder / name)

    async def is_renewed() -> bool:
        try:
            return all([(await site.get("secure")).status_code == 200 for _ in range(6)])
        except httpx2.ConnectError:
            return False

    await until(is_renewed, what="the new certificate in each process")
    killed = await site.deployed.kill_child("gateway-1" if processes == 2 else "gateway")
    await until(lambda: killed not in site.deployed.family(), what="the gateway to be gone")
    for name in ("local", "public", "secure"):
        assert (await site.get(name)).status_code == 200, f"{name}, with nobody refused"
    assert site.deployed.up is not None
    site.deployed.up.send_signal(signal.SIGTERM)
    await site.deployed.up.wait()
    assert not (site.folder / "edge.sock").exists()


async def test_commands_find_the_address_of_admin_whatever_it_is(site: Site) -> None:
    """Over TLS they believe in the certificate that the policies name, for whatever name it is, and in no other."""
    secure = f'{{address: "127.0.0.1:{site.ports["admin"]}", cert: file:tls.crt, key: file:tls.key}}'
    site.edit("console: {token", f"admin: {{listen: {secure}}}\nconsole: {{token")
    await site.deployed.start_up()
    assert (await site.get("public", "/_sluice/api/status")).status_code == 404
    code, out, err = await site.deployed.run("status", "--json")
    assert (code, err) == (0, "")
    listed = [(one["name"], one["address"], one["admin"]) for one in orjson.loads(out)["listeners"]]
    assert listed == [
        ("public", f"127.0.0.1:{site.ports['public']}", False),
        ("secure", f"127.0.0.1:{site.ports['secure']}", False),
        ("local", f"unix:{site.folder}/edge.sock", False),
        (f"127.0.0.1:{site.ports['admin']}", f"127.0.0.1:{site.ports['admin']}", True),
    ]
    token = site.folder / "token"
    token.write_text(SECRETS["SLUICE_CONSOLE_TOKEN"])
    said = "sluice: console, API and metrics answer at the addresses of admin.listen only\n"
    asked = ("circuit", "list", "--gateway", site.deployed.gateway, "--token-file", str(token))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sluice", *asked],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **SECRETS},
    )
    assert (done.returncode, done.stderr) == (2, said)
    (site.folder / "tls.crt").write_bytes(certify(site.folder, "another")[0].read_bytes())
    code, out, err = await site.deployed.run("status")
    assert code == 2
    assert err.startswith(f"sluice: https://127.0.0.1:{site.ports['admin']} cannot be trusted: ")


async def test_commands_find_a_gateway_that_has_only_a_unix_socket(site: Site) -> None:
    text = site.deployed.file.read_text()
    begin, end = text.index("listen:"), text.index("data:")
    site.deployed.file.write_text(f"{text[:begin]}listen: unix:edge.sock\n{text[end:]}")
    await site.deployed.sluice("up")

    async def answers() -> bool:
        code, _, _ = await site.deployed.run("status")
        return code == 0

    await until(answers, timeout=60, what=site.deployed.said)
    (site.folder / "token").write_text("x")
    code, out, _ = await site.deployed.run("status", "--json")
    assert [one["name"] for one in orjson.loads(out)["listeners"]] == [f"unix:{site.folder}/edge.sock"]
    assert code == 0


async def test_several_gateways_need_the_number_of_each_port(site: Site) -> None:
    site.edit("console: {token", "admin: {listen: '127.0.0.1:0'}\nconsole: {token")
    code, _, err = await site.deployed.run("gateway", "--processes", "2")
    assert (code, err) == (
        2,
        "sluice: listen: several gateway processes need one port; write its number instead of 0\n",
    )
