"""The attach protocol, both ends of it, over real sockets."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.container.attach import (
    BLOCK,
    ERRORS,
    EXITED,
    INPUT,
    INPUT_END,
    OUTPUT,
    WINDOW,
    Client,
    Session,
    listen,
)
from nanocontainer.errors import NanoError, NotRunning


@pytest.fixture
def ends() -> Iterator[tuple[Session, Client]]:
    session, far = Session.pair()
    client = Client(far)
    yield session, client
    session.close()
    client.close()


def received(client: Client) -> list[tuple[bytes, bytes]]:
    messages = []
    while (message := client.receive()) not in (None, (b"", b"")):
        assert message
        messages.append(message)
    return messages


def test_each_message_as_the_contract_has_it(ends: tuple[Session, Client]) -> None:
    session, client = ends
    session.send_stdin(b"text")
    session.resize(24, 80)
    session.signal(15)
    session.close_stdin()
    session.detach()
    assert received(client) == [(b"i", b"text"), (b"w", b"24x80"), (b"s", b"15"), (b"e", b""), (b"d", b"")]
    client.send(OUTPUT, b"out")
    client.send(ERRORS, b"err")
    client.send(EXITED, b"3")
    assert [session.receive() for _ in range(3)] == [("o", b"out"), ("r", b"err"), ("x", b"3")]


def test_the_end_of_either_side_is_seen(ends: tuple[Session, Client]) -> None:
    session, client = ends
    assert client.receive() is None
    client.close()
    assert session.receive() == ("", b"")
    session.send_stdin(b"nobody is there")  # no error: receive() tells it
    session.signal(9)
    other, far = Session.pair()
    other.close()
    assert Client(far).receive() == (b"", b"")


def test_last_words_are_received_although_our_own_were_not_read(ends: tuple[Session, Client]) -> None:
    """The kernel says ECONNRESET then, before it gives what was sent."""
    session, client = ends
    session.send_stdin(b"never read")
    client.send(OUTPUT, b"last words")
    client.send(EXITED, b"0")
    client.close()
    assert [session.receive() for _ in range(3)] == [("o", b"last words"), ("x", b"0"), ("", b"")]


def test_input_of_a_client_that_died_is_received(ends: tuple[Session, Client]) -> None:
    session, client = ends
    client.send(OUTPUT, b"never read")
    session.send_stdin(b"last words")
    session.close_stdin()
    session.close()
    assert client.receive() == (INPUT, b"last words")
    assert client.receive() == (INPUT_END, b"")
    assert client.receive() == (b"", b"")
    assert client.deaf


def test_input_stays_within_the_window(ends: tuple[Session, Client]) -> None:
    session, client = ends
    data = os.urandom(WINDOW * 3 + 7)
    got = b""
    sent = 0
    while sent < len(data) or len(got) < len(data):
        if sent < len(data) and session.room:
            part = data[sent : sent + min(session.room, 50_000)]
            session.send_stdin(part)
            sent += len(part)
        for kind, piece in received(client):
            assert kind == INPUT
            assert len(piece) <= BLOCK
            got += piece
            assert sent - len(got) <= WINDOW
            client.passed_on(len(piece))
        while select.select([session], [], [], 0)[0]:
            assert session.receive() == ("a", b"")
    assert got == data


def test_input_beyond_the_window_is_kept_and_its_end_comes_after_it(ends: tuple[Session, Client]) -> None:
    session, client = ends
    got = b""
    pid = os.fork()
    if pid == 0:  # the client's end: gives more than there is room for, as one who does not look at `room`
        session.send_stdin(b"x" * (WINDOW + 100_000))
        session.close_stdin()
        while session.receive()[0] != "x":
            pass
        os._exit(0)
    ended = False
    while not ended:
        select.select([client], [], [])
        for kind, piece in received(client):
            if kind == INPUT:
                got += piece
                client.passed_on(len(piece))
            else:
                assert kind == INPUT_END
                ended = True
    assert got == b"x" * (WINDOW + 100_000)
    client.send(EXITED, b"0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_few_words_about_few_keys(ends: tuple[Session, Client]) -> None:
    session, client = ends
    for _ in range(100):
        client.passed_on(1)
    assert select.select([session], [], [], 0)[0] == []


@given(st.lists(st.tuples(st.sampled_from([OUTPUT, ERRORS]), st.binary(min_size=1, max_size=2000))))
def test_a_queue_keeps_the_order_and_joins_small_messages(messages: list[tuple[bytes, bytes]]) -> None:
    session, far = Session.pair()
    client = Client(far)
    try:
        while not client.queue:  # fill the kernel's buffer
            client.send(EXITED, b"x" * BLOCK)
        before = client.queued
        for kind, data in messages:
            client.send(kind, data)
        changes = sum(1 for one, two in pairwise(messages) if one[0] != two[0])
        total = sum(len(data) for _, data in messages)
        assert len(client.queue) <= 1 + changes + 1 + total // (BLOCK - 2000)
        assert client.queued - before >= total
        got = {"o": b"", "r": b""}
        while client.queue or select.select([session], [], [], 0)[0]:
            kind, data = session.receive()
            client.flush()
            if kind != "x":
                got[kind] += data
        assert client.queued == 0
        for kind, letter in ((OUTPUT, "o"), (ERRORS, "r")):
            assert got[letter] == b"".join(data for one, data in messages if one == kind)
    finally:
        session.close()
        client.close()


def test_a_deaf_client_costs_nothing(ends: tuple[Session, Client]) -> None:
    session, client = ends
    while not client.queue:
        client.send(OUTPUT, b"x" * BLOCK)
    session.close()
    client.flush()
    assert client.deaf
    assert (client.queue, client.queued) == ([], 0)
    client.send(OUTPUT, b"x")
    assert client.queue == []


def test_connecting(tmp_path: Path) -> None:
    path = str(tmp_path / "attach.sock")
    listener = listen(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    with pytest.raises(BlockingIOError):
        Client.accept(listener)
    session = Session.connect(path, stdin=True)
    client = Client.accept(listener)
    assert not os.get_inheritable(client.fileno())
    assert not os.get_inheritable(session.fileno())
    assert client.receive() == (INPUT, b"")
    client.send(OUTPUT, b"hello")
    assert session.receive() == ("o", b"hello")
    client.close()
    session.close()
    listener.close()
    with pytest.raises(NotRunning, match="not running"):  # the file is still there, and nobody listens
        Session.connect(path)
    listen(path).close()  # and the next keeper replaces it


def test_connecting_where_nothing_is(tmp_path: Path) -> None:
    for path in (tmp_path / "attach.sock", tmp_path / "no" / "attach.sock"):
        with pytest.raises(NotRunning):
            Session.connect(str(path))
    with pytest.raises(NanoError, match="cannot listen"):
        listen(str(tmp_path / "no" / "attach.sock"))


def test_a_path_longer_than_an_address(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    path = str(directory / "attach.sock")
    before = len(os.listdir("/proc/self/fd"))
    listener = listen(path)
    session = Session.connect(path)
    client = Client.accept(listener)
    client.send(OUTPUT, b"hello")
    assert session.receive() == ("o", b"hello")
    for one in (session, client, listener):
        one.close()
    with pytest.raises(NotRunning):
        Session.connect(path)
    assert len(os.listdir("/proc/self/fd")) == before
