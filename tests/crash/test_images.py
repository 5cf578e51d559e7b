"""Killed in the middle of pull, load and rmi, and while layers are written."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.images import push, write_layout

from . import tally
from .crew import LONG, Crew

NAME = "crash/app:1"


def _tar(place: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(place, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return place


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of two layers, as an OCI layout."""
    place = tmp_path_factory.mktemp("layout")
    tars = [
        _tar(place / "0.tar", ("etc/os-release", b"ID=test\n"), ("bin/sh", os.urandom(300_000))),
        _tar(place / "1.tar", ("etc/new", b"2"), ("bin/.wh.sh", b"")),
    ]
    write_layout(place / "oci", tars, {"Cmd": ["sh"]})
    return place / "oci"


@pytest.fixture(scope="module")
def image_crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Workers of their own: they have loaded what others do not need."""
    made = Crew(tmp_path_factory.mktemp("images"))
    made.run("warm", [{}] * len(made.workers))
    yield made
    made.close()


@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("verb", ["pull", "load", "rmi"])
def test_images(image_crew: Crew, layout: Path, registry: str, verb: str) -> None:
    name = push(layout, registry, NAME)
    archive = layout.parent / "archive.tar"
    if not archive.exists():
        _archive(layout, archive, name)
    fields = {"verb": verb, "source": str(archive), "name": name, "netns": f"/proc/{os.getpid()}/ns/net"}
    counts = image_crew.run("count_in_image", [fields] * len(image_crew.workers))
    cases = [{**fields, "at": at, "torn": torn} for at in range(1, max(counts) + 1) for torn in (False, True)]
    results = image_crew.run("kill_in_image", cases)
    tally.judge([{"verb": verb, "at": case["at"], "torn": case["torn"]} for case in cases], results)


def _archive(layout: Path, place: Path, name: str) -> None:
    """The layout as a tar, in which its image has the name that it has in the registry."""
    import json

    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"io.containerd.image.name": name}
    with tarfile.open(place, "w") as tar:
        for path in sorted(layout.rglob("*")):
            if path.name != "index.json":
                tar.add(path, str(path.relative_to(layout)), recursive=False)
        data = json.dumps(index).encode()
        info = tarfile.TarInfo("index.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
