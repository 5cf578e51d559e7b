"""The C halves of json behave as json does; open files travel over sockets."""

from __future__ import annotations

import json
import os
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nanocontainer import lean

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
@example("\udcff and \u2028")
@example({"a": [1, {"b": None}], "": []})
def test_dumps_as_json(value: object) -> None:
    text = lean.dumps(value)
    assert text == json.dumps(value)
    assert text.isascii()
    assert "\n" not in text


@given(values, st.text(alphabet=" \t\r\n", max_size=3), st.text(alphabet=" \t\r\n", max_size=3))
def test_loads_as_json(value: object, before: str, after: str) -> None:
    assert lean.loads(before + json.dumps(value, indent=1) + after) == value


@given(st.text(max_size=12) | st.text(alphabet='[]{}",:0123456789.eE+-truefalsn \\u', max_size=12))
@example("1 2")
@example("[1,")
@example("")
@example("  ")
@example("nul")
@example('{"a":1,}')
@example("\ufeff1")
@example("[" * 100)
@example("-")
def test_what_json_refuses_is_a_value_error(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            lean.loads(text)
    else:
        assert repr(lean.loads(text)) == repr(wanted)


def test_what_is_no_json_data_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        lean.dumps({"a": object()})


@pytest.mark.parametrize("count", [0, 1, 3])
def test_open_files_travel(count: int) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pipes = [os.pipe() for _ in range(count)]
    with one, other:
        lean.send_fds(one, b"here", tuple(write for _, write in pipes))
        data, fds = lean.recv_fds(other, 100, 4)
    assert data == b"here"
    assert len(fds) == count
    for fd, (read, write) in zip(fds, pipes, strict=True):
        assert not os.get_inheritable(fd)
        os.write(fd, b"x")
        assert os.read(read, 10) == b"x"
        for each in (fd, read, write):
            os.close(each)


def test_more_open_files_than_wanted_are_closed() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = len(os.listdir("/proc/self/fd"))
    with one, other:
        lean.send_fds(one, b"x", (0, 0, 0))
        _, fds = lean.recv_fds(other, 10, 2)
        for fd in fds:
            os.close(fd)
        assert len(fds) <= 2
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_is_empty() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.close()
    with other:
        assert lean.recv_fds(other, 10, 2) == (b"", ())
