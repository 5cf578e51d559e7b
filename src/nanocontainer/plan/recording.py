"""A kernel that takes notes instead of acting: steps run against it without root and without effect.

Tests look at the notes: the exact calls with their arguments.
"""

from __future__ import annotations

from ..kernel.calls import Kernel
from .step import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Call:
    """One noted call: its name and arguments as given."""

    def __init__(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.name, self.args, self.named = name, args, named

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.named.items()]
        return f"{self.name}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class RecordingKernel(Kernel):
    """Answers like a kernel on which all succeeds: open files are numbers from 100 on.

    answers: what a call shall return (or, an exception, raise), by name; a list is used up one by one.
    """

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.calls: list[Call] = []
        self.answers = dict(answers or {})
        self._fd = 99

    def __getattribute__(self, name: str) -> Any:
        if name in ("calls", "answers", "_fd", "_note") or name.startswith("__"):
            return object.__getattribute__(self, name)
        if name in ("links", "flows"):
            return lambda *args, **named: _Noting(self, name)
        if not hasattr(Kernel, name):
            raise AttributeError(name)

        def noted(*args: Any, **named: Any) -> Any:
            return self._note(name, args, named)

        return noted

    def _note(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.calls.append(Call(name, args, named))
        if name in self.answers:
            answer = self.answers[name]
            if isinstance(answer, list):
                answer = answer.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        if name in _OPENS:
            self._fd += 1
            return self._fd
        return _DEFAULTS.get(name)


class _Noting:
    """Stands for a client object (netlink): every method is noted as part.method."""

    def __init__(self, kernel: RecordingKernel, part: str) -> None:
        self._kernel, self._part = kernel, part

    def __getattr__(self, name: str) -> Any:
        def noted(*args: Any, **named: Any) -> Any:
            return self._kernel._note(f"{self._part}.{name}", args, named)

        return noted

    def __enter__(self) -> _Noting:
        return self

    def __exit__(self, *_: object) -> None: ...


_OPENS = {"open", "sealed_file", "openat2", "fsopen", "fsmount", "open_tree", "pidfd_open"}
_DEFAULTS: dict[str, Any] = {
    "clone3": (1000, 99),
    "fork": 1001,
    "waitpid": (0, 0),
    "read": b"",
    "read_file": b"",
    "write": 0,
    "exists": False,
    "listdir": [],
    "readlink": "",
    "umask": 0o22,
    "nft": "",
    "bpf": 98,
    "links.index": 1,
    "links.addresses": [],
    "flows.to_port": [],
}


def recording_world(answers: dict[str, Any] | None = None) -> World:
    """A World whose kernel takes notes: world.kernel.calls."""
    return World(RecordingKernel(answers))
