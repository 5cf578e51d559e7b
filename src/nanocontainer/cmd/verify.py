"""`image verify`: every byte of the images that are here, held against its digest again."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given
from .output import STDOUT, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.verify import Verdict
    from .main import App

_COLOURS = {"proven": "32", "plausible": "33", "damaged": "31"}


def verify(app: App, given: Given) -> int:
    """`image verify [IMAGE...]`: 1 where something is damaged."""
    if given["format"] not in ("", "json"):
        raise InvalidInput("invalid --format", f"{given['format']!r} is not json")
    verdicts = app.engine.verify_images(given.args)
    if given["format"] == "json":
        import json

        for verdict in verdicts:
            out(json.dumps({"Id": verdict.image.id, "Names": verdict.image.names, "Result": verdict.result,
                            "Checks": [check.as_dict() for check in verdict.checks]}) + "\n")  # fmt: skip
    else:
        out("".join(_told(verdict, given["quiet"]) for verdict in verdicts))
        if not given["quiet"]:
            out(_policy())
    return int(any(verdict.result == "damaged" for verdict in verdicts))


def _told(verdict: Verdict, quiet: bool) -> str:
    image = verdict.image
    name = _name(verdict)
    if quiet:
        return f"{name}\n" if verdict.result == "damaged" else ""
    lines = [f"{name}  {image.id[7:19]}  {_coloured(verdict.result)}"]
    for check in verdict.checks:
        note = f"  {check.note}" if check.note else ""
        lines.append(f"  {_coloured(check.result.ljust(9))}  {check.part:13}  {check.digest[7:19]}{note}")
    if verdict.result == "damaged":
        lines.append(f"  mend it: nanocontainer rmi -f {image.id[7:19]}, and pull it again")
    return "\n".join(lines) + "\n\n"


def _name(verdict: Verdict) -> str:
    from ..image.reference import familiar

    names = verdict.image.names
    return familiar(names[0]) if names else "<none>"


def _coloured(text: str) -> str:
    from .output import colour

    return f"\x1b[{_COLOURS[text.strip()]}m{text}\x1b[0m" if colour(STDOUT) else text


def _policy() -> str:
    """What a pull asks for beside right digests."""
    from ..image.policy import PLACES, read_policy

    policy = read_policy()
    if not policy.file:
        return f"Signatures: a pull asks for none (there is no {PLACES[-1]}).\n"
    kinds = {one.kind for table in (policy.docker.values()) for required in [table] for one in required}
    kinds |= {one.kind for one in policy.default}
    asked = "some of its scopes want signatures" if "sigstoreSigned" in kinds else "it wants none"
    return f"Signatures: pulls follow {policy.file}; {asked}.\n"


VERIFY = Command(
    "verify",
    "[OPTIONS] [IMAGE...]",
    "Hold every byte of images against its digest again, of all images where none is named. Exit code 1: damage.",
    (
        ("format", "", "string", "", "'json': one object for each image"),
        ("quiet", "q", "bool", False, "Only the names of damaged images"),
    ),
    verify,
)
