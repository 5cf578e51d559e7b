"""Which form new layers get: one file with a file system in it, or a directory; and how the one becomes the other.

Where the kernel mounts EROFS from a file (Linux 6.12), on the file system that the layers are on, a layer is one file
(erofs_layer.py): a pull is many times faster, and removing an image is an unlink. Elsewhere it is a directory. Both can
stand in one image, and overlayfs makes no difference between them.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput
from ..kernel.facts import facts
from ..plan.journal import boot_id
from .claims import FORMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .store import ImageStore


def chosen(store: ImageStore) -> str:
    """What the store is told, else the environment (NANOCONTAINER_LAYERS), else what this host can."""
    form = store.form or os.environ.get("NANOCONTAINER_LAYERS", "")
    if form:
        return checked(form)
    return "erofs" if os.geteuid() == 0 and facts(store.paths, boot_id()).erofs else "directory"


def checked(form: str) -> str:
    """The name of a form, from outside."""
    if form not in FORMS:
        raise InvalidInput(f"unknown form of layers {form!r}", f"there are {' and '.join(FORMS)}")
    return form
