"""The program of the resolver process: python -IS resolver_main.py FILE. See resolver.py.

FILE is the number of an open file that says what was handed on: directories, lock, listener, bound sockets.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(note: int) -> NoReturn:
    """Be the resolver until it is not needed any more."""
    import resource

    from nanocontainer.lean import loads, sockets
    from nanocontainer.network.resolver import MOST_CONNECTIONS, MOST_QUESTIONS, Resolver
    from nanocontainer.network.resolver_call import lock_path, socket_path
    from nanocontainer.network.resolver_sockets import Place
    from nanocontainer.paths import Paths

    held = loads(os.pread(note, 1 << 16, 0).decode())
    os.close(note)
    for fd in (held["lock"], held["listener"], *(fd for fd, _ in held["sockets"])):
        os.set_inheritable(fd, False)
    with open("/proc/self/comm", "w") as name:
        name.write("nanoc:dns")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = min(hard, 16384) if hard > 0 else 16384  # -1: no limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    paths = Paths(held["state"], held["run"])
    listener = sockets.socket(fileno=held["listener"])
    adopted = [(sockets.socket(fileno=fd), Place.from_dict(place)) for fd, place in held["sockets"]]
    resolver = Resolver(paths, listener, adopted, held["linger"])
    # a question has a socket for each server that was asked; networks and everything else have 200
    resolver.most = max(10, min(MOST_QUESTIONS, (files - MOST_CONNECTIONS - 200) // 4))
    try:
        resolver.run()
    finally:
        resolver.leave_all()
        for path in (socket_path(paths), lock_path(paths)):  # as long as we hold the lock nobody else makes them
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main(int(sys.argv[1]))
