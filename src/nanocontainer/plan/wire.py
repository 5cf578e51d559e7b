"""What the two halves of an execution say to each other, over one SOCK_SEQPACKET pair.

      host                              inside (init)
      ----                              -------------
      Clone ──────────────────────────▶ born
      host step                         waits for "go", if host steps stand between Clone and its first step
      "go" ───────────────────────────▶
                                        inside steps
      waits, if host steps follow ◀──── "go"
      ...
      end of file ◀──────────────────── Exec succeeded: the pair is close-on-exec
      failure ◀──────────────────────── {"kind", "what", "why", "hint"}: a step failed, init is gone

A sync point is wherever two neighbours stand on different sides; nobody writes one down. A side that sees the other's
end of file while it waits knows that the other is dead.
"""

from __future__ import annotations

from ..lean import dumps, loads, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GO = b"go"
REFUSED = b"E"  # said by a program that is not ours any more (runtime/launcher.py): an errno in each byte
_SIZE = 32768


class Wire:
    """One end. Messages are at most 32 KiB; both ends are close-on-exec."""

    def __init__(self, sock: sockets.socket) -> None:
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple[Wire, Wire]:
        one, other = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def go(self) -> None:
        """Tell the other side that it is its turn. A dead other side is noticed by who waits for it."""
        try:
            self.sock.send(GO)
        except OSError:
            pass

    def say(self, words: dict[str, Any]) -> None:
        """Tell the other side something; a text in it is cut at 1,000 characters (6 bytes each at most). Nobody may
        be there to hear it."""
        data = dumps({key: value[:1000] if isinstance(value, str) else value for key, value in words.items()})
        try:
            self.sock.send(data.encode())
        except OSError:
            pass

    def wait(self) -> dict[str, Any] | bytes | bool:
        """The other side's next word: True for "go", False for its end, a dict for what it says; bytes for the errors
        of a last step that could not become the command."""
        while True:
            try:
                data = self.sock.recv(_SIZE)
            except ConnectionResetError:
                return False
            except InterruptedError:
                continue
            break
        if data == GO:
            return True
        if not data:
            return False
        if data[:1] == REFUSED:
            return data[1:]
        words: dict[str, Any] = loads(data.decode())
        return words
