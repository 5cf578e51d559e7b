"""--platform: whether the image that is here is one of that platform. Loaded only where the flag is given.

A name means one image in our store, as in docker's classic one: a pull for another platform gives the name to another
image. So what the name means is asked before a start, and not found out by a command that cannot be executed.
"""

from __future__ import annotations

from ..errors import NotFound
from ..image.manifest import Descriptor, Index, Platform, choose, parse_platform
from ..image.tiny import is_tiny

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image


def check(image: Image, wanted: str, name: str) -> None:
    """NotFound where the image of this name is of another platform than wanted (os/architecture[/variant]).

    An image that does not say what it is for is for all; a missing variant is any. InvalidInput.
    """
    platform = parse_platform(wanted)
    if not image.architecture:
        return
    variant = image.variant or (platform.variant if image.architecture == platform.architecture else "")
    there = Platform(image.os or "linux", image.architecture, variant)
    try:
        choose(Index((Descriptor("", image.id, 0, there),)), platform, name)
    except NotFound as error:
        if not is_tiny(name):
            raise
        why = f"it is made of this host's own programs, for {there}"
        raise NotFound(error.what, why, "leave --platform out, or name another image") from None


def check_pulled(image: Image, wanted: str, name: str) -> None:
    """The same for what a pull gave. Registries answer for what they have; the built-in image has one platform only."""
    if is_tiny(name):
        check(image, wanted, name)
