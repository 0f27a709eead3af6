"""Sockets that listen: files of unix sockets, IPv6 beside IPv4, all or none, and from one process to the next."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.config import Listen
from sluice.config.listening import Listener, UnixSocket, at
from sluice.http.server.binding import INHERITED, Bound, CannotListen, bind, inherited, to_inherit, unserved
from tests.heard import Heard


@pytest.fixture(autouse=True)
def nothing_left_unserved() -> Iterator[None]:
    """In this process, for the tests of others."""
    yield
    bind([])


def a_socket(folder: Path, mode: int = 0o660) -> Listener:
    return at(UnixSocket(folder / "edge.sock", mode))


def connect(listener: Listener) -> None:
    assert isinstance(listener.address, UnixSocket)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(listener.address.path))


def close(bound: list[Bound]) -> None:
    for one in bound:
        one.close()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_file_has_its_mode_and_goes_with_us(short_folder: Path, mode: int) -> None:
    listener = a_socket(short_folder, mode)
    bound = bind([listener])
    assert (short_folder / "edge.sock").stat().st_mode & 0o777 == mode
    connect(listener)
    close(bound)
    assert list(short_folder.iterdir()) == []


def test_a_file_on_which_nobody_listens_is_replaced(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(short_folder / "edge.sock"))
        killed.listen()
    listener = a_socket(short_folder)
    bound = bind([listener])
    connect(listener)
    close(bound)


def test_a_file_on_which_somebody_listens_stays(short_folder: Path) -> None:
    listener = a_socket(short_folder)
    first = bind([listener])
    with pytest.raises(CannotListen) as caught:
        bind([listener])
    assert str(caught.value) == (
        f"cannot listen on unix:{short_folder}/edge.sock: address already in use; stop what listens there, or choose "
        "another address"
    )
    connect(listener)
    close(first)


def test_what_is_no_socket_stays(short_folder: Path) -> None:
    (short_folder / "edge.sock").write_text("mine")
    with pytest.raises(CannotListen) as caught:
        bind([a_socket(short_folder)])
    assert str(caught.value) == (
        f"cannot listen on unix:{short_folder}/edge.sock: it is there already and no socket; choose another path"
    )
    assert (short_folder / "edge.sock").read_text() == "mine"


def test_a_folder_that_is_not_there(short_folder: Path) -> None:
    with pytest.raises(CannotListen) as caught:
        bind([a_socket(short_folder / "run")])
    assert str(caught.value) == (
        f"cannot listen on unix:{short_folder}/run/edge.sock: there is no folder {short_folder}/run; make it"
    )


def test_of_many_that_start_at_once_beside_a_stale_file_one_has_it(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(short_folder / "edge.sock"))
        killed.listen()
    listener, won, lost = a_socket(short_folder), list[list[Bound]](), list[str]()
    begin = threading.Barrier(8)

    def start() -> None:
        begin.wait()
        try:
            won.append(bind([listener]))
        except CannotListen as error:
            lost.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    connect(listener)
    close(won[0])


def test_a_successor_that_has_replaced_the_file_keeps_it(short_folder: Path) -> None:
    listener = a_socket(short_folder)
    old = bind([listener])
    (short_folder / "edge.sock").unlink()
    new = bind([listener])
    close(old)
    connect(listener)
    close(new)


def test_ipv6_beside_ipv4_on_one_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    bound = bind([at(Listen("0.0.0.0", port)), at(Listen("::", port))])
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()
    close(bound)
    alone = bind([at(Listen("::", port))])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    close(alone)


def test_all_are_bound_or_none(short_folder: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            bind([a_socket(short_folder), at(Listen("127.0.0.1", port))])
    assert list(short_folder.iterdir()) == []


def test_a_child_has_the_sockets_that_are_still_in_the_policies(
    short_folder: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    kept, gone = a_socket(short_folder), at(Listen("127.0.0.1", free_port()))
    parent = bind([kept, gone])
    copies = [replace(one, socket=one.socket.dup()) for one in parent]  # as its child has them
    monkeypatch.setenv(INHERITED, to_inherit(copies))
    for copy in copies:
        copy.socket.detach()
    added = at(Listen("127.0.0.1", free_port()))
    named = Listener("local", kept.address)
    child = bind([named, added], inherited=inherited())
    assert [one.listener for one in child] == [named, added]
    assert INHERITED not in os.environ
    assert [fields["address"] for message, fields in heard.lines if message == "listener.not_served"] == [
        str(gone.address)
    ]
    assert unserved() == (str(gone.address),)
    close(child)
    connect(kept)  # the parent still listens, and its file is still there
    close(parent)
