"""Classic BPF for seccomp: from a table "call number -> verdict" to a program.

The kernel runs the program at each system call, over struct seccomp_data: the number (offset 0), the architecture (4),
the instruction pointer (8), six arguments of 64 bits (16 + 8 * i). The machine has one 32-bit register, A. Jumps go
forward only; one with a condition reaches 255 instructions, a plain one all. There are at most 4096 instructions
(linux/filter.h, seccomp(2)).

So the program is written from its end: all targets of a jump are known when the jump is written, and where one is too
far a stepping stone is put in between. Numbers with equal verdicts are one interval, and a binary search finds it; the
intervals are weighted by how many calls they hold, so the common calls are found in few steps. Since Linux 5.11 the
kernel tries each number once at load time and never again runs the program for those that are always allowed; for that
it must see nothing but loads of number and architecture, AND, jumps and returns, which is all we use there.
"""

from __future__ import annotations

from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # (argument 0-5, EQ NE LT LE GE GT or MASKED_EQ, value or mask, masked value)
    Condition = tuple[int, str, int, int]
    # the first rule whose conditions are all true decides, else `otherwise`
    Rules = tuple[tuple[tuple[Condition, ...], int], ...]
    # an action (SECCOMP_RET_* with its data), or (bits of an argument that count: 32 or 64, rules, otherwise)
    Verdict = int | tuple[int, Rules, int]

LOAD, RETURN, AND, JUMP = 0x20, 0x06, 0x54, 0x05  # BPF_LD|W|ABS, BPF_RET|K, BPF_ALU|AND|K, BPF_JMP|JA
IF_EQUAL, IF_GREATER, IF_AT_LEAST = 0x15, 0x25, 0x35  # BPF_JMP|K with JEQ, JGT, JGE
MOST = 4096  # BPF_MAXINSNS
_LOW = 0xFFFFFFFF
_REACH = 254  # of a jump's offset; one below 255, for the stepping stone of its other target


class Writer:
    """A program being written from its end. A label is the number of instructions from there to the end, inclusive."""

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._returns: dict[int, int] = {}
        self._verdicts: dict[Verdict, int] = {}

    def _put(self, op: int, k: int, yes: int = 0, no: int = 0) -> int:
        self._code.append(op.to_bytes(2, "little") + bytes((yes, no)) + k.to_bytes(4, "little"))
        return len(self._code)

    def _near(self, label: int) -> int:
        """label, or a stepping stone to it, in reach of the next jump."""
        distance = len(self._code) - label
        if distance < _REACH:
            return label
        target = self._code[label - 1]
        if target[0] == RETURN:
            return self.ret(int.from_bytes(target[4:], "little"))
        return self._put(JUMP, distance)

    def ret(self, action: int) -> int:
        """The end of the judgement. One copy serves all jumps in its reach."""
        label = self._returns.get(action, 0)
        if not label or len(self._code) - label >= _REACH:
            label = self._returns[action] = self._put(RETURN, action)
        return label

    def jump(self, op: int, k: int, yes: int, no: int) -> int:
        """Compare A with k, go on at yes or no."""
        if yes == no:
            return yes
        yes = self._near(yes)
        no = self._near(no)
        here = len(self._code)
        return self._put(op, k, here - yes, here - no)

    def _step(self, op: int, k: int, then: int) -> int:
        """An instruction that does not jump itself: what comes next must stand right behind it."""
        if then != len(self._code):
            self._put(JUMP, len(self._code) - then)
        return self._put(op, k)

    def load(self, offset: int, then: int) -> int:
        """A word of struct seccomp_data into A, then go on."""
        return self._step(LOAD, offset, then)

    def compare(self, condition: Condition, bits: int, yes: int, no: int) -> int:
        """Judge one argument. 64 bits are compared by halves, the high one first (x86 and arm64 are little-endian)."""
        index, op, value, masked = condition
        low, high = 16 + 8 * index, 20 + 8 * index
        if op in ("NE", "LT", "LE"):  # the opposite of another one
            op = {"NE": "EQ", "LT": "GE", "LE": "GT"}[op]
            yes, no = no, yes
        if op == "MASKED_EQ":
            label = self._masked(low, value & _LOW, masked & value & _LOW, yes, no)
            if bits == 64:
                label = self._masked(high, value >> 32, (masked & value) >> 32, label, no)
            return label
        if yes == no:
            return yes
        kind = {"EQ": IF_EQUAL, "GT": IF_GREATER, "GE": IF_AT_LEAST}[op]
        label = self.load(low, self.jump(kind, value & _LOW, yes, no))
        if bits == 64:
            label = self.jump(IF_EQUAL, value >> 32, label, no)
            if op != "EQ":
                label = self.jump(IF_GREATER, value >> 32, yes, label)
            label = self.load(high, label)
        return label

    def _masked(self, offset: int, mask: int, value: int, yes: int, no: int) -> int:
        if mask == 0 or yes == no:  # no bit to look at: always equal
            return yes
        label = self.jump(IF_EQUAL, value, yes, no)
        return self.load(offset, self._step(AND, mask, label))

    def verdict(self, verdict: Verdict) -> int:
        """An action, or the judgement by arguments."""
        if isinstance(verdict, int):
            return self.ret(verdict)
        label = self._verdicts.get(verdict, 0)  # i386 and arm often repeat what the 64-bit ABI has
        if label:
            return label
        bits, rules, otherwise = verdict
        label = self.ret(otherwise)
        for conditions, action in reversed(rules):
            no, label = label, self.ret(action)
            for condition in reversed(conditions):
                label = self.compare(condition, bits, label, no)
        self._verdicts[verdict] = label
        return label

    def search(self, intervals: Sequence[tuple[int, Verdict]], weights: Sequence[int]) -> int:
        """Find the interval that A, the number, is in. intervals: (first number, verdict), ascending."""
        if len(intervals) == 1:
            return self.verdict(intervals[0][1])
        half, total, best = 0, sum(weights), 1
        for best in range(1, len(intervals)):
            half += weights[best - 1]
            if 2 * half + weights[best] > total:
                break
        right = self.search(intervals[best:], weights[best:])
        left = self.search(intervals[:best], weights[:best])
        return self.jump(IF_AT_LEAST, intervals[best][0], right, left)

    def bytes(self) -> bytes:
        """The program, as struct sock_filter[]."""
        if len(self._code) > MOST:
            raise InvalidInput(
                "cannot compile the seccomp profile", f"{len(self._code)} instructions, the kernel takes {MOST}",
                "use fewer rules with arguments",
            )  # fmt: skip
        return b"".join(reversed(self._code))


def intervals(table: dict[int, Verdict], otherwise: Sequence[tuple[int, Verdict]]) -> list[tuple[int, Verdict]]:
    """Merge single numbers into ranges of the numbers between them.

    otherwise: (first number, verdict) of the ranges, ascending, that hold where table has nothing.
    """
    edges = {first for first, _ in otherwise} | set(table) | {nr + 1 for nr in table}
    found: list[tuple[int, Verdict]] = []
    at = 0
    for edge in sorted(edges):
        if edge > _LOW:
            break
        while at + 1 < len(otherwise) and otherwise[at + 1][0] <= edge:
            at += 1
        verdict = table.get(edge, otherwise[at][1])
        if not found or found[-1][1] != verdict:
            found.append((edge, verdict))
    return found


def assemble(tables: Sequence[tuple[int, Sequence[tuple[int, Verdict]]]], foreign: int) -> bytes:
    """The whole program: (AUDIT_ARCH_* number, intervals from 0 on) of each ABI, the most used one first.

    foreign: the action for calls of any other architecture. InvalidInput where it gets too long for the kernel.
    """
    writer = Writer()
    entries = []
    for audit, ranges in reversed(tables):
        ends = [first for first, _ in ranges[1:]] + [1 << 32]
        # a range up to infinity holds no call that exists; from 1 << 30 on are those of x32, which hardly anybody makes
        sizes = [end - first if end < 1 << 30 else 1 for (first, _), end in zip(ranges, ends, strict=True)]
        label = writer.search(ranges, [size if size < MOST else 1 for size in sizes])
        entries.append((audit, writer.load(0, label)))
    label = writer.ret(foreign)
    for audit, entry in entries:
        label = writer.jump(IF_EQUAL, audit, entry, label)
    writer.load(4, label)
    return writer.bytes()
