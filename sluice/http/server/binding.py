"""Sockets that listen: bound before anything else starts, or inherited from whoever started us.

A unix socket's file that nobody listens on any more is replaced; one of a process that listens never is. Two that start
at once do not take it from each other, as its folder is locked meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from sluice.config import Listen
from sluice.config.listening import Listener, UnixSocket
from sluice.http.server.certificates import Certificate, Unusable
from sluice.http.server.draining import take_again
from sluice.observe.log import Log

LOG = Log("gateway")
INHERITED = "SLUICE_LISTENING"
"""The variable that names inherited sockets: by their address, the number of the open file."""
BACKLOG = 2048
_MAX_UNSENT = 128 * 1024
"""Bytes of an answer that the kernel keeps beyond what the client's machine has room for. Its own limit is 4 MiB: a few
hundred clients who read slowly would take more memory than all else, and of a container's share."""
_unserved: list[str] = []
_LOCKED_WITHIN, _LOCK_STEP = 2.0, 0.02
_PROBED_WITHIN = 1.0


class CannotListen(Exception):
    """The address cannot be bound; the message says why and what to do."""


@dataclass(slots=True)
class Bound:
    """A listener, and the socket on which it listens already."""

    listener: Listener
    socket: socket.socket
    certificate: Certificate | None = None
    file: os.stat_result | None = None
    """Of a unix socket that is ours alone: its file, which goes when we do."""

    def remove_file(self) -> None:
        """From now on nobody connects any more, but to a successor that has replaced the file already."""
        address, ours, self.file = self.listener.address, self.file, None
        if ours is not None and isinstance(address, UnixSocket):
            with contextlib.suppress(OSError):
                found = address.path.lstat()
                if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                    address.path.unlink()

    def close(self) -> None:
        self.remove_file()
        self.socket.close()


def bind(
    listeners: Sequence[Listener], *, shared: bool = False, inherited: Mapping[str, socket.socket] | None = None
) -> list[Bound]:
    """All of them, or none: raises CannotListen. `shared` as in `listening`; a unix socket cannot be shared so, only be
    inherited. Of `inherited` those are taken that are at an address of a listener.
    """
    given, bound = dict(inherited or {}), list[Bound]()
    try:
        for listener in listeners:
            certificate = _certificate(listener)
            known = given.pop(str(listener.address), None)
            one = Bound(listener, known, certificate) if known else _bind(listener, listeners, shared=shared)
            one.certificate = certificate
            bound.append(one)
    except CannotListen:
        for one in bound:
            one.close()
        raise
    _unserved[:] = given
    for address, left in given.items():
        LOG.warning("listener.not_served", address=address, cure="the policies name it no more: restart Sluice")
        left.close()
    return bound


def unserved() -> tuple[str, ...]:
    """The addresses at which whoever started this process listens, and where it answers nobody, as the policies name
    them no more."""
    return tuple(_unserved)


def _certificate(listener: Listener) -> Certificate | None:
    try:
        return Certificate(listener.name, listener.tls) if listener.tls else None
    except Unusable as error:
        raise CannotListen(f"cannot listen on {listener}: {error}") from None


def _bind(listener: Listener, all_of_them: Sequence[Listener], *, shared: bool) -> Bound:
    address = listener.address
    if isinstance(address, Listen):
        beside = any(it.port == address.port and ":" not in it.host for it in _of_tcp(all_of_them))
        return Bound(listener, listening(address.host, address.port, shared=shared, only_ipv6=beside))
    return Bound(listener, *_listening_on_file(address))


def _of_tcp(listeners: Sequence[Listener]) -> list[Listen]:
    return [one.address for one in listeners if isinstance(one.address, Listen)]


def listening(host: str, port: int, *, shared: bool = False, only_ipv6: bool = False) -> socket.socket:
    """A socket that listens already, so that a taken port is found out before anything else starts.

    `shared`: other processes of this user may listen there too, if they also share; the kernel spreads the connections.
    `only_ipv6`: of an IPv6 address, as another socket has the port of IPv4.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections inherit it
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT)
    if only_ipv6 and family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise _cannot(f"{host}:{port}", error) from None
    bound.setblocking(False)
    return bound


def _cannot(address: object, error: OSError) -> CannotListen:
    why = (error.strerror or str(error)).lower()
    return CannotListen(f"cannot listen on {address}: {why}; stop what listens there, or choose another address")


# --- unix sockets


def _listening_on_file(address: UnixSocket) -> tuple[socket.socket, None, os.stat_result]:
    path, bound = address.path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(path.parent):
            _remove_stale(address)
            bound.bind(str(path))
            path.chmod(address.mode)  # nobody can connect before it listens
            bound.listen(BACKLOG)
            found = path.lstat()
    except FileNotFoundError:
        bound.close()
        raise CannotListen(f"cannot listen on {address}: there is no folder {path.parent}; make it") from None
    except OSError as error:
        bound.close()
        raise _cannot(address, error) from None
    except CannotListen:
        bound.close()
        raise
    bound.setblocking(False)
    return bound, None, found


def _remove_stale(address: UnixSocket) -> None:
    """Raises CannotListen where somebody listens, or something else has the name."""
    path = address.path
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise CannotListen(f"cannot listen on {address}: it is there already and no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBED_WITHIN)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass  # somebody listens who does not keep up
    raise CannotListen(
        f"cannot listen on {address}: address already in use; stop what listens there, or choose another address"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Against others of us; after two seconds without it."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _LOCKED_WITHIN
        while time.monotonic() < deadline:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(number)


# --- from one process to the next


def to_inherit(bound: Sequence[Bound]) -> str:
    """What the variable says to a child that gets the open files of these."""
    return orjson.dumps({str(one.listener.address): one.socket.fileno() for one in bound}).decode()


def inherited() -> dict[str, socket.socket]:
    """The sockets, by address, on which whoever started us listens already; they go on listening when we end."""
    found: dict[str, socket.socket] = {}
    for address, number in orjson.loads(os.environ.pop(INHERITED, "") or "{}").items():
        found[address] = socket.socket(fileno=number)
        take_again(found[address])
    return found
