"""Seccomp programs judged by running them: what comes out is what the profile says they were made of."""

from __future__ import annotations

import pytest

from nanocontainer.errors import Unsupported
from nanocontainer.kernel import caps, filters, seccomp
from nanocontainer.kernel.cbpf import IF_EQUAL, LOAD, RETURN

X86 = 0xC000003E
ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x50001


def instruction(op: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return op.to_bytes(2, "little") + bytes((yes, no)) + k.to_bytes(4, "little")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("held", [0, caps.DEFAULT, caps.DEFAULT | 1 << 21, (1 << 41) - 1])
def test_the_default_profile_s_program_blocks_what_the_profile_blocks(machine: str, held: int) -> None:
    program = seccomp.program("default", machine, held, "6.18")
    assert filters.blocked((program,), machine) == seccomp.blocked("default", machine, held, "6.18")


def test_of_two_filters_the_stricter_counts() -> None:
    wide, narrow = (seccomp.program("default", "x86_64", held, "6.18") for held in ((1 << 41) - 1, 0))
    assert filters.blocked((wide, narrow), "x86_64") == filters.blocked((narrow,), "x86_64")
    assert filters.blocked((), "x86_64") == ((), ())


def test_what_depends_on_arguments_has_several_ends() -> None:
    program = b"".join(
        (instruction(LOAD, 16), instruction(IF_EQUAL, 7, 0, 1), instruction(RETURN, ALLOW), instruction(RETURN, EPERM))
    )
    assert filters.actions(program, 1, X86) == {ALLOW, EPERM}
    by_number = program.replace(instruction(LOAD, 16), instruction(LOAD, 0))
    assert filters.actions(by_number, 7, X86) == {ALLOW} and filters.actions(by_number, 8, X86) == {EPERM}


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ([(0x00, 6), (0x14, 2)], 4), ([(0x00, 6), (0x07, 0), (0x0C, 0)], 12),
        ([(0x00, 6), (0x02, 3), (0x00, 1), (0x60, 3)], 6),
        ([(0x01, 9), (0x87, 0)], 9), ([(0x00, 6), (0x84, 0)], 0xFFFFFFFA),
        ([(0x00, 6), (0x34, 4)], 1), ([(0x80, 0)], 64),
        ([(0x00, 1), (0x64, 31), (0x64, 1)], 0), ([(0x00, 5), (0xA4, 1)], 4), ([(0x20, 4)], X86),
        ([(0x01, 5), (0x03, 0), (0x61, 0), (0x87, 0)], 5), ([(0x05, 1), (0x00, 1), (0x00, 2)], 2),
    ],
)  # fmt: skip
def test_the_machine_calculates(code: list[tuple[int, int]], value: int) -> None:
    program = b"".join(instruction(op, k) for op, k in code) + instruction(0x16, 0)
    assert filters.actions(program, 0, X86) == {value}


def test_a_machine_without_numbers() -> None:
    with pytest.raises(Unsupported):
        filters.blocked((), "riscv64")
