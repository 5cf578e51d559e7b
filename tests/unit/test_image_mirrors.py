"""registries.conf: which host a name is fetched from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import InvalidInput, NanoError, NotPermitted
from nanocontainer.image import mirrors
from nanocontainer.image.mirrors import candidates, read_registries, sources
from nanocontainer.image.reference import parse_reference


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's directory; there is no system's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONTAINERS_REGISTRIES_CONF", "REGISTRIES_CONFIG_PATH", "CONTAINERS_REGISTRIES_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mirrors, "SYSTEM", str(tmp_path / "etc"))
    place = tmp_path / ".config/containers"
    place.mkdir(parents=True)
    return place


def write(conf: Path, text: str, name: str = "registries.conf") -> None:
    (conf / name).parent.mkdir(exist_ok=True)
    (conf / name).write_text(text)


def places(name: str) -> list[str]:
    return [f"{one.host}/{one.path}" for one in sources(parse_reference(name))]


def test_without_files_all_is_as_docker_has_it(conf: Path) -> None:
    assert [str(one) for one in candidates("alpine")] == ["docker.io/library/alpine:latest"]
    assert places("alpine") == ["docker.io/library/alpine"]
    assert places("host:5000/a/b") == ["host:5000/a/b"]


def test_short_names(conf: Path) -> None:
    write(
        conf,
        """
        unqualified-search-registries = ["quay.io", "docker.io"]
        [aliases]
        "app" = "example.com/team/app"
        "user/tool" = "quay.io/other/tool"
        """,
    )

    def names(text: str) -> list[str]:
        return [str(one) for one in candidates(text)]

    assert names("app") == ["example.com/team/app:latest"]
    assert names("app:2") == ["example.com/team/app:2"]
    assert names(f"app@sha256:{'a' * 64}") == [f"example.com/team/app@sha256:{'a' * 64}"]
    assert names("user/tool:1") == ["quay.io/other/tool:1"]
    assert names("alpine") == ["quay.io/alpine:latest", "docker.io/library/alpine:latest"]
    assert names("user/x:1") == ["quay.io/user/x:1", "docker.io/user/x:1"]
    assert names("docker.io/alpine") == ["docker.io/library/alpine:latest"]  # no short name
    assert names("localhost/app") == ["localhost/app:latest"]
    write(conf, "unqualified-search-registries = []")
    with pytest.raises(InvalidInput) as told:
        candidates("alpine")
    assert "docker.io/library/alpine" in told.value.hint


def test_mirrors_stand_before_their_registry(conf: Path) -> None:
    write(
        conf,
        """
        [[registry]]
        prefix = "docker.io"
        [[registry.mirror]]
        location = "mirror.one:5000"
        insecure = true
        [[registry.mirror]]
        location = "mirror.two/hub"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "mirror.three"
        pull-from-mirror = "tag-only"
        [[registry]]
        prefix = "docker.io/library/special"
        location = "elsewhere.example/x"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "only.digests/y"
        [[registry]]
        prefix = "*.example.org"
        blocked = true
        [[registry]]
        location = "plain.example"
        insecure = true
        """,
    )
    assert places("alpine") == [
        "mirror.one:5000/library/alpine", "mirror.three/library/alpine", "docker.io/library/alpine",
    ]  # fmt: skip
    pinned = f"alpine@sha256:{'a' * 64}"
    assert places(pinned) == [
        "mirror.one:5000/library/alpine", "mirror.two/hub/library/alpine", "docker.io/library/alpine",
    ]  # fmt: skip
    assert places("special") == ["elsewhere.example/x"]  # the longest prefix
    assert places("special/deeper:1") == ["mirror.one:5000/special/deeper", "mirror.three/special/deeper",
                                          "docker.io/special/deeper"]  # fmt: skip
    assert places(f"special@sha256:{'a' * 64}") == ["only.digests/y", "elsewhere.example/x"]
    assert places("specialist") == places("alpine")[:0] + [
        one.replace("alpine", "specialist") for one in places("alpine")
    ]
    assert [one.insecure for one in sources(parse_reference("alpine"))] == [True, None, None]
    assert [one.insecure for one in sources(parse_reference("plain.example/a"))] == [True]
    for name in ("a.example.org/x", "deep.a.example.org/x"):
        with pytest.raises(NotPermitted) as told:
            sources(parse_reference(name))
        assert "registries.conf" in told.value.hint
    assert places("example.org/x") == ["example.org/x"]


def test_directories_add_to_the_file(conf: Path) -> None:
    write(conf, 'unqualified-search-registries = ["a.example"]\n[aliases]\n"x" = "a.example/x"')
    write(
        conf,
        'unqualified-search-registries = ["b.example"]\n[aliases]\n"y" = "b.example/y"',
        "registries.conf.d/1.conf",
    )
    write(conf, "not toml at all [", "registries.conf.d/readme")
    found = read_registries()
    assert found.search == ("b.example",)
    assert found.aliases == {"x": "a.example/x", "y": "b.example/y"}


@pytest.mark.parametrize(
    "text",
    [
        "x = [", 'unqualified-search-registries = "docker.io"', "[[registry]]\ninsecure = true", "[registry]\nx = 1",
        '[[registry]]\nprefix = "a.b"\ninsecure = "yes"', "[registries.search]\nregistries = []", "aliases = 5",
        '[[registry]]\nlocation = "https://a.b"', '[aliases]\n"a" = 5', '[[registry]]\nlocation="a.b"\nmirror = 5',
        '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\ninsecure = true',
        '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = "c.d"\npull-from-mirror = "sometimes"',
        ('[[registry]]\nlocation = "a.b"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "c.d"\n'
         'pull-from-mirror = "all"'), "\udcff",
    ],
)  # fmt: skip
def test_broken_files_are_named(conf: Path, text: str) -> None:
    (conf / "registries.conf").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInput) as told:
        read_registries()
    assert "registries.conf" in told.value.what


def test_a_location_that_makes_no_name(conf: Path) -> None:
    write(conf, '[[registry]]\nprefix = "a.b"\nlocation = "UPPER CASE"')
    with pytest.raises(InvalidInput) as told:
        sources(parse_reference("a.b/c"))
    assert "UPPER CASE" in told.value.why


@given(st.text(max_size=60))
def test_any_file_is_read_or_refused(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        with tempfile.TemporaryDirectory() as place:
            patch.setenv("CONTAINERS_REGISTRIES_CONF", f"{place}/x.conf")
            patch.setenv("CONTAINERS_REGISTRIES_CONF_DIR", f"{place}/none")
            patch.setenv("HOME", place)
            Path(f"{place}/x.conf").write_text(text)
            try:
                read_registries()
            except NanoError:
                pass
