"""Lists of system calls as people read them: the housekeeping left out, repetitions said once.

A step that hides ten files makes the same four calls ten times: the first four are shown, then what differed in the
others. Every single call is in --explain=json.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..plan.explanation import ShownCall

QUIET = frozenset(("close", "recvfrom", "setsockopt", "getpid", "geteuid", "getrandom", "fstat"))
_LONGEST = 6  # calls that may be repeated together
_SHORT = 50  # characters of what differs
_LEAST = 3  # lines that must be saved


def lines(calls: Sequence[ShownCall]) -> list[str]:
    """Calls, one a line; "…" begins a line that stands for several."""
    heard = [call for call in calls if call.name not in QUIET] or list(calls)
    shown: list[str] = []
    at = 0
    while at < len(heard):
        length, times = _repeated(heard, at)
        shown += [line for call in heard[at : at + length] for line in _text(call)]
        if times > 1:
            shown.append(_again(heard[at : at + length * times], length))
        at += length * times
    return shown


def left_out(calls: Sequence[ShownCall]) -> list[str]:
    """The names of calls that lines() does not show."""
    return sorted({call.name for call in calls if call.name in QUIET})


def _text(call: ShownCall) -> list[str]:
    if call.name != "nft":
        return [call.text]
    script = call.text.split("\n")
    return ["nft -f -     (one netlink transaction)", *(f"  {line}" for line in script)]


def _repeated(calls: Sequence[ShownCall], at: int) -> tuple[int, int]:
    """(how many calls from here on are done again, how often in all): the way that saves most lines, or (1, 1)."""
    best, saved = (1, 1), _LEAST - 1
    for length in range(1, _LONGEST + 1):
        times = 1
        while _same(calls, at, at + length * times, length):
            times += 1
        if length * (times - 1) - 1 > saved or (times > 2 and length * (times - 1) - 1 == saved):
            best, saved = (length, times), length * (times - 1) - 1
    return best


def _same(calls: Sequence[ShownCall], one: int, other: int, length: int) -> bool:
    """Whether two stretches make the same calls, but for one argument."""
    if other + length > len(calls):
        return False
    pairs = list(zip(calls[one : one + length], calls[other : other + length], strict=True))
    if any(a.name != b.name or a.result != b.result or len(a.args) != len(b.args) or a.name == "nft" for a, b in pairs):
        return False
    differing = {(x, y) for a, b in pairs for x, y in zip(a.args, b.args, strict=True) if x != y}
    return len(differing) == 1 and all(len(y) <= _SHORT for _, y in differing)


def _again(calls: Sequence[ShownCall], length: int) -> str:
    """"… the same for ..." with what differs from the first time."""
    others = []
    for start in range(length, len(calls), length):
        for a, b in zip(calls[:length], calls[start : start + length], strict=True):
            others += [y for x, y in zip(a.args, b.args, strict=True) if x != y]
    return f"… and the same for {', '.join(dict.fromkeys(others))}"
