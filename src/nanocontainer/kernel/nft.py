"""Run nftables commands: one script, one transaction; all of it takes effect or nothing.

The contract is nftables' text language (nft(8)), because a person can read it and a step's shell line can contain it.
Text becomes netlink messages in libnftables, which we call through ctypes (0.5 ms to load, 0.2-0.7 a script); where
only the program is there, `nft -f -` does the same (5 ms).

A context of the library holds a netlink socket, so each process makes its own, once: two processes on one socket would
read each other's answers. It is not freed: when such a socket is closed the kernel first finishes what it has to delete
(10-20 ms, nft_rcv_nl_event), which a process that ends can wait for, but nobody else should.
"""

from __future__ import annotations

import ctypes
import os

from ..errors import NanoError, NotPermitted, Unsupported, denied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_library: Any = None  # False: there is none
_context: tuple[int, ctypes.c_void_p] | None = None  # and the pid of the process whose it is


def run(script: str) -> str:
    """Run a script as one transaction; what it prints. NanoError with nft's own message where it is refused."""
    global _library
    if _library is None:
        _library = _load() or False
    failed, output, error = _by_library(_library, script) if _library else _by_program(script)
    if failed:
        raise _refused(script, error)
    return output


def _load() -> Any:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def _by_library(library: Any, script: str) -> tuple[bool, str, str]:
    global _context
    if _context is None or _context[0] != os.getpid():
        _context = (os.getpid(), _new_context(library))
    context = _context[1]
    failed = library.nft_run_cmd_from_buffer(context, script.encode()) != 0
    output = library.nft_ctx_get_output_buffer(context) or b""
    error = library.nft_ctx_get_error_buffer(context) or b""
    return failed, output.decode(errors="replace"), error.decode(errors="replace")


def _new_context(library: Any) -> ctypes.c_void_p:
    """A context that keeps what it prints. Its socket is not close-on-exec: it has the lowest number that was free."""
    number = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.close(number)
    made = library.nft_ctx_new(0)
    if not made:
        raise NanoError("cannot set firewall rules", "libnftables has no memory or no netlink socket")
    try:
        os.set_inheritable(number, False)
    except OSError:
        pass  # it is another one in this version
    context = ctypes.c_void_p(made)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    return context


def _by_program(script: str) -> tuple[bool, str, str]:
    """The same with nft(8). Its input and outputs are memory files: no pipe can fill up."""
    files = [os.memfd_create(name) for name in ("script", "output", "error")]
    try:
        os.write(files[0], script.encode())
        os.lseek(files[0], 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
        try:
            pid = os.posix_spawnp("nft", ["nft", "-f", "-"], os.environ, file_actions=actions)
        except FileNotFoundError:
            why = "nftables is not installed on this host"
            raise Unsupported("cannot set firewall rules", why, "install it: apt install nftables") from None
        _, status = os.waitpid(pid, 0)
        output, error = (os.pread(fd, 1 << 24, 0).decode(errors="replace") for fd in files[1:])
        return status != 0, output, error
    finally:
        for fd in files:
            os.close(fd)


def _refused(script: str, error: str) -> NanoError:
    """nft's message ("file:LINE:2-3: Error: text", then the line with marks below it) as one of ours."""
    said = next((line for line in error.splitlines() if "Error: " in line), "")
    place, _, why = said.partition("Error: ")  # the library has no place to tell
    number = place.split(":")[1] if place.count(":") > 1 else ""
    lines = script.splitlines()
    if number.isdigit() and 0 < int(number) <= len(lines):
        why += f", in: {lines[int(number) - 1].strip()}"
    why = why or error.strip() or "nft failed without a word"
    if "Operation not permitted" in error:
        return NotPermitted("cannot set firewall rules", why, denied())
    if "not supported" in error:
        return Unsupported("cannot set firewall rules", why, "the kernel needs nf_tables with inet NAT (Linux 5.2)")
    return NanoError("cannot set firewall rules", why)
