"""logs: what a container has written to stdout and stderr, each to ours."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given, read_int
from .output import STDERR, STDOUT, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import App


def logs(app: App, given: Given) -> int:
    """`logs`: lines are gathered while they come fast, so that a long log is not one write(2) a line."""
    tail = _tail(given["tail"])
    times, follow = given["timestamps"], given["follow"]
    lines = app.engine.logs(given.args[0], follow=follow, tail=tail, since=given["since"], until=given["until"])
    gathered: list[bytes] = []
    size, target = 0, STDOUT
    try:
        for line in lines:
            fd = STDERR if line.stream == "stderr" else STDOUT
            if fd != target or size > 1 << 16:
                write(target, b"".join(gathered))
                gathered, size, target = [], 0, fd
            data = line.text.encode("utf-8", "surrogateescape")
            gathered.append(f"{line.time} ".encode() + data if times else data)
            size += len(data)
            if follow:
                write(target, b"".join(gathered))
                gathered, size = [], 0
    finally:
        write(target, b"".join(gathered))
    return 0


def _tail(text: str) -> int:
    """-1 is all; docker takes every other text that is no number for all too, we do not."""
    if text == "all":
        return -1
    try:
        return max(-1, read_int(text))
    except ValueError as error:
        raise InvalidInput("invalid --tail", f"{text!r} {error}, or all") from None


LOGS = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Print what a container has written. Its stderr goes to stderr.",
    (
        ("follow", "f", "bool", False, "Go on printing as it comes, until the container stops"),
        ("since", "", "string", "", "Only from this time on (2024-05-01T12:30:00Z, or 10m for ten minutes ago)"),
        ("until", "", "string", "", "Only up to this time"),
        ("tail", "n", "string", "all", "Number of lines from the end"),
        ("timestamps", "t", "bool", False, "Show when each line was written"),
        ("details", "", "later", None, ""),
    ),
    logs,
    least=1,
    most=1,
    examples=(("The last ten lines, and what comes next", "nanocontainer logs -f -n 10 web"),),
)
