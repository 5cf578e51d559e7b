"""What the resolver knows of names, read from files: at once, without a word, and from nobody's broken file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.lean import dumps
from nanocontainer.network.registration import Registration
from nanocontainer.network.resolver_view import View, _read
from nanocontainer.paths import write_file

ID, OTHER = "ab" * 32, "cd" * 32


def network(top: Path, name: str, third: int, *, internal: bool = False) -> Path:
    (top / name / "names").mkdir(parents=True)
    described = {"gateway": f"10.0.{third}.1", "subnet": f"10.0.{third}.0/24", "gateway6": "", "internal": internal}
    (top / name / "network.json").write_text(dumps(described))
    return top / name / "names"


def put(directory: Path, registration: Registration) -> None:
    write_file(f"{directory}/{registration.id}", dumps(registration.as_dict()))


def test_what_is_written_is_known_at_the_next_look(tmp_path: Path) -> None:
    """Also where many changes bear the same time, as the clock of files is coarse."""
    names = network(tmp_path, "mine", 1)
    view = View(str(tmp_path))
    for number in range(200):
        put(names, Registration(ID, "mine", (f"n{number % 10}",), "10.0.1.2"))
        view.refresh()
        asker = view.asker("10.0.1.2")
        assert asker and asker.group(f"n{number % 10}") and not asker.group(f"n{(number + 1) % 10}")
    (names / ID).unlink()
    view.refresh()
    assert view.asker("10.0.1.2") is None and not view.needed


def test_networks_come_and_go(tmp_path: Path) -> None:
    view = View(str(tmp_path / "networks"))
    view.refresh()
    names = network(tmp_path / "networks", "one", 1)
    put(names, Registration(ID, "one", ("web",), "10.0.1.2"))
    put(network(tmp_path / "networks", "two", 2, internal=True), Registration(ID, "two", ("web",), "10.0.2.2"))
    view.refresh()
    asker = view.asker("10.0.2.2")
    assert asker and [zone.name for zone in asker.zones] == ["two", "one"] and not asker.internal
    assert view.is_gateway("10.0.1.1") and not view.is_gateway("10.0.1.2")
    for file in (names / ID, tmp_path / "networks/one/network.json"):
        file.unlink()
    view.refresh()
    asker = view.asker("10.0.2.2")
    assert asker and asker.internal and view.asker("10.0.1.2") is None


def test_turns_survive_a_change(tmp_path: Path) -> None:
    names = network(tmp_path, "mine", 1)
    for number, id in enumerate((ID, OTHER), 2):
        put(names, Registration(id, "mine", ("www",), f"10.0.1.{number}"))
    view = View(str(tmp_path))
    view.refresh()
    group = view.zones["mine"].groups["www"]
    assert [group.addresses("ip")[0] for _ in range(3)] == ["10.0.1.2", "10.0.1.3", "10.0.1.2"]
    put(names, Registration(OTHER, "mine", ("www", "more"), "10.0.1.3"))
    view.refresh()
    assert view.zones["mine"].groups["www"].addresses("ip")[0] == "10.0.1.3"
    assert view.zones["mine"].groups["www"].addresses("ip6") == []


def test_broken_files_are_nobodys(tmp_path: Path) -> None:
    names = network(tmp_path, "mine", 1)
    put(names, Registration(ID, "mine", ("web",), "10.0.1.2"))
    for name, text in (("ef" * 32, "{"), ("01" * 32, '{"names": 5}'), ("02" * 32, '{"id": "x", "ip": "nonsense"}'),
                       ("torn.tmp", "{}"), ("note", "")):  # fmt: skip
        (names / name).write_text(text)
    os.mkfifo(names / ("03" * 32))
    (names / ("04" * 32)).mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/network.json").write_text("nonsense")
    view = View(str(tmp_path))
    view.refresh()
    assert list(view.zones["mine"].all) == [ID]
    assert view.zones["other"].subnets == ()


KEYS = st.sampled_from(["id", "names", "ip", "ip6", "servers", "egress", "network"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)


@given(VALUES)
def test_any_content(content: object) -> None:
    path = f"{tempfile.gettempdir()}/nanocontainer-view-{os.getpid()}"
    try:
        write_file(path, dumps(content))
        found = _read(path, ID, "mine")
        assert found is None or found.id == ID
    finally:
        os.unlink(path)
