"""A root file system only to look at: layers stacked by overlayfs without an upper directory, read-only.

Without upperdir overlayfs takes layers alone (docs.kernel.org/filesystems/overlayfs.html, "multiple lower layers"), and
nothing can be written. The upper directory of a container may be the topmost of them, also while the container runs:
what it changes from then on may be seen or not. index=off: with an index the kernel would refuse that.
"""

from __future__ import annotations

from ..errors import NanoError, reason
from ..kernel.abi import MOUNT_ATTR_RDONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.calls import Kernel


def view(kernel: Kernel, layers: Sequence[str], *, append: bool, spare: str) -> int:
    """Mount directories, top first, read-only; the open mount, which is nowhere in the tree of mounts yet and goes when
    it is closed (fsmount(2)). append: as in MountOverlay. spare: an empty directory: a single layer needs a second."""
    stack = [*layers, spare] if len(layers) < 2 else list(layers)
    try:
        fd = kernel.fsopen("overlay")
        try:
            if append:
                for path in stack:
                    kernel.fsconfig(fd, "lowerdir+", path)
            else:
                kernel.fsconfig(fd, "lowerdir", ":".join(stack))
            kernel.fsconfig(fd, "index", "off")
            kernel.fsconfig(fd, "source", "nanocontainer")
            kernel.fsconfig_create(fd)
            return kernel.fsmount(fd, MOUNT_ATTR_RDONLY)
        finally:
            kernel.close(fd)
    except OSError as error:
        raise NanoError("cannot mount the files to look at them", *reason(error)) from None
