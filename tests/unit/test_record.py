"""Records: values that compare, hash, print, refuse changes, and survive JSON."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanocontainer.container.spec import Device, Limits, Mount, Port, Rate, Spec, State, Ulimit
from nanocontainer.lean import dumps, loads
from nanocontainer.record import Record


class Point(Record):
    x: int
    y: int = 2


class Named(Point):
    name: str = ""


class Line(Record):
    ends: tuple[Point, ...]
    middle: Point | None = None


def test_fields_come_in_order_base_class_first() -> None:
    assert Named(1, 5, "a") == Named(x=1, y=5, name="a")
    assert Named._fields == ("x", "y", "name")
    assert Point(1) == Point(1, 2)


def test_values_are_compared_by_class_and_content() -> None:
    assert Point(1) != Named(1)
    assert Point(1) != (1, 2)
    assert len({Point(1), Point(1, 2), Point(3)}) == 2


def test_repr_can_be_read() -> None:
    assert repr(Named(1, name="n")) == "Named(x=1, y=2, name='n')"


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((), {}, "x is missing"),
        ((1, 2, 3), {}, "too many"),
        ((1,), {"x": 2}, "given twice"),
        ((1,), {"z": 2}, "no field z"),
    ],
)
def test_wrong_arguments(args: tuple[int, ...], named: dict[str, int], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Point(*args, **named)


def test_frozen() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert point.replace(x=3) == Point(3)
    assert point == Point(1)


def test_nested_records_survive_json() -> None:
    line = Line((Point(1), Point(3, 4)), Point(9))
    assert Line.from_dict(loads(dumps(line.as_dict()))) == line
    assert Line.from_dict({"ends": []}) == Line(())


def test_keys_of_a_newer_version_are_ignored() -> None:
    assert Point.from_dict({"x": 1, "colour": "red"}) == Point(1)


texts = st.text(max_size=20)
mounts = st.builds(Mount, kind=texts, target=texts, read_only=st.booleans(), options=st.dictionaries(texts, texts))
ports = st.builds(Port, container_port=st.integers(), host_ip=texts)
limits = st.builds(
    Limits, memory=st.integers(), cpus=st.floats(allow_nan=False),
    rates=st.lists(st.builds(Rate, kind=texts, device=texts, rate=st.integers()), max_size=3).map(tuple),
)  # fmt: skip
specs = st.builds(
    Spec,
    image=texts,
    entrypoint=st.none() | st.lists(texts, max_size=3).map(tuple),
    env=st.lists(texts, max_size=3).map(tuple),
    labels=st.dictionaries(texts, texts, max_size=3),
    mounts=st.lists(mounts, max_size=3).map(tuple),
    ports=st.lists(ports, max_size=3).map(tuple),
    devices=st.lists(st.builds(Device, source=texts, target=texts), max_size=2).map(tuple),
    ulimits=st.lists(st.builds(Ulimit, name=texts, soft=st.integers(), hard=st.integers()), max_size=2).map(tuple),
    limits=limits,
)


@settings(deadline=None)  # a busy machine is not what is tested
@given(specs)
def test_every_specification_survives_json(spec: Spec) -> None:
    assert Spec.from_dict(loads(dumps(spec.as_dict()))) == spec


@settings(deadline=None)
@given(st.builds(State, status=texts, pid=st.integers(), ports=st.lists(ports, max_size=3).map(tuple)))
def test_every_state_survives_json(state: State) -> None:
    assert State.from_dict(loads(dumps(state.as_dict()))) == state
