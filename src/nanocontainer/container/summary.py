"""What `info` tells: this host and what is in the state directory, in the form of docker's answer to GET /info."""

from __future__ import annotations

import os

from .. import __version__
from ..errors import NanoError
from ..kernel.facts import facts, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .lifecycle import Lifecycle


def summary(life: Lifecycle) -> dict[str, Any]:
    """Under docker's names where it has them. Needs no root; what is in the state directory is left out for who may
    not look into it."""
    try:
        host = facts(life.paths, life.boot)
    except (NanoError, OSError):
        host = probe(life.boot)
    controllers = sorted({*host.cgroup1, *host.controllers})
    return {
        "ServerVersion": __version__,
        **_counts(life),
        "Driver": "overlay2",
        "DockerRootDir": life.paths.state,
        "RunRoot": life.paths.run,
        "KernelVersion": host.release,
        "Architecture": host.machine,
        "OSType": "linux",
        "OperatingSystem": _operating_system(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "CgroupVersion": "2" if not host.cgroup1 else "hybrid",
        "CgroupRoot": host.cgroup2,
        "CgroupControllers": controllers,
        "SecurityOptions": [word for word, there in (("seccomp", host.seccomp), ("cgroupns", True)) if there],
        "Name": os.uname().nodename,
    }


def _counts(life: Lifecycle) -> dict[str, int]:
    paths = life.paths
    try:
        os.listdir(paths.state)
    except PermissionError:
        return {}
    except FileNotFoundError:
        pass  # the first image makes it
    containers = life.containers() if os.path.isdir(paths.containers) else []
    count = {status: sum(one.state.status == status for one in containers) for status in ("running", "paused")}
    return {
        "Containers": len(containers),
        "ContainersRunning": count["running"],
        "ContainersPaused": count["paused"],
        "ContainersStopped": len(containers) - sum(count.values()),
        "Images": len(life.images.list()) if os.path.isdir(paths.images) else 0,
    }


def _operating_system() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip('"')
    except OSError:
        pass
    return "Linux"
