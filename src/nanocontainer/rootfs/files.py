"""/etc/hosts, /etc/hostname, /etc/resolv.conf: files of the container, kept beside it and bound into its /etc.

They are not written into the image's tree: they are this container's, change at each start, and do not show in a diff.
"""

from __future__ import annotations

from ..paths import remove_tree
from ..plan.step import Step, World, document, path_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Residue, Side


class WriteFile(Step):
    """A file that the container finds in its /etc: its name, its neighbours, its name servers."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    path: str
    content: str

    def do(self, world: World) -> None:
        world.kernel.write_file(self.path, self.content.encode(), create=True)

    def explain(self) -> str:
        return (
            f"Write {self.path}, which is bound into the container's /etc in a moment, and is not part of the "
            "image (open(2), write(2))."
        )

    def shell(self) -> str:
        return document(self.path, self.content)

    def undone(self) -> str:
        return f"rm -f {path_word(self.path)}"

    def undo(self, world: World) -> None:
        """The file is deleted."""
        try:
            world.kernel.unlink(self.path)
        except FileNotFoundError:
            pass
        except IsADirectoryError:  # something else in its place
            remove_tree(self.path)
