"""Pseudo-terminals by open files alone (pty(7), ioctl_tty(2)): no name is looked up that could lie by then.

Whoever opens a devpts' ptmx gets the master end. The other end is opened from that (TIOCGPTPEER, Linux 4.13): under its
name in /dev/pts something else could lie, in a container that runs already.
"""

from __future__ import annotations

import os
import sys

from . import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .calls import Kernel


def open_peer(kernel: Kernel, master: int) -> int:
    """The other end of a new pair, from its master end, which is unlocked first (unlockpt(3)). Close-on-exec; does not
    become the controlling terminal."""
    kernel.ioctl(master, abi.TIOCSPTLCK, bytes(4))
    peer = kernel.ioctl(master, abi.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    assert isinstance(peer, int)
    return peer


def set_size(kernel: Kernel, terminal: int, rows: int, columns: int) -> None:
    """The size that programs are told from their first look on (TIOCSWINSZ); 0 is not known, and then nothing is
    set."""
    if rows and columns:
        size = b"".join(number.to_bytes(2, sys.byteorder) for number in (rows, columns, 0, 0))
        kernel.ioctl(terminal, abi.TIOCSWINSZ, size)
