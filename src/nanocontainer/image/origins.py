"""Where a pulled image's blobs still lie as they were pulled: in the registries that it came from.

The store keeps layers plain, and no compressor is known to give back the bytes that another one wrote. Who pushes a
pulled image to another registry therefore fetches them once more, and the image keeps its digest there: what was pinned
or signed stays so. They are as little trusted as at a pull (digested), and where no registry has them any more the
layers are packed anew.
"""

from __future__ import annotations

from ..errors import NanoError, Unreachable
from .pack import Kept
from .reference import parse_reference
from .registry import Access
from .repository import Repository
from .streams import ahead, digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .manifest import Descriptor
    from .model import Image
    from .reference import Reference


class Origins:
    """The repositories that an image was pulled from or pushed to. May be used by several threads at once; `close`."""

    def __init__(self, image: Image, target: Reference, access: Access) -> None:
        """target: where it is pushed to, which is no origin. access: of it, a command line's words are for it alone."""
        names = {parse_reference(digest).name for digest in image.digests} - {target.name}
        own = Access(state=access.state, authfile=access.authfile, pause=access.pause, tries=min(access.tries, 2))
        self._open: list[Repository] = []
        self._lost: list[Repository] = []
        for name in sorted(names):
            try:
                self._open.append(Repository(parse_reference(f"{name}@{image.manifest}"), own))
            except NanoError:
                continue  # blocked meanwhile (registries.conf)

    def close(self) -> None:
        for repository in self._open:
            repository.close()

    def kept(
        self, one: Descriptor, directory: str, through: Callable[[Iterator[bytes]], Iterator[bytes]]
    ) -> Kept | None:
        """That blob, put away on the disk of a directory; None where nobody has it. through: sees the bytes come."""
        for repository in [each for each in self._open if each not in self._lost]:
            chunks = digested(repository.blob(one.digest, one.size, 0, lambda: None), one.digest, "a blob", one.size)
            try:
                return Kept(ahead(through(chunks)), directory, "a layer as it was pulled")
            except Unreachable:
                self._lost.append(repository)  # other layers need not wait for it
            except NanoError:
                continue
        return None
