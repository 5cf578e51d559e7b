"""save: what other programs make of it, and what comes back; layers as the bytes that they came as."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from nanocontainer.errors import Conflict, Corrupt, InvalidInput, NotFound, Unsupported
from nanocontainer.image.archive import load
from nanocontainer.image.layers import apply_layer
from nanocontainer.image.layertar import tar_of as tar_of_tree
from nanocontainer.image.recipe import put_together
from nanocontainer.image.save import save
from nanocontainer.image.sources import sources
from nanocontainer.image.store import ImageStore
from nanocontainer.image.tiny import ensure_tiny
from nanocontainer.paths import Paths

from .images import write_layout
from .test_image_layers import one, tar_of
from .test_image_registry import nothing_left

FIRST = tar_of(one("etc/a", b"1" * 5000), one("etc/gone", b"x"), one("bin/sh", b"#!/bin/false"))
SECOND = tar_of(one("etc/b", b"2"), one("etc/.wh.gone", b""))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(str(tmp_path / "state"), str(tmp_path / "run")))


def loaded(store: ImageStore, place: Path, *tars: bytes) -> str:
    """An image of these layers, called app:1; its id."""
    files = []
    for number, data in enumerate(tars):
        (place / f"{number}.tar").write_bytes(data)
        files.append(place / f"{number}.tar")
    write_layout(place / "layout", files, {"Cmd": ["sh"], "Env": ["A=b"]})
    (image,) = load(store, str(place / "layout"))
    store.tag(image.id, "app:1")
    return image.id


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not there: ./check setup installs it")


@pytest.mark.parametrize("form", ["directory", "erofs"])
def test_a_layer_is_given_back_byte_for_byte(store: ImageStore, tmp_path: Path, form: str) -> None:
    """Whatever form it was of: GNU's, pax, with rubbish behind its end, sparse files, without an end."""
    store.form = form
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / ("n" * 150)).write_bytes(os.urandom(70_000))
    with open(tree / "sparse", "wb") as file:
        file.write(b"a" * 4096)
        file.seek(1 << 20)
        file.write(b"b" * 5000)
    os.link(tree / "sparse", tree / "d" / "link")
    (tree / "d" / "to").symlink_to("../sparse")
    tars = [
        subprocess.run(["tar", "-C", str(tree), "-cf", "-", *flags, "."], capture_output=True, check=True).stdout
        for flags in (["--format=gnu", "-S"], ["--format=pax", "-S"], ["--format=ustar", "--exclude=nnn*"])
    ]
    tars.append(tars[2] + b"more" * 3000)
    tars.append(FIRST[:-1024])
    loaded(store, tmp_path, *tars)
    found = sources(store, store.find("app:1"))
    assert not found.anew
    for layer, data in zip(found.layers, tars, strict=True):
        assert b"".join(layer.chunks()) == data
    place = Path(store.layers, found.layers[0].diff_id[7:])
    if form == "directory":
        (place / "sparse").write_bytes(b"other")
    else:
        with open(f"{place}.erofs", "r+b") as damaged:
            damaged.seek(10_000)
            damaged.write(b"other")
    with pytest.raises(Corrupt, match="layer .* in the store is damaged"):
        save(store, ["app:1"], str(tmp_path / "out.tar"))
    assert not (tmp_path / "out.tar").exists()


def test_a_layer_that_cannot_be_given_back(store: ImageStore, tmp_path: Path) -> None:
    """One file replaces another: the first one's bytes are gone, and that is said."""
    store.form = "directory"
    image = loaded(store, tmp_path, tar_of(one("a", b"first"), one("a", b"second"), one("b", b"3")))
    notes: list[str] = []
    save(store, ["app:1"], str(tmp_path / "out.tar"), on_note=notes.append)
    assert "byte for byte" in notes[0] and image[7:19] in notes[0]
    other = ImageStore(Paths(str(tmp_path / "other"), str(tmp_path / "run")))
    other.form = "directory"
    (again,) = load(other, str(tmp_path / "out.tar"))
    assert again.id != image
    assert Path(other.layer_paths(again)[0], "a").read_bytes() == b"second"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
@pytest.mark.parametrize("compress", ["", "none", "gzip", "zstd"])
def test_what_comes_back(store: ImageStore, tmp_path: Path, form: str, compress: str) -> None:
    image = loaded(store, tmp_path, FIRST, SECOND)
    ensure_tiny(store)
    out, twice = tmp_path / "out", tmp_path / "twice"
    for target in (out, twice):
        save(store, ["app:1", "tiny", "app"], str(target), form=form, compress=compress)
    if form == "oci-dir":
        assert not subprocess.run(["diff", "-r", out, twice]).returncode
        with pytest.raises(Conflict):
            save(store, ["app:1"], str(out), form=form)
        assert not subprocess.run(["diff", "-r", out, twice]).returncode
    else:
        assert out.read_bytes() == twice.read_bytes()
        assert {path.name for path in tmp_path.iterdir()} - {"run"} == {
            "0.tar", "1.tar", "layout", "state", "out", "twice",
        }  # fmt: skip
    other = ImageStore(Paths(str(tmp_path / "other"), str(tmp_path / "run")))
    found = {one.id: one for one in load(other, str(out))}
    assert found[image].names == ("docker.io/library/app:1",)
    assert len(found) == 2
    for name in ("app:1", "tiny"):
        other.remove(name)
        store.remove(name)
    nothing_left(other)


def test_to_a_stream_and_what_is_wrong(store: ImageStore, tmp_path: Path) -> None:
    image = loaded(store, tmp_path, FIRST)
    buffer = io.BytesIO()
    save(store, [image[7:19]], buffer)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        member = archive.extractfile("manifest.json")
        assert member and json.load(member)[0]["RepoTags"] is None
    with pytest.raises(NotFound):
        save(store, ["app:1", "nothing:1"], str(tmp_path / "x.tar"))
    with pytest.raises(InvalidInput):
        save(store, ["app:1"], str(tmp_path / "x.tar"), compress="lzma")
    with pytest.raises(InvalidInput):
        save(store, ["app:1"], buffer, form="oci-dir")
    with pytest.raises(InvalidInput):
        save(store, ["app:1"], str(tmp_path))
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_it(store: ImageStore, tmp_path: Path, form: str) -> None:
    """Copied to a layout of its own: the configuration is ours, and the layers are what they were."""
    need("skopeo")
    image = loaded(store, tmp_path, FIRST, SECOND)
    save(store, ["app:1"], str(tmp_path / "out.tar"), form=form)
    tag = ":app:1" if form == "docker-archive" else ":1"
    command = ["skopeo", "--insecure-policy", "copy", "-q"]
    subprocess.run([*command, f"{form}:{tmp_path}/out.tar{tag}", f"oci:{tmp_path}/theirs:x"], check=True)
    blobs = tmp_path / "theirs" / "blobs" / "sha256"
    assert (blobs / image[7:]).exists() or form == "docker-archive"  # skopeo writes OCI's form of the configuration
    plain = {hashlib.sha256(unpacked(path.read_bytes())).hexdigest() for path in blobs.iterdir()}
    assert {hashlib.sha256(data).hexdigest() for data in (FIRST, SECOND)} <= plain


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_what_skopeo_writes_with_zstd(store: ImageStore, tmp_path: Path) -> None:
    """As buildx does it too: an index, and in it a statement about the image (an attestation) beside the image."""
    need("skopeo")
    loaded(store, tmp_path, FIRST, SECOND)
    save(store, ["app:1"], str(tmp_path / "ours"), form="oci-dir")
    words = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-compress-format", "zstd"]
    subprocess.run([*words, f"oci:{tmp_path}/ours:1", f"oci:{tmp_path}/theirs:1"], check=True)
    layout = tmp_path / "theirs"
    index = json.loads((layout / "index.json").read_bytes())
    (image,) = index["manifests"]
    assert "zstd" in (layout / "blobs" / "sha256" / image["digest"][7:]).read_text()
    unknown = {"architecture": "unknown", "os": "unknown"}
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
    inner = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {**image, "annotations": {}, "platform": {"architecture": store.find("app:1").architecture, "os": "linux"}},
        {**image, "platform": unknown, "annotations": about},
    ]}  # fmt: skip
    raw = json.dumps(inner).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(raw)
    names = {"io.containerd.image.name": "docker.io/library/built:1", "org.opencontainers.image.ref.name": "1"}
    outer = {"mediaType": inner["mediaType"], "digest": f"sha256:{digest}", "size": len(raw), "annotations": names}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [outer]}))
    other = ImageStore(Paths(str(tmp_path / "other"), str(tmp_path / "run")))
    (again,) = load(other, str(layout))
    assert again.names == ("docker.io/library/built:1",) and again.layers == store.find("app:1").layers


def test_a_layer_with_references(tmp_path: Path) -> None:
    """With redirect_dir and metacopy overlayfs keeps a renamed directory, and a chmod, as a reference."""
    for name in ("lower/old/sub", "upper", "work", "seen"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lower/old/sub/file").write_text("content")
    (tmp_path / "lower/meta").write_text("all of it")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    overlay = ["mount", "-t", "overlay", "o", "-o", f"{options},redirect_dir=on,metacopy=on", str(tmp_path / "seen")]
    if subprocess.run(overlay, capture_output=True).returncode:
        pytest.skip("this kernel's overlayfs has no redirect_dir or metacopy")
    try:
        (tmp_path / "seen/old").rename(tmp_path / "seen/new")
        (tmp_path / "seen/new/more").write_text("2")
        (tmp_path / "seen/meta").chmod(0o600)
        root = os.open(tmp_path / "seen", os.O_RDONLY)
        try:
            data = b"".join(tar_of_tree(str(tmp_path / "upper"), layer=True, merged=root))
        finally:
            os.close(root)
    finally:
        subprocess.run(["umount", str(tmp_path / "seen")], check=True)
    assert os.getxattr(tmp_path / "upper/new", "trusted.overlay.redirect")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = ["meta", "new", "new/.wh..wh..opq", "new/more", "new/sub", "new/sub/file", ".wh.old"]
        assert archive.getnames() == names
        for name, text in (("new/sub/file", b"content"), ("meta", b"all of it")):
            member = archive.extractfile(name)
            assert member and member.read() == text
    with pytest.raises(Unsupported):
        list(tar_of_tree(str(tmp_path / "upper"), layer=True))


def test_umoci_unpacks_it(store: ImageStore, tmp_path: Path) -> None:
    need("umoci")
    loaded(store, tmp_path, FIRST, SECOND)
    save(store, ["app:1"], str(tmp_path / "out"), form="oci-dir")
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/out:1", str(tmp_path / "bundle")], check=True)
    rootfs = tmp_path / "bundle" / "rootfs"
    assert sorted(str(path.relative_to(rootfs)) for path in rootfs.rglob("*")) == [
        "bin", "bin/sh", "etc", "etc/a", "etc/b"
    ]  # fmt: skip
    assert (rootfs / "etc" / "a").read_bytes() == b"1" * 5000


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """podman with a store of its own."""
    need("podman")
    short = tempfile.TemporaryDirectory()  # podman takes no longer names
    place = ["--root", str(tmp_path / "podman"), "--runroot", short.name, "--storage-driver=vfs"]

    def run(*args: str) -> str:
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(["podman", *place, *args], capture_output=True, text=True, env=env)
        assert not done.returncode, done.stderr
        return done.stdout

    yield run
    umount_below(tmp_path)
    short.cleanup()


def umount_below(place: Path) -> None:
    with open("/proc/self/mountinfo") as table:
        found = [line.split()[4] for line in table]
    for path in reversed([path for path in found if path.startswith(f"{place}/")]):
        subprocess.run(["umount", path], check=True)


def test_podman_reads_and_writes(store: ImageStore, tmp_path: Path, podman: Callable[..., str]) -> None:
    image = loaded(store, tmp_path, FIRST, SECOND)
    save(store, ["app:1"], str(tmp_path / "out.tar"))
    said = podman("load", "-i", str(tmp_path / "out.tar"))
    assert "app:1" in said, said
    assert podman("image", "inspect", "-f", "{{.Id}}", "app:1").strip() == image[7:]
    for form in ("docker-archive", "oci-archive"):
        podman("save", "-q", "--format", form, "-o", str(tmp_path / form), "app:1")
        other = ImageStore(Paths(str(tmp_path / f"state-{form}"), str(tmp_path / "run")))
        (again,) = load(other, str(tmp_path / form))
        assert again.layers == store.find("app:1").layers, form
        assert again.names == ("docker.io/library/app:1",), form


TARS = some.lists(
    some.tuples(
        some.sampled_from(["a", "b", "d/a", "d/b", "d/sub/c", "x" * 120, "e/" + "y" * 120]),
        some.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE]),
        some.binary(max_size=1200),
        some.integers(0, 2**33),
    ),
    max_size=8, unique_by=lambda item: item[0],
)  # fmt: skip


@given(TARS, some.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), some.binary(max_size=700))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layer_has_a_recipe(
    tmp_path: Path, items: list[tuple[str, bytes, bytes, int]], form: int, rest: bytes
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind, data, when in items:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, when, "target" if kind == tarfile.SYMTYPE else ""
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue() + rest
    with tempfile.TemporaryDirectory(dir=tmp_path) as place:
        os.mkdir(f"{place}/layer")
        try:
            pieces = [data[at : at + 997] for at in range(0, len(data), 997)]
            apply_layer(pieces, f"{place}/layer", f"{place}/recipe")
        except Corrupt:  # a file where a directory is to be
            assert not os.path.exists(f"{place}/recipe")
            return
        if os.path.exists(f"{place}/recipe"):
            assert b"".join(put_together(f"{place}/recipe", f"{place}/layer")) == data
        damaged = bytearray(Path(place, "recipe").read_bytes()) if os.path.exists(f"{place}/recipe") else bytearray()
        if damaged:
            Path(place, "recipe").write_bytes(damaged[: len(damaged) // 2])
            with pytest.raises(Corrupt):
                list(put_together(f"{place}/recipe", f"{place}/layer"))
