"""How the resolver process is found and spoken to: a lock that says that it lives, a socket that it listens on.

networks/.dns.lock is held (flock(2)) by the resolver as long as it lives: however it dies, the kernel lets go. On
dns.sock in the run directory, of kind SOCK_SEQPACKET (unix(7)), it takes one word and answers one:

    {"linger": 5, "networks": ["mynet"]}  →  {}                      it serves all networks that have names
                                             {"what", "why", "hint"}  it does not serve mynet
                                             (end of file)            it has ended; who needs it starts another

A word without networks only asks it to look again: whether it is still needed.
"""

from __future__ import annotations

from ..errors import Busy, NanoError
from ..lean import at_path, dumps, loads, sockets
from ..paths import Paths, is_locked

_SEQPACKET = sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC
_SIZE = 4096
PATIENCE = 10.0  # seconds that a resolver has to answer; it is at most loading its library, 0.2 s
_UNHURT = 1.0  # the same, for who takes something down and must not hang on it


def lock_path(paths: Paths) -> str:
    return f"{paths.networks}/.dns.lock"


def socket_path(paths: Paths) -> str:
    return f"{paths.run}/dns.sock"


def runs(paths: Paths) -> bool:
    """Whether a resolver lives, or is just being started."""
    return is_locked(lock_path(paths))


def ask(paths: Paths, networks: tuple[str, ...], linger: int, patience: float = PATIENCE) -> bool:
    """Make the resolver serve some networks. False: there is none. NanoError: it cannot, in its own words."""
    return _said(paths, networks, linger, patience) is not None


def trouble(paths: Paths) -> str:
    """What a resolver has had trouble with since it started that it should not have; empty where all is well."""
    return str((_said(paths, (), -1, PATIENCE) or {}).get("trouble", ""))


def _said(paths: Paths, networks: tuple[str, ...], linger: int, patience: float) -> dict[str, str] | None:
    """The resolver's answer; None where there is none, or it has just ended."""
    sock = sockets.socket(sockets.AF_UNIX, _SEQPACKET)
    try:
        sock.settimeout(patience)
        try:
            at_path(socket_path(paths), sock.connect)
            sock.send(dumps({"networks": networks, "linger": linger}).encode())
            answer = sock.recv(_SIZE)
        except (FileNotFoundError, ConnectionError, NotADirectoryError):
            return None
        except TimeoutError:
            why = f"it has not answered for {patience:g} seconds"
            raise Busy("the resolver does not answer", why, "kill the process nanoc:dns: it is started anew") from None
    finally:
        sock.close()
    if not answer:
        return None
    said: dict[str, str] = loads(answer.decode())
    if "what" in said:
        raise NanoError(said["what"], said.get("why", ""), said.get("hint", ""))
    return said


def tell(paths: Paths) -> None:
    """Let the resolver look again: whether it is still needed, and whether the firewall still has what it put there.
    When it is not needed any more it has ended when this returns. No harm where there is none, or a sick one."""
    try:
        ask(paths, (), -1, _UNHURT)
    except (NanoError, OSError):
        pass
