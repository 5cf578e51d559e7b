"""Each file of the state directory is broken in each way: others' things work on, and the broken one can be removed."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanocontainer.image.claims import found_at
from nanocontainer.image.store import ImageStore
from nanocontainer.paths import Paths

from . import census
from .corrupting import BREAKINGS, FORMS, Template, broken, commands
from .faulting import Ended, wrong_words
from .images import write_layout
from .isolation import MNT_DETACH, mount, umount
from .nano import Nano

PORT = 18_219
EVERY = bool(os.environ.get("NANOCONTAINER_FAULTS_EVERY"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """An engine with containers `it` (of the image shaky) and `other` (of tiny), both ended."""
    top = tmp_path_factory.mktemp("garbage")
    mount("tmpfs", str(top), "tmpfs", 0)
    nano = Nano(f"{top}/state", f"{top}/state/run")
    nano("run", "--name", "other", "--network", "none", "tiny", "echo", "hi")
    (layer,) = Path(nano.root, "images/layers").glob("*/bin/busybox")
    with tarfile.open(top / "layer.tar", "w") as tar:
        tar.add(layer, "bin/busybox")
        for name in ("sh", "sleep", "echo", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    write_layout(top / "layout", [top / "layer.tar"], {"Cmd": ["sh"]})
    with tarfile.open(top / "shaky.tar", "w") as tar:
        tar.add(top / "layout", ".")
    loaded = nano("load", "-i", f"{top}/shaky.tar").out.split()[-1]
    nano("tag", loaded, "shaky")
    nano("run", "--name", "it", "-p", f"127.0.0.1:{PORT}:80", "-v", "vol:/data", "shaky", "echo", "said")
    made = Template(nano)
    made.keep()
    census.watch(nano.root, nano.runroot)
    yield made
    del census.watched[nano.root]
    for place in census.cgroups_of(nano.root):
        os.rmdir(place)
    umount(str(top), MNT_DETACH)


def places(root: str) -> dict[str, str]:
    """What there is to be broken: its name here → its path."""
    it = os.readlink(f"{root}/names/it")
    image = os.path.basename(os.readlink(f"{root}/images/refs/docker.io%library%shaky:latest"))[:-5]
    found = ImageStore(Paths(root, f"{root}/run")).find("shaky")
    container, layer = f"{root}/containers/{it}", found_at(f"{root}/images/layers/{found.layers[0][7:]}")
    (filter,) = Path(root, "run/cache/seccomp").iterdir()
    return {
        **{name: f"{container}/{name}" for name in (
            "spec.json", "state.json", "journal", "hosts", "hostname", "resolv.conf", "log.json", "upper", "work",
        )},
        "container": container,
        "live": f"{root}/run/containers/{it}",
        "keeper.lock": f"{root}/run/containers/{it}/keeper.lock",
        "attach.sock": f"{root}/run/containers/{it}/attach.sock",
        "name": f"{root}/names/it",
        "network.json": f"{root}/networks/bridge/network.json",
        "network": f"{root}/networks/bridge",
        "networks/.lock": f"{root}/networks/.lock",
        "leases": f"{root}/networks/bridge/leases",
        "lease": f"{root}/networks/bridge/leases/{lease_of(root)}",
        "port": f"{root}/ports/tcp-127.0.0.1-{PORT}",
        "ref": f"{root}/images/refs/docker.io%library%shaky:latest",
        "record": f"{root}/images/ids/{image}.json",
        "config": f"{root}/images/blobs/sha256/{image}",
        "manifest": f"{root}/images/blobs/sha256/{found.manifest[7:]}",
        "layer": layer,
        "layer.json": f"{layer}.json",
        "layer.lock": f"{layer}.lock",
        "images/lock": f"{root}/images/lock",
        "volume.json": f"{root}/volumes/vol/volume.json",
        "volume data": f"{root}/volumes/vol/_data",
        "volume": f"{root}/volumes/vol",
        "events.log": f"{root}/events.log",
        "facts.json": f"{root}/run/facts.json",
        "seccomp filter": str(filter),
        "format": f"{root}/format",
        **{name: f"{root}/{name}" for name in ("containers", "names", "networks", "ports", "volumes", "images", "run")},
    }  # fmt: skip


def lease_of(root: str) -> str:
    subnet: str = json.loads(Path(root, "networks/bridge/network.json").read_text())["subnet"]
    return f"{subnet.rpartition('.')[0]}.2"


LINES = """
ps -a
images
inspect it
logs it
inspect other
logs other
run --rm --network none tiny echo on
run --rm tiny echo on
start it
doctor
rm -f -v it
rmi -f shaky
ps -a
images
doctor --repair
run --rm --network none tiny echo on
""".strip().splitlines()
FIRST_AFTER = LINES.index("rmi -f shaky") + 1
TREES = ("container", "live", "network", "leases", "layer", "upper", "work", "volume", "volume data", "containers",
         "names", "networks", "ports", "volumes", "images", "run")  # fmt: skip
# What all share: who needs it is told so, and it is not removed with a container or an image
ALL = ("format", "containers", "names", "ports", "volumes", "images", "run")
NETWORKS = ("network", "network.json", "networks/.lock", "leases", "networks")
PLACES = (
    "spec.json", "state.json", "journal", "hosts", "hostname", "resolv.conf", "log.json", "upper", "work", "container",
    "live", "keeper.lock", "attach.sock", "name", "network.json", "network", "networks/.lock", "leases", "lease",
    "port", "ref", "record", "config", "manifest", "layer", "layer.json", "layer.lock", "images/lock", "volume.json",
    "volume data", "volume", "events.log", "facts.json", "seccomp filter", "format", "containers", "names", "networks",
    "ports", "volumes", "images", "run",
)  # fmt: skip


def judge(where: str, ended: list[Ended]) -> list[str]:
    """What is wrong with a case."""
    found = []
    if len(ended) < len(LINES):
        found.append(f"{LINES[len(ended) - 1]}: {ended[-1].err}")
    for number, (line, done) in enumerate(zip(LINES, ended, strict=False)):
        if line.startswith("doctor"):
            if done.code not in (0, 1) or done.err or "bug" in done.out:
                found.append(f"{line}: {done.code} {done.err}")
            continue
        if said := wrong_words(done):
            found.append(f"{line}: {said}")
        elif where in ALL or (where in NETWORKS and "rm" in line) or ("it" in line.split() and line[:2] != "rm"):
            continue
        elif line.startswith("rm"):
            if done.code and "no such" not in done.err:
                found.append(f"{line}: {done.err}")
        elif "none" in line or "other" in line or number >= FIRST_AFTER:
            if done.code or (number >= FIRST_AFTER and done.err):
                found.append(f"{line}: {done.code} {done.err}")
            if line.startswith("ps") and (" it" in done.out or "other" not in done.out):
                found.append(f"{line}: {done.out}")
            if line.startswith("images") and ("shaky" in done.out or "tiny" not in done.out):
                found.append(f"{line}: {done.out}")
    return found


def ways(where: str) -> list[str]:
    """Each way for each place takes ten minutes: a part of them, another one for each place."""
    every = list(FORMS if where in TREES else BREAKINGS)
    return every if EVERY else every[PLACES.index(where) % 6 :: 6]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", PLACES)
def test_each_file(template: Template, where: str) -> None:
    nano, wrong = template.nano, []
    for how in ways(where):
        template.put_back()
        before = census.take()
        broken(places(nano.root)[where], how)
        ended = commands(nano, LINES, 6)
        for line, done in zip(LINES, ended, strict=False):
            note(f"{where} | {how} | {line} | {done.code} | {done.err.strip()!r} | {done.out[-300:]!r}\n")
        found = judge(where, ended)
        template.put_back()
        found += [line for line in census.settle(before) if "file of the engine" not in line]
        wrong += [f"{how}: {line}" for line in found]
    assert not wrong, f"{len(wrong)} things wrong\n" + "\n".join(wrong)


def note(text: str) -> None:
    if path := os.environ.get("NANOCONTAINER_FAULTS_TABLE"):
        with open(path, "a") as table:
            table.write(text)
