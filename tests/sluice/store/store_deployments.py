"""Stores of several servers: a cluster, and a master that a sentinel names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from sluice.store import embedded
from tests.authority import Authority
from tests.sluice.store.store_servers import Server

PASSWORD = "p@ss word"
LONGEST = 30.0


@dataclass(frozen=True)
class Program:
    """What the servers are, and how they are reached."""

    name: str
    path: str
    tls: Authority | None = None

    def options(self, port: int) -> tuple[str, ...]:
        if self.tls is None:
            return ()
        cert, key = self.tls.issue("127.0.0.1")
        files = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(self.tls.cert))
        on = ("--tls-auth-clients", "no", "--tls-replication", "yes")
        return ("--port", "0", "--tls-port", str(port), *files, *on)

    def url(self, kind: str, login: str, rest: str) -> str:
        if self.tls is None:
            return f"redis{kind}://{login}@{rest}"
        return f"rediss{kind}://{login}@{rest}{'&' if '?' in rest else '?'}ssl_ca_certs={self.tls.cert}"


def valkey() -> Program:
    """The one of the package, which is built without TLS."""
    return Program("valkey", embedded.find_server())


def redis(folder: Path | None = None) -> Program:
    """The distribution's; behind TLS where it gets a folder for its certificates."""
    path = shutil.which("redis-server")
    assert path, "install it: apt-get install redis-server"
    return Program("redis", path, Authority(folder) if folder else None)


@dataclass
class Servers:
    """What a test kills is in `all`; `url` is for the user `sluice` where `allow` made him."""

    url: str
    all: list[Server]
    sentinel: Server | None = None
    _down: list[Server] = field(default_factory=list)

    def allow(self, rights: Sequence[str], of_sentinel: Sequence[str]) -> None:
        """On each server, as a list of users is not replicated; it outlives a restart."""
        for server in self.all:
            server.tell("ACL", "SETUSER", "sluice", "reset", "on", f">{PASSWORD}", *rights)
            server.tell("ACL", "SAVE")
        if self.sentinel is not None:
            self.sentinel.tell("ACL", "SETUSER", "sluice", "reset", "on", f">{PASSWORD}", *of_sentinel)

    def denied(self) -> list[str]:
        """What the user was not let do."""
        servers = [*self.all, *([self.sentinel] if self.sentinel else [])]
        lines = [line for server in servers for line in server.tell("ACL", "LOG")]
        told = [dict(zip(line[::2], line[1::2], strict=True)) if isinstance(line, list) else line for line in lines]
        return sorted({f"{_text(line, 'reason')} {_text(line, 'object')}" for line in told})


def _text(line: dict[bytes | str, bytes | str], name: str) -> str:
    value = line.get(name.encode(), line.get(name, ""))
    return value.decode() if isinstance(value, bytes) else value


@contextmanager
def cluster(
    folder: Path, free_port: Callable[[], int], program: Program, *options: str, replicas: int = 3
) -> Iterator[Servers]:
    """Three primaries, a third of the slots each, and so many replicas, of one each."""
    started: list[tuple[Server, int]] = []
    try:
        for number in range(3 + replicas):
            of_one = folder / str(number)
            of_one.mkdir()
            bus, port = free_port(), free_port()
            whole = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--repl-diskless-sync-delay", "0")
            tls = ("--tls-cluster", "yes") if program.tls else ()
            settings = (
                *program.options(port),
                *_users(of_one),
                *whole,
                *tls,
                "--cluster-node-timeout",
                "5000",
                *options,
            )
            server = Server(of_one, port, *settings, program=program.path)
            started.append((server, bus))
            server.start()
        _join(started)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server, _ in started[:2])
        yield Servers(program.url("+cluster", f"sluice:{_quoted()}", hosts), [server for server, _ in started])
    finally:
        for server, _ in started:
            server.kill()


def _join(started: list[tuple[Server, int]]) -> None:
    servers = [server for server, _ in started]
    for i, (server, bus) in enumerate(started):
        if i < 3:
            server.tell("CLUSTER", "ADDSLOTSRANGE", 16384 * i // 3, 16384 * (i + 1) // 3 - 1)
        servers[0].tell("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
    known = b"known_nodes:%d" % len(servers)
    formed(lambda: all(known in server.tell("CLUSTER", "INFO") for server in servers))
    for i, replica in enumerate(servers[3:]):
        replica.tell("CLUSTER", "REPLICATE", servers[i].tell("CLUSTER", "MYID"))
    formed(lambda: all(b"cluster_state:ok" in server.tell("CLUSTER", "INFO") for server in servers))
    formed(lambda: all(follows(replica) for replica in servers[3:]))


@contextmanager
def watched(folder: Path, free_port: Callable[[], int], program: Program, *options: str) -> Iterator[Servers]:
    """A master, a replica of it, and a sentinel that decides alone."""
    for name in ("one", "two", "watch"):
        (folder / name).mkdir()
    ports = [free_port() for _ in range(3)]
    soon = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5", *options)
    follow = ("--replicaof", "127.0.0.1", str(ports[0]))
    one, two = (
        Server(of_one, port, *program.options(port), *_users(of_one), *soon, *first, program=program.path)
        for of_one, port, first in ((folder / "one", ports[0], ()), (folder / "two", ports[1], follow))
    )
    settings = folder / "watch" / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor mymaster 127.0.0.1 {one.port} 1\n"
        "sentinel down-after-milliseconds mymaster 1000\n"
        "sentinel failover-timeout mymaster 3000\n"
    )
    sentinel = Server(folder / "watch", ports[2], *program.options(ports[2]), settings=settings, program=program.path)
    servers = [one, two, sentinel]
    try:
        for server in servers:
            server.start()
        formed(lambda: bool(sentinel.tell("INFO", "sentinel")["master0"]["slaves"] == 1))
        formed(lambda: follows(two))
        rest = f"127.0.0.1:{sentinel.port}/mymaster/0?sentinel_username=sluice&sentinel_password={_quoted()}"
        yield Servers(program.url("+sentinel", f"sluice:{_quoted()}", rest), [one, two], sentinel)
    finally:
        for server in servers:
            server.kill()


@contextmanager
def single(folder: Path, free_port: Callable[[], int], program: Program, *options: str) -> Iterator[Servers]:
    (folder / "only").mkdir()
    port = free_port()
    settings = (*program.options(port), *_users(folder / "only"), *options)
    server = Server(folder / "only", port, *settings, program=program.path)
    try:
        server.start()
        yield Servers(program.url("", f"sluice:{_quoted()}", f"127.0.0.1:{port}/0"), [server])
    finally:
        server.kill()


def _users(folder: Path) -> tuple[str, str]:
    file = folder / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    return "--aclfile", str(file)


def follows(replica: Server) -> bool:
    """Whether it follows its master."""
    try:
        about = replica.tell("INFO", "replication")
    except (RedisError, OSError):
        return False
    return about["role"] == "slave" and about["master_link_status"] == "up"


def formed(holds: Callable[[], bool]) -> None:
    """Waits for it."""
    deadline = time.monotonic() + LONGEST
    while not holds():
        assert time.monotonic() < deadline, "the servers did not find each other"
        time.sleep(0.02)


def _quoted() -> str:
    return "p%40ss%20word"
