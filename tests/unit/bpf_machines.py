"""The kernel's two BPF machines, as far as our programs use them: tests run filters without loading them."""

from __future__ import annotations

import struct

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028  # linux/audit.h: AUDIT_ARCH_*


class Classic:
    """A seccomp filter (struct sock_filter[]). Refuses what the kernel refuses (seccomp_check_filter)."""

    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("<HBBI", program))
        assert 0 < len(self.code) <= 4096 and self.code[-1][0] == 0x06
        for at, (op, yes, no, k) in enumerate(self.code):
            assert op in (0x20, 0x06, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45), f"{at}: instruction {op:#x}"
            if op == 0x20:
                assert k % 4 == 0 and k < 64
            elif op == 0x05:
                assert at + 1 + k < len(self.code)
            elif op & 7 == 5:
                assert at + 1 + max(yes, no) < len(self.code)
        self.steps = 0  # of the last run
        self.looked = False  # at an argument

    def run(self, arch: int, nr: int, args: tuple[int, ...] = ()) -> int:
        """What it returns for a call."""
        data = (nr, arch, 0, 0, *(word for arg in (args + (0,) * 6)[:6] for word in (arg & 0xFFFFFFFF, arg >> 32)))
        at = a = self.steps = 0
        self.looked = False
        while True:
            op, yes, no, k = self.code[at]
            self.steps += 1
            at += 1
            if op == 0x20:
                a = data[k // 4]
                self.looked |= k >= 16
            elif op == 0x06:
                return k
            elif op == 0x54:
                a &= k
            elif op == 0x05:
                at += k
            else:
                true = a == k if op == 0x15 else a > k if op == 0x25 else a >= k if op == 0x35 else bool(a & k)
                at += yes if true else no


class Device:
    """A cgroup's device program (struct bpf_insn[]). All code must be reachable, as older verifiers demand."""

    def __init__(self, program: bytes) -> None:
        self.code = [
            (op, registers & 15, registers >> 4, offset, constant)
            for op, registers, offset, constant in struct.iter_unpack("<BBhi", program)
        ]
        seen, todo = set(), [0]
        while todo:
            at = todo.pop()
            if at in seen:
                continue
            seen.add(at)
            op, _, _, offset, _ = self.code[at]
            if op != 0x95:
                todo += [at + 1 + offset] if op == 0x05 else [at + 1]
                todo += [at + 1 + offset] if op in (0x16, 0x56, 0x46) else []
        assert seen == set(range(len(self.code)))

    def run(self, kind: str, major: int, minor: int, access: str) -> bool:
        """Whether the device may be used so."""
        bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
        context = {0: bits << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
        r, at = [0] * 11, 0
        while True:
            op, dst, src, offset, constant = self.code[at]
            at += 1
            if op == 0x95:
                return bool(r[0])
            if op == 0x61:
                assert src == 1
                r[dst] = context[offset]
            elif op == 0xB7:
                r[dst] = constant
            elif op == 0xBF:
                r[dst] = r[src]
            elif op == 0x57:
                r[dst] &= constant % (1 << 64)  # sign-extended
            elif op == 0x4F:
                r[dst] |= r[src]
            elif op == 0x67:
                r[dst] <<= constant
            elif op == 0x77:
                r[dst] >>= constant
            elif op == 0x05:
                at += offset
            else:  # compare the low 32 bits
                low, wanted = r[dst] % (1 << 32), constant % (1 << 32)
                at += offset if {0x16: low == wanted, 0x56: low != wanted, 0x46: bool(low & wanted)}[op] else 0
