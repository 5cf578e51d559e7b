"""Archives: what skopeo and docker write, in every wrapping, and what is broken in them."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nanocontainer.errors import Corrupt, InvalidInput, NanoError, NotFound
from nanocontainer.image.archive import load
from nanocontainer.image.making import import_image
from nanocontainer.image.store import ImageStore
from nanocontainer.image.tiny import ensure_tiny
from nanocontainer.paths import Paths

from .images import write_layout
from .test_image_layers import one, tar_of
from .test_image_registry import nothing_left

LAYERS = (tar_of(one("etc/a", b"1" * 5000)), tar_of(one("etc/b", b"2")))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    made = ImageStore(Paths(str(tmp_path / "state"), str(tmp_path / "run")))
    made.form = "directory"  # what is in them is looked at
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """oci: an OCI layout; oci.tar, docker.tar: archives of the same image."""
    place = tmp_path_factory.mktemp("archives")
    tars = []
    for number, data in enumerate(LAYERS):
        (place / f"{number}.tar").write_bytes(data)
        tars.append(place / f"{number}.tar")
    write_layout(place / "oci", tars, {"Cmd": ["sh"]})
    subprocess.run(["tar", "-C", str(place / "oci"), "-cf", str(place / "oci.tar"), "."], check=True)
    copy(f"oci:{place}/oci", f"docker-archive:{place}/docker.tar:app:1")
    return place


def copy(source: str, target: str) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not there")
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, target], check=True)


def check(store: ImageStore, source: str | BinaryIO, names: tuple[str, ...] = ()) -> None:
    (image,) = load(store, source)
    assert image.names == names
    assert image.config.cmd == ("sh",)
    paths = store.layer_paths(image)
    assert Path(paths[0], "etc/a").read_bytes() == b"1" * 5000
    assert Path(paths[1], "etc/b").read_bytes() == b"2"
    assert store.find(image.id) == image
    store.remove(image.id, force=True)
    nothing_left(store)


APP = ("docker.io/library/app:1",)


def test_directory(store: ImageStore, made: Path) -> None:
    check(store, str(made / "oci"))


@pytest.mark.parametrize("name", ["oci.tar", "docker.tar"])
@pytest.mark.parametrize("packer", ["", "gzip", "zstd", "bzip2", "xz"])
def test_files(store: ImageStore, made: Path, tmp_path: Path, name: str, packer: str) -> None:
    names = APP if name == "docker.tar" else ()
    source = made / name
    if packer:
        if not shutil.which(packer):
            pytest.skip(f"{packer} is not there")
        source = tmp_path / "packed"
        source.write_bytes(subprocess.run([packer, "-c", str(made / name)], stdout=subprocess.PIPE, check=True).stdout)
    check(store, str(source), names)
    with open(source, "rb") as file:
        check(store, file, names)
    check(store, io.BytesIO(source.read_bytes()), names)
    read, write = os.pipe()

    def feed() -> None:
        with open(write, "wb") as pipe:
            pipe.write(source.read_bytes())

    thread = threading.Thread(target=feed)
    thread.start()
    with open(read, "rb") as pipe:
        check(store, pipe, names)
    thread.join()


def test_names_in_an_oci_layout(store: ImageStore, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "oci", tmp_path / "oci")
    index = json.loads((made / "oci/index.json").read_text())
    entry = index["manifests"][0]
    cases: list[tuple[dict[str, str], tuple[str, ...]]] = [
        ({"org.opencontainers.image.ref.name": "latest"}, ()),
        ({"org.opencontainers.image.ref.name": "localhost:5000/a:1"}, ("localhost:5000/a:1",)),
        (
            {"io.containerd.image.name": "docker.io/library/b:2", "org.opencontainers.image.ref.name": "2"},
            ("docker.io/library/b:2",),
        ),
    ]
    for notes, names in cases:
        index["manifests"] = [{**entry, "annotations": notes}]
        (tmp_path / "oci/index.json").write_text(json.dumps(index))
        check(store, str(tmp_path / "oci"), names)


def test_platforms_in_an_oci_layout(store: ImageStore, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "oci", tmp_path / "oci")
    index = json.loads((made / "oci/index.json").read_text())
    mine, other = dict(index["manifests"][0]), dict(index["manifests"][0])
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    mine["platform"] = {"os": "linux", "architecture": machine}
    other |= {"platform": {"os": "linux", "architecture": "s390x"}, "digest": "sha256:" + "0" * 64}
    index["manifests"] = [other, mine]
    (tmp_path / "oci/index.json").write_text(json.dumps(index))
    check(store, str(tmp_path / "oci"))
    nested = json.dumps({**index, "mediaType": "application/vnd.oci.image.index.v1+json"}).encode()
    import hashlib

    hex = hashlib.sha256(nested).hexdigest()
    (tmp_path / "oci/blobs/sha256" / hex).write_bytes(nested)
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": f"sha256:{hex}", "size": len(nested)}
    (tmp_path / "oci/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    check(store, str(tmp_path / "oci"))
    with pytest.raises(NotFound):
        load(store, str(tmp_path / "oci"), platform="linux/ppc64le")


def test_several_images(store: ImageStore, made: Path, tmp_path: Path) -> None:
    archive = rewritten(
        made, tmp_path, lambda manifest: manifest.append({**manifest[0], "RepoTags": ["other:2", "more:3"]})
    )
    images = load(store, str(archive))
    assert len(images) == 2
    assert images[0].names == APP  # what this one is called in the archive, although it is the same as the other
    assert set(images[1].names) == {"docker.io/library/other:2", "docker.io/library/more:3"}
    (image,) = store.list()
    assert {*APP, *images[1].names} == set(image.names)


def test_an_image_is_loaded_over_itself(store: ImageStore, made: Path) -> None:
    first = load(store, str(made / "docker.tar"))
    assert load(store, str(made / "docker.tar")) == first
    (again,) = load(store, str(made / "oci.tar"))  # the same image, now with its other manifest, which has no name
    assert (again.id, again.names) == (first[0].id, ()) and [image.names for image in store.list()] == [APP]


# --- broken archives


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isfile()}  # type: ignore[union-attr]


def rewritten(made: Path, tmp_path: Path, change: Any = None, files: Any = None) -> Path:
    """docker.tar with another manifest.json or other members."""
    found = members(made / "docker.tar")
    if change:
        manifest = json.loads(found["manifest.json"])
        found["manifest.json"] = json.dumps(change(manifest) or manifest).encode()
    if files:
        files(found)
    target = tmp_path / "changed.tar"
    target.write_bytes(tar_of(*(one(name, data) for name, data in found.items())))
    return target


def fails(store: ImageStore, source: Path | str, *words: str) -> None:
    with pytest.raises(NanoError) as told:
        load(store, str(source))
    assert isinstance(told.value, Corrupt), repr(told.value)
    for word in words:
        assert word in str(told.value), str(told.value)
    nothing_left(store)


def layer_of(found: dict[str, bytes], number: int = 0) -> str:
    return str(json.loads(found["manifest.json"])[0]["Layers"][number])


def test_truncated(store: ImageStore, made: Path, tmp_path: Path) -> None:
    for name in ("docker.tar", "oci.tar"):
        data = (made / name).read_bytes()
        for end in (1, 511, 513, 1500, 3000):
            (tmp_path / "short.tar").write_bytes(data[:end])
            fails(store, tmp_path / "short.tar", "short.tar")
        packed = gzip.compress(data)
        for end in (12, 100, len(packed) // 2, len(packed) - 1):
            (tmp_path / "short.tar.gz").write_bytes(packed[:end])
            fails(store, tmp_path / "short.tar.gz")


def test_no_archive_at_all(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    fails(store, tmp_path / "empty", "is empty")
    with open("/dev/null", "rb") as nothing, pytest.raises(Corrupt, match="the archive is empty"):
        load(store, nothing)
    (tmp_path / "text").write_text("hello\n" * 1000)
    fails(store, tmp_path / "text", "text")
    (tmp_path / "root.tar").write_bytes(LAYERS[0])
    fails(store, tmp_path / "root.tar", "manifest.json")
    (tmp_path / "dir").mkdir()
    fails(store, tmp_path / "dir", "index.json")
    with pytest.raises(InvalidInput):
        load(store, str(tmp_path / "missing"))


def test_changed_layers(store: ImageStore, made: Path, tmp_path: Path) -> None:
    def flip(found: dict[str, bytes]) -> None:
        name = layer_of(found, 1)
        found[name] = found[name][:512] + b"3" + found[name][513:]

    fails(store, rewritten(made, tmp_path, files=flip), "changed.tar", "digest")
    fails(store, rewritten(made, tmp_path, files=lambda found: found.pop(layer_of(found))), "is missing")
    fails(
        store,
        rewritten(made, tmp_path, files=lambda found: found.update({layer_of(found): b"no tar" * 100})),
        layer_of(members(made / "docker.tar")),
    )


def test_changed_configurations(store: ImageStore, made: Path, tmp_path: Path) -> None:
    name = json.loads(members(made / "docker.tar")["manifest.json"])[0]["Config"]
    fails(store, rewritten(made, tmp_path, files=lambda found: found.pop(name)), name)
    fails(store, rewritten(made, tmp_path, files=lambda found: found.update({name: found[name] + b" "})), name)
    fails(store, rewritten(made, tmp_path, files=lambda found: found.update({name: b"{"})))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: {"a": 1},
        lambda manifest: [5],
        lambda manifest: [{}],
        lambda manifest: [{**manifest[0], "Layers": manifest[0]["Layers"][:1]}],
        lambda manifest: [{**manifest[0], "Layers": "x"}],
        lambda manifest: [{**manifest[0], "Layers": [1, 2]}],
        lambda manifest: [{**manifest[0], "Layers": ["../../etc/passwd", "/etc/passwd"]}],
        lambda manifest: [{**manifest[0], "RepoTags": ["Not A Name"]}],
        lambda manifest: [{**manifest[0], "RepoTags": [7]}],
        lambda manifest: [{**manifest[0], "Config": None}],
        lambda manifest: [
            *manifest,
            {**manifest[0], "Config": "none.json"},
        ],  # the second image is broken: none is loaded
    ],
)
def test_broken_manifests(store: ImageStore, made: Path, tmp_path: Path, change: Any) -> None:
    fails(store, rewritten(made, tmp_path, change))


def test_broken_layouts(store: ImageStore, made: Path, tmp_path: Path) -> None:
    for victim in sorted(os.listdir(made / "oci/blobs/sha256")):
        for damage in (None, b"", b"x"):
            shutil.rmtree(tmp_path / "oci", ignore_errors=True)
            shutil.copytree(made / "oci", tmp_path / "oci")
            path = tmp_path / "oci/blobs/sha256" / victim
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-1] + damage)
            fails(store, tmp_path / "oci", victim[:12])


def test_links_out_of_a_layout(store: ImageStore, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "oci", tmp_path / "oci")
    shutil.move(tmp_path / "oci/blobs", tmp_path / "blobs")
    (tmp_path / "oci/blobs").symlink_to(tmp_path / "blobs")
    fails(store, tmp_path / "oci", "missing")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "oci/index.json").unlink()
    os.mkfifo(tmp_path / "oci/index.json")
    fails(store, tmp_path / "oci")


def test_links_in_an_archive(store: ImageStore, made: Path, tmp_path: Path) -> None:
    """docker save's old form has links for layers that are the same; a circle of them is nothing."""
    found = members(made / "docker.tar")
    name = layer_of(found)
    data = found.pop(name)
    below = "../" * name.count("/")
    extra = [one("real/layer", data), one(name, type=b"2", linkname=f"{below}real/layer")]
    archive = tmp_path / "links.tar"
    archive.write_bytes(tar_of(*(one(key, value) for key, value in found.items()), *extra))
    check(store, str(archive), APP)
    extra = [one("x", type=b"2", linkname=name), one(name, type=b"2", linkname=f"{below}x")]
    archive.write_bytes(tar_of(*(one(key, value) for key, value in found.items()), *extra))
    fails(store, archive, "missing")


# --- import, and the built-in image


def test_hostile_archives(store: ImageStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that lead out, and one name twice: nothing is written by an archive's names, so that they lead nowhere."""
    with tarfile.open(made / "docker.tar") as good, tarfile.open(tmp_path / "out.tar", "w") as bad:
        for member in good.getmembers():
            data = good.extractfile(member) if member.isfile() else None
            text = data.read() if data else b""
            if member.name == "manifest.json":
                wrong = tarfile.TarInfo("manifest.json")
                wrong.size = 5
                bad.addfile(wrong, io.BytesIO(b"first"))  # the last one counts, as for tar itself
                fields = json.loads(text)
                fields[0]["Layers"] = [f"../../{layer}" for layer in fields[0]["Layers"]]
                text = json.dumps(fields).encode()
            else:
                member.name = f"/../../{member.name}"
            member.size = len(text)
            bad.addfile(member, io.BytesIO(text) if data else None)
        escape = tarfile.TarInfo("../../../../escaped")
        bad.addfile(escape, io.BytesIO())
    check(store, str(tmp_path / "out.tar"), APP)
    assert not list(tmp_path.parent.glob("**/escaped"))
    monkeypatch.setattr("nanocontainer.image.archive._MEMBERS", 3)
    with pytest.raises(Corrupt, match="more than 3 members"):
        load(store, str(made / "docker.tar"))
    nothing_left(store)


def test_bombs(store: ImageStore, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is never filled to its end by what was a small file."""
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress((made / "docker.tar").read_bytes() + bytes(40 << 20)))
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 1 << 20
    full = os.statvfs_result((4096, 4096, 1 << 20, 1000, 1000, 1 << 20, 1000, 1000, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    for take in (load, import_image):
        with pytest.raises(NanoError, match="the disk would be full"):
            take(store, str(tmp_path / "bomb.tar.gz"))
    nothing_left(store)


def test_import(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(LAYERS[0]))
    image = import_image(store, str(tmp_path / "root.tar.gz"), "mine", changes=('CMD ["/bin/a"]',))
    assert image.names == ("docker.io/library/mine:latest",)
    assert image.config.cmd == ("/bin/a",)
    assert Path(store.layer_paths(image)[0], "etc/a").exists()
    with pytest.raises(Corrupt):
        import_image(store, io.BytesIO(b"nonsense" * 1000))


@pytest.fixture
def broken_tiny(store: ImageStore) -> Iterator[ImageStore]:
    yield store
    if store.list():
        store.remove("tiny")
    nothing_left(store)


@pytest.mark.parametrize("busybox", [True, False])
def test_tiny(broken_tiny: ImageStore, monkeypatch: pytest.MonkeyPatch, busybox: bool) -> None:
    store = broken_tiny
    from nanocontainer.image import tiny

    if not busybox:
        monkeypatch.setattr(tiny, "_busybox", lambda: None)
    elif tiny._busybox() is None:
        pytest.skip("this host has no busybox")
    image = ensure_tiny(store)
    assert image.names == ("docker.io/library/tiny:latest",)
    assert store.find("tiny") == image
    assert ensure_tiny(store) == image
    root = store.layer_paths(image)[0]
    script = "ls / && echo hello | tr a-z A-Z && id -un && [ $(uname) = Linux ] && env | grep -q A=1 && printf x"
    done = subprocess.run(
        ["chroot", root, "sh", "-c", script],
        env={"A": "1", "PATH": "/bin:/usr/bin:/sbin:/usr/sbin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "HELLO\nroot\nx" in done.stdout
    for name, mode in (("tmp", 0o1777), ("root", 0o700), ("proc", 0o555), ("etc", 0o755)):
        assert os.stat(f"{root}/{name}").st_mode & 0o7777 == mode
    store.remove("tiny")
    assert ensure_tiny(store) == image  # the same again
    shutil.rmtree(store.layer_paths(image)[0])
    assert ensure_tiny(store) == image  # a damaged one is made anew
    assert os.path.isdir(store.layer_paths(image)[0])


def test_tiny_needs_a_shell(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanocontainer.errors import Unsupported
    from nanocontainer.image import tiny

    monkeypatch.setattr(tiny, "_busybox", lambda: None)
    monkeypatch.setattr(tiny, "_PATH", "/nowhere")
    with pytest.raises(Unsupported):
        ensure_tiny(store)
