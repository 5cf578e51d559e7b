"""What this host's kernel and programs can do for us: asked where that is harmless, and not concluded from a version.

Each question is answered "yes", or "no" with what is missing; some can only be put by root. info shows the answers.
"""

from __future__ import annotations

import errno
import os

from ..errors import NanoError
from ..kernel.bpf import DEFAULT_RULES, load_device_program
from ..kernel.calls import Kernel
from ..kernel.facts import Facts, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def features() -> dict[str, str]:
    """Feature → "yes", "no: what is missing", or "unknown: ..."."""
    host, kernel = probe(), Kernel()
    return {
        "overlayfs": _said("overlay" in host.filesystems, "modprobe overlay, as root"),
        "nftables": _tried(lambda: kernel.nft("list tables\n")),
        "clone into cgroup": _said(bool(host.cgroup2) and host.since(5, 7), _no_cgroup(host)),
        "seccomp": _said(host.seccomp, "the kernel is built without it"),
        "eBPF device rules": _tried(lambda: os.close(load_device_program(kernel, DEFAULT_RULES))),
        "EROFS from a file": _tried(lambda: _erofs(kernel, __file__)),
    }


def _said(there: bool, missing: str) -> str:
    return "yes" if there else f"no: {missing}"


def _tried(question: Callable[[], object]) -> str:
    if os.geteuid() != 0:
        return "unknown: only root can ask"
    try:
        question()
    except NanoError as error:
        return f"no: {error.why or error.what}"
    except OSError as error:
        return f"no: {error.strerror}"
    return "yes"


def _no_cgroup(host: Facts) -> str:
    return "it needs Linux 5.7" if host.cgroup2 else "no cgroup2 hierarchy is mounted"


def _erofs(kernel: Kernel, path: str) -> None:
    """Whether erofs takes a regular file as its source (Linux 6.12, EROFS_FS_BACKED_BY_FILE): one that does finds that
    this file is no image (EINVAL), one that does not wants a block device (ENOTBLK)."""
    try:
        fd = kernel.fsopen("erofs")
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise OSError(error.errno, "the kernel does not know erofs, nor can it load the module") from None
        raise
    try:
        kernel.fsconfig(fd, "source", path)
        kernel.fsconfig_create(fd)
    except OSError as error:
        if error.errno == errno.ENOTBLK:
            raise OSError(error.errno, "it needs a block device before Linux 6.12") from None
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
