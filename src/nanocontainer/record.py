"""Frozen value types. dataclasses would cost 12-23 ms at start (they import inspect and re); this costs 0.3.

A Record's fields are its annotations, in order, base classes first; ``ClassVar`` is left out. Instances are compared,
hashed and shown by value, cannot be changed, and go to plain JSON data and back (``as_dict``, ``from_dict``).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """Base of all value types; see the module's text."""

    _fields: ClassVar[tuple[str, ...]] = ()
    _types: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: str(kind) for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)}
        cls._types = {**cls._types, **own}
        cls._fields = tuple(cls._types)

    def __init__(self, *args: Any, **named: Any) -> None:
        cls = type(self)
        values = self.__dict__
        for name, value in zip(cls._fields, args, strict=False):
            values[name] = value
        if len(args) > len(cls._fields) or not values.keys().isdisjoint(named):
            raise TypeError(f"{cls.__name__}: too many values, or one given twice")
        values.update(named)
        for name in cls._fields:
            if name not in values:
                try:
                    values[name] = getattr(cls, name)  # the default stands on the class
                except AttributeError:
                    raise TypeError(f"{cls.__name__}: {name} is missing") from None
        if len(values) != len(cls._fields):
            raise TypeError(f"{cls.__name__} has no field {', '.join(values.keys() - set(cls._fields))}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__[name] for name in self._fields)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: nested Records become dicts, tuples lists."""
        return {name: _plain(self.__dict__[name]) for name in self._fields}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of as_dict. Unknown keys are ignored: a newer version may have written them."""
        types = cls._types
        return cls(**{name: _typed(cls, types[name], value) for name, value in data.items() if name in types})


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.as_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _typed(owner: type[Record], kind: str, value: Any) -> Any:
    """Give a JSON value the type its annotation says: a Record, a tuple, or itself."""
    if isinstance(value, list):
        inner = kind.removeprefix("tuple[").split(",")[0].rstrip("]").strip()
        return tuple(_typed(owner, inner, item) for item in value)
    if isinstance(value, dict):
        name = kind.split("|")[0].strip()
        for base in owner.__mro__:
            found = sys.modules[base.__module__].__dict__.get(name)
            if isinstance(found, type) and issubclass(found, Record):
                return found.from_dict(value)
    return value
