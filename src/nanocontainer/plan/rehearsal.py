"""A plan rehearsed: the code of its steps runs, and nothing happens.

What a step does is written once, in its `do`. To show its system calls without making them, all of the package is
loaded a second time, as copies in which os, ctypes, sockets and what else leads to the kernel are those of a
make-believe machine (kernel/makebelieve.py). The copies of the steps are then executed there, one after the other, in
one world: so slots have values, and the calls that are written down are those that the real step would make.

The modules themselves are not touched: a program with threads may rehearse one plan and run another.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
from importlib.machinery import SourceFileLoader

from ..errors import NanoError
from ..kernel.makebelieve import Left, Machine
from ..kernel.notation import Call, Known
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .step import Step

_PACKAGE = __name__.partition(".")[0]
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Rehearsal:
    """One make-believe machine and the copies of the package that run on it."""

    def __init__(
        self, given: tuple[str, ...] = (), owner: str = "", user: str = "", groups: tuple[str, ...] = ()
    ) -> None:
        """given: slots that are filled. owner: the container's id. user, groups: as LookUpUser has them."""
        user, _, group = user.partition(":")
        self.machine = Machine(owner, user, tuple(name for name in (group, *groups) if name))
        self._stands = self.machine.modules()
        self._copies: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import, "open": self._open}
        # The one question to the disk that is asked with stat(2): nothing is there that nobody has made
        self.copy(f"{_PACKAGE}.paths").is_there = self._stands["os"].path.exists
        self.world = self.copy(f"{_PACKAGE}.plan.step").World(self.copy(f"{_PACKAGE}.kernel.calls").Kernel())
        for slot in given:
            self.world[slot] = self.machine.names.new(slot)
        seccomp = self.copy(f"{_PACKAGE}.kernel.seccomp")
        load = seccomp._load
        # The compiled filter is believed to be in the cache: compiling it would read profiles of the host
        seccomp._load = lambda *args: load(*args) or (bytes(8), 4)
        self.copy(f"{_PACKAGE}.kernel.nft").run = self.machine.nft
        self.copy(f"{_PACKAGE}.library").lies_at = lambda *_: "here"  # a library is believed to be installed

    def do(self, step: Step) -> list[Call]:
        """The calls of a step, in order. NanoError where it cannot succeed."""
        self.machine.child = step.side == "inside"
        for slot in step.reads():
            if slot not in self.world.slots:  # a part of a plan, or one that starts from another's slots
                self.world[slot] = bytes(8) if slot == "filter" else self.machine.names.new(slot)
        if type(step).__name__ == "EnsureBridge":  # believed to be the first on its network
            self.machine.absent.add(vars(step)["interface"])
        before = set(self.world.slots)
        calls = self._calls(lambda: self.twin(step).do(self.world))
        self._name_slots(self.world.slots.keys() - before)
        return calls

    def undo(self, step: Step) -> list[Call]:
        """The calls of a step's undo."""
        self.machine.child = True  # what is left to a child is shown as well
        return self._calls(lambda: self.twin(step).undo(self.world))

    def act(self, do: Callable[[], object]) -> list[Call]:
        """The calls of something else that copies do."""
        self.machine.child = False
        return self._calls(do)

    @property
    def kernel(self) -> Any:
        return self.world.kernel

    def store(self, life: Any) -> Any:
        """The copy of a ContainerStore."""
        return self.copy_of("container.store").ContainerStore(self.twin(life.paths))

    def stand_in(self, module: str) -> Any:
        """What stands for a module of Python's."""
        return self._stands[module]

    def copy_of(self, name: str) -> Any:
        """The copy of a module, by its name within the package."""
        return self.copy(f"{_PACKAGE}.{name}")

    def _calls(self, act: Callable[[], object]) -> list[Call]:
        self.machine.calls, self.machine.left = [], False
        try:
            act()
        except Left:
            pass
        except Exception as error:
            if hasattr(error, "as_dict"):  # a copy of a NanoError
                raise NanoError.from_dict(error.as_dict()) from None
            raise
        _label_temporaries(self.machine.calls, {id(value) for value in self.world.slots.values()})
        return self.machine.calls

    def _name_slots(self, filled: set[str]) -> None:
        """What a slot holds is called so from now on; a number that is no file becomes one that has a name."""
        for slot in sorted(filled):
            value = self.world[slot]
            if isinstance(value, int) and not isinstance(value, Known):
                value = self.machine.names.known.get(value) or _known(value)
                self.world[slot] = value
            if isinstance(value, Known):
                value.label = "".join(
                    character if character.isalnum() else "_" for character in slot.partition(":")[0].split()[0]
                )

    def twin(self, value: Any) -> Any:
        """The same value, of the copies' classes."""
        if isinstance(value, Record):
            kind = type(value)
            if kind.__module__.partition(".")[0] != _PACKAGE:
                return value
            twin = getattr(self.copy(kind.__module__), kind.__qualname__)
            return twin(**{name: self.twin(field) for name, field in vars(value).items()})
        if isinstance(value, tuple):
            return tuple(self.twin(one) for one in value)
        return value

    # --- copies of modules

    def copy(self, name: str) -> Any:
        """The copy of a module of ours."""
        if name in self._copies:
            return self._copies[name]
        parent, _, last = name.rpartition(".")
        path = f"{_ROOT}/{'/'.join(name.split('.')[1:])}".rstrip("/")
        package = os.path.isdir(path)
        source = f"{path}/__init__.py" if package else f"{path}.py"
        module = type(sys)(name)
        module.__dict__.update(
            __builtins__=self._builtins, __file__=source, __package__=name if package else parent,
        )  # fmt: skip
        if package:
            module.__path__ = [path]
        above = self.copy(parent) if parent else None
        self._copies[name] = module
        code = SourceFileLoader(name, source).get_code(name)
        assert code is not None
        exec(code, module.__dict__)
        if above:
            setattr(above, last, module)
        return module

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        """What `import` means in a copy (importlib.__import__)."""
        if level:
            base = globals["__package__"].split(".")
            name = ".".join([*base[: len(base) - level + 1], *([name] if name else [])])
        if name.partition(".")[0] != _PACKAGE:
            return self._stands.get(name) or __import__(name, globals, locals, fromlist, 0)
        module = self.copy(name)
        for word in fromlist or ():
            if not hasattr(module, word) and os.path.exists(f"{os.path.dirname(module.__file__)}/{word}.py"):
                self.copy(f"{name}.{word}")
        return module if fromlist else self._copies[_PACKAGE]

    def _open(self, path: Any, *args: Any, **named: Any) -> Any:
        """open() in a copy: files of the package itself are read, others are believed to be empty profiles."""
        if str(path).startswith(f"{_ROOT}/"):
            return open(path, *args, **named)
        self._stands["os"].open(str(path), os.O_RDONLY | os.O_CLOEXEC)
        return io.StringIO('{"defaultAction": "SCMP_ACT_ALLOW"}')


def _known(value: int) -> Known:
    return Known(value)


def _label_temporaries(calls: list[Call], slots: set[int]) -> None:
    """Two files of one step that are open at once and called the same get numbers: $place, $place2."""
    open: dict[str, set[int]] = {}
    of: dict[int, tuple[str, int]] = {}
    for call in calls:
        made = call.result
        if isinstance(made, Known) and id(made) not in slots and id(made) not in of and made.label != "self":
            used = open.setdefault(made.label, set())
            number = next(number for number in range(1, len(used) + 2) if number not in used)
            used.add(number)
            of[id(made)] = made.label, number
            if number > 1:
                made.label += str(number)
        elif call.name == "close" and id(call.args[0]) in of:
            label, number = of.pop(id(call.args[0]))
            open[label].discard(number)
