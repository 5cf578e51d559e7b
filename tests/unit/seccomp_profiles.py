"""What the tests of seccomp share: profiles made in one line, and the arguments worth trying on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as some

from nanocontainer.kernel import caps, seccomp, seccomp_profile
from tests.unit.bpf_machines import Classic

ALLOW, KILL_THREAD, LOG = 0x7FFF0000, 0, 0x7FFC0000
KERNEL = "6.18.44-test"
MACHINES = {"x86_64": ("x86_64", "x32", "i386"), "aarch64": ("aarch64", "arm")}
DEFAULT_FILE = Path(seccomp.__file__).parent / "seccomp_default.json"
DEFAULT = json.loads(DEFAULT_FILE.read_text())
SETS = {
    "default": caps.DEFAULT,
    "none": 0,
    "admin": caps.DEFAULT | 1 << caps.NUMBERS["CAP_SYS_ADMIN"],
    "all": caps.everything(caps.LAST),
}


def fails(code: int) -> int:
    return 0x50000 | code


def read(profile: dict[str, Any], machine: str, held: int, kernel: str = KERNEL) -> seccomp_profile.Profile:
    return seccomp_profile.read(json.dumps(profile), "test", machine, held, kernel)


def compiled(
    profile: dict[str, Any], machine: str = "x86_64", held: int = caps.DEFAULT, kernel: str = KERNEL
) -> Classic:
    return Classic(seccomp_profile.compile(read(profile, machine, held, kernel)))


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


def denying(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **more}


def arg(index: int, op: str, value: int, two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": two}


def values(profile: dict[str, Any]) -> list[int]:
    """Arguments at which a condition of the profile may change its mind."""
    args = [a for entry in profile["syscalls"] for a in entry.get("args") or ()]
    named = {number for a in args for number in (a["value"], a.get("valueTwo", 0))}
    near = {number + d for number in named for d in (-1, 0, 1)}
    near |= {number | 1 << 32 for number in near}
    near |= {number ^ 1 << 33 for number in named} | {~number for number in named}
    return sorted({number % (1 << 64) for number in near | {0, 1, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1}})


def arguments(profile: dict[str, Any]) -> list[tuple[int, ...]]:
    """Each interesting value in each place alone, and in several places at once."""
    every = values(profile)
    shifted = [every[i:] + every[:i] for i in (0, 1, 5)]
    return [(0,) * i + (value,) for i in range(6) for value in every] + list(zip(*shifted, strict=True))


OPS = ["EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"]
WORDS = some.sampled_from(
    [0, 1, 2, 5, 0xFFFFFFFF, 1 << 31, 1 << 32, (1 << 32) + 1, 5 << 32, (1 << 64) - 1, 0xF0F0F0F0F0F0]
)


@some.composite
def conditions(draw: some.DrawFn) -> list[dict[str, Any]]:
    indexes = draw(some.lists(some.integers(0, 2), unique=True, max_size=3))
    return [arg(i, draw(some.sampled_from(OPS)), draw(WORDS), draw(WORDS)) for i in indexes]
