"""The C halves of json, socket and signal, without what their Python halves import.

json costs 5 ms at start (re), socket 4-6 (selectors, enum), signal 3-4 (enum); the C halves cost 0.2 each. This module
is their only user, so that one place knows what they lack. Where an interpreter has no C half we take the whole module.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
    import socket as sockets
    from collections.abc import Callable
    from typing import Any

    loads: Callable[[str], Any]
    dumps: Callable[[Any], str]
else:
    try:
        import _signal as signals
        import _socket as sockets
    except ImportError:
        import signal as signals
        import socket as sockets

    try:
        import _json

        class _Context:  # what json.JSONDecoder is to the C scanner
            strict = True
            object_hook = object_pairs_hook = None
            memo: dict = {}
            parse_float, parse_int = float, int
            parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__

        _scan = _json.make_scanner(_Context)
        _SPACE = " \t\n\r"

        def loads(text):
            """The value of a JSON text. ValueError where it is none."""
            try:
                start = len(text) - len(text.lstrip(_SPACE))
                value, end = _scan(text, start)
            except RecursionError:  # which is no ValueError, and means the same to who reads
                raise ValueError("JSON text that is nested too deeply") from None
            except Exception:  # the C scanner wants to raise an error class of the Python half: let that explain it
                from json import loads as explain

                return explain(text)
            if text[end:].strip(_SPACE):
                raise ValueError(f"more than one value in JSON text, at character {end}")
            return value

        def _default(value):
            raise TypeError(f"{type(value).__name__} is not JSON data")

        _escape = _json.encode_basestring_ascii
        _encode = _json.make_encoder({}, _default, _escape, None, ": ", ", ", False, False, True)

        def dumps(value):
            """A compact JSON text, in ASCII, on one line."""
            if isinstance(value, str):
                return _escape(value)
            return "".join(_encode(value, 0))
    except (ImportError, TypeError):
        from json import dumps, loads

__all__ = ["at_path", "dumps", "exit_code", "loads", "recv_fds", "send_fds", "signals", "sockets"]

_LONGEST = 107  # bytes of a path in struct sockaddr_un, beside its end (unix(7))


def at_path(path: str, call: Callable[[str], None]) -> None:
    """bind or connect, also where the path is longer than an address may be: /proc/self/fd/N is its directory then."""
    if len(os.fsencode(path)) <= _LONGEST:
        call(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def send_fds(sock: sockets.socket, data: bytes, fds: tuple[int, ...], flags: int = 0) -> None:
    """One message with open files attached (SCM_RIGHTS, unix(7)). data must not be empty. flags: of sendmsg(2)."""
    packed = b"".join(fd.to_bytes(4, sys.byteorder, signed=True) for fd in fds)
    sock.sendmsg([data], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, packed)] if fds else [], flags)


def recv_fds(sock: sockets.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, tuple[int, ...]]:
    """The counterpart of send_fds: data (empty at the end) and at most `most` open files, close-on-exec. flags: more of
    recvmsg(2)."""
    data, extra, _, _ = sock.recvmsg(size, sockets.CMSG_SPACE(4 * most), sockets.MSG_CMSG_CLOEXEC | flags)
    fds: list[int] = []
    for level, kind, packed in extra:
        if level == sockets.SOL_SOCKET and kind == sockets.SCM_RIGHTS:
            whole = len(packed) - len(packed) % 4
            fds += [int.from_bytes(packed[i : i + 4], sys.byteorder, signed=True) for i in range(0, whole, 4)]
    for fd in fds[most:]:
        os.close(fd)
    return data, tuple(fds[:most])


def exit_code(status: int) -> int:
    """What wait(2) says of an end, as shells count it: the program's own code, or 128 + n where signal n ended it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
