"""The store: names, ids, tags, removal, broken files, leftovers. Layers are plain directories here; no root needed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import Conflict, Corrupt, InvalidInput, NanoError, NotFound
from nanocontainer.image import claims
from nanocontainer.image.model import Image
from nanocontainer.image.store import ImageStore
from nanocontainer.paths import Paths

MANIFEST = "sha256:" + "e" * 64


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Paths(str(tmp_path / "state"), str(tmp_path / "run")))


def layer(store: ImageStore, name: str) -> str:
    """A made layer with one file; its diff id."""
    digest = hashlib.sha256(name.encode()).hexdigest()

    def make(directory: str) -> int:
        Path(directory, name).write_text(name)
        return len(name)

    os.makedirs(store.layers, exist_ok=True)
    fd, _ = claims.obtain(f"{store.layers}/{digest}", make)
    os.close(fd)
    return f"sha256:{digest}"


def add(
    store: ImageStore, *names: str, layers: tuple[str, ...] = ("base",), digests: tuple[str, ...] = (), **config: Any
) -> Image:
    diff_ids = [layer(store, name) for name in layers]
    raw = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": diff_ids}, **config}).encode()
    return store.add(raw, names=names, digests=digests, manifest=b'{"manifest": 1}' + raw)


def refs(store: ImageStore) -> list[str]:
    return sorted(os.listdir(f"{store.root}/refs"))


def layer_names(store: ImageStore) -> set[str]:
    return {name for entry in os.scandir(store.layers) if entry.is_dir() for name in os.listdir(entry)}


ALPINE = "docker.io/library/alpine:latest"


def test_an_empty_store(store: ImageStore) -> None:
    assert store.list() == []
    assert store.sweep() == []
    with pytest.raises(NotFound) as told:
        store.find("alpine")
    assert "pull alpine" in told.value.hint
    assert not os.path.exists(store.root)


def test_find_by_everything(store: ImageStore) -> None:
    repo = "docker.io/library/alpine"
    image = add(
        store,
        ALPINE,
        digests=(f"{repo}@{MANIFEST}",),
        created="2025-01-01T00:00:00Z",
        config={"Cmd": ["sh"], "Env": ["A=1"]},
    )
    hex = image.id[7:]
    for name in (
        "alpine",
        "alpine:latest",
        "docker.io/alpine",
        ALPINE,
        image.id,
        hex,
        hex[:12],
        hex[:1],
        f"sha256:{hex[:5]}",
        f"alpine@{MANIFEST}",
        f"alpine:whatever@{MANIFEST}",
    ):
        assert store.find(name) == image, name
    assert image.names == (ALPINE,)
    assert image.digests == (f"{repo}@{MANIFEST}",)
    assert image.config.cmd == ("sh",)
    assert image.size == len("base")
    assert store.list() == [image]
    assert store.raw_config(image)["architecture"] == "amd64"
    for name in ("alpin", "alpine:3", "user/alpine", "0" * 64, "sha256:" + "0" * 64, f"alpine@sha256:{'d' * 64}"):
        with pytest.raises(NotFound):
            store.find(name)
    for name in ("Alpine", "a b", ""):
        with pytest.raises(InvalidInput):
            store.find(name)


def test_an_ambiguous_prefix(store: ImageStore) -> None:
    firsts: dict[str, list[Image]] = {}
    for number in range(17):
        image = add(store, created=str(number))
        firsts.setdefault(image.id[7], []).append(image)
    shared = next(digit for digit, images in firsts.items() if len(images) > 1)
    with pytest.raises(InvalidInput) as told:
        store.find(shared)
    assert "ambiguous" in str(told.value)


def test_a_name_goes_before_a_prefix(store: ImageStore) -> None:
    image = add(store)
    prefix = next(image.id[7:end] for end in range(8, 40))
    named = add(store, f"docker.io/library/{prefix}:latest", created="x")
    assert store.find(prefix).id == named.id


def test_list_is_newest_first(store: ImageStore) -> None:
    for created in ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2023-01-01T00:00:00Z"):
        add(store, created=created)
    assert [image.created[:4] for image in store.list()] == ["2025", "2024", "2023"]


def test_a_name_moves(store: ImageStore) -> None:
    old = add(store, ALPINE, "docker.io/library/keep:1")
    new = add(store, ALPINE, created="2025")
    assert store.find("alpine").id == new.id
    assert store.find(old.id).names == ("docker.io/library/keep:1",)
    tagged = store.tag("keep:1", "alpine")
    assert tagged.names == (ALPINE, "docker.io/library/keep:1")
    assert store.find(new.id).names == ()
    assert len(store.list()) == 2


def test_tag(store: ImageStore) -> None:
    image = add(store, ALPINE)
    assert store.tag("alpine", "localhost:5000/me/app").names == (ALPINE, "localhost:5000/me/app:latest")
    assert store.tag("alpine", "alpine") == store.find(image.id)
    assert store.find("localhost:5000/me/app").id == image.id
    for wrong in ("A", f"a@{MANIFEST}"):
        with pytest.raises(InvalidInput):
            store.tag("alpine", wrong)
    with pytest.raises(NotFound):
        store.tag("nothing", "x")


def test_layer_paths(store: ImageStore) -> None:
    image = add(store, ALPINE, layers=("a", "b", "a"))
    paths = store.layer_paths(image)
    assert [os.listdir(path) for path in paths] == [["b"], ["a"]]  # a layer given twice counts at its upper place
    os.rename(paths[0], paths[0] + ".x")
    with pytest.raises(Corrupt):
        store.layer_paths(image)


def test_an_image_without_layers_has_an_empty_one(store: ImageStore) -> None:
    image = add(store, ALPINE, layers=())
    (path,) = store.layer_paths(image)
    assert os.listdir(path) == []
    assert store.sweep() == []
    assert f"Deleted: {image.id}" in store.remove("alpine")


# --- removal


def test_rmi_untags_then_deletes(store: ImageStore) -> None:
    image = add(
        store, ALPINE, "docker.io/library/other:1", layers=("a", "b"), digests=(f"docker.io/library/alpine@{MANIFEST}",)
    )
    assert store.remove("other:1") == ["Untagged: other:1"]
    assert store.remove("alpine") == [
        "Untagged: alpine:latest",
        f"Untagged: alpine@{MANIFEST}",
        f"Deleted: {image.id}",
        *(f"Deleted: {diff_id}" for diff_id in reversed(image.layers)),
    ]
    assert store.list() == []
    assert (
        refs(store)
        == os.listdir(store.layers)
        == os.listdir(f"{store.root}/blobs/sha256")
        == os.listdir(f"{store.root}/ids")
        == []
    )


def test_rmi_of_an_image_without_a_manifest_leaves_the_blobs_of_others(store: ImageStore) -> None:
    other = add(store, "docker.io/library/other:1", layers=("a",))
    diff_id = layer(store, "b")
    store.add(json.dumps({"rootfs": {"diff_ids": [diff_id]}}).encode(), names=(ALPINE,))  # as load and commit make it
    store.remove("alpine")
    assert store.blob(other.id) and store.blob(other.manifest)


def test_rmi_keeps_digests_while_a_tag_of_the_repository_is_there(store: ImageStore) -> None:
    add(store, ALPINE, "docker.io/library/alpine:3", digests=(f"docker.io/library/alpine@{MANIFEST}",))
    assert store.remove("alpine") == ["Untagged: alpine:latest"]
    assert store.find(f"alpine@{MANIFEST}").names == ("docker.io/library/alpine:3",)


def test_rmi_by_digest(store: ImageStore) -> None:
    image = add(store, digests=(f"docker.io/library/alpine@{MANIFEST}",))
    assert store.remove(f"alpine@{MANIFEST}")[:2] == [f"Untagged: alpine@{MANIFEST}", f"Deleted: {image.id}"]


def test_rmi_by_id(store: ImageStore) -> None:
    image = add(store, ALPINE)
    assert store.remove(image.id[7:19]) == [
        "Untagged: alpine:latest",
        f"Deleted: {image.id}",
        f"Deleted: {image.layers[0]}",
    ]
    image = add(store, ALPINE, "docker.io/library/b:1")
    with pytest.raises(Conflict) as told:
        store.remove(image.id)
    assert "-f" in told.value.hint
    assert f"Deleted: {image.id}" in store.remove(image.id, force=True)
    with pytest.raises(NotFound):
        store.remove(image.id)


def test_rmi_of_what_containers_use(store: ImageStore) -> None:
    image = add(store, ALPINE, "docker.io/library/b:1")
    in_use = {image.id: ["web"]}
    assert store.remove("b:1", in_use=in_use) == ["Untagged: b:1"]
    for name in ("alpine", image.id):
        with pytest.raises(Conflict) as told:
            store.remove(name, in_use=in_use)
        assert "web" in told.value.why
    assert store.remove("alpine", force=True, in_use=in_use) == ["Untagged: alpine:latest"]
    assert store.layer_paths(store.find(image.id))
    with pytest.raises(Conflict):
        store.remove(image.id, force=True, in_use=in_use)
    assert store.remove(image.id) == [f"Deleted: {image.id}", f"Deleted: {image.layers[0]}"]


def test_rmi_while_a_container_is_made_of_it(store: ImageStore) -> None:
    """The container appears after its users were asked for: it is asked once more when the record is gone."""
    image = add(store, ALPINE)
    asked = []

    def taken(id: str) -> bool:
        asked.append((id, store.list()))
        return True

    assert store.remove("alpine", taken=taken) == ["Untagged: alpine:latest"]
    assert asked == [(image.id, [])]
    assert store.find(image.id) == image.replace(names=())
    assert store.layer_paths(image)


def test_shared_layers_stay(store: ImageStore) -> None:
    first = add(store, "docker.io/library/a:1", layers=("base", "a"))
    second = add(store, "docker.io/library/b:1", layers=("base", "b"))
    assert store.remove("a:1") == ["Untagged: a:1", f"Deleted: {first.id}", f"Deleted: {first.layers[1]}"]
    assert layer_names(store) == {"base", "b"}
    assert len(store.layer_paths(second)) == 2


def test_a_layer_that_a_pull_holds_is_not_deleted(store: ImageStore) -> None:
    image = add(store, ALPINE)
    place = f"{store.layers}/{image.layers[0][7:]}"

    def make(directory: str) -> int:
        raise AssertionError("the layer is there")

    held, made = claims.obtain(place, make)
    assert not made
    assert store.remove("alpine") == ["Untagged: alpine:latest", f"Deleted: {image.id}"]
    assert store.sweep() == []
    assert os.path.isdir(place)
    os.close(held)
    assert store.sweep() == [place]
    assert os.listdir(store.layers) == []


# --- broken files


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"id": 5}',
        '{"id": "sha256:ID", "layers": 5}',
        '{"id": "sha256:ID", "layers": ["x"]}',
        '{"id": "sha256:ID", "config": 7}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_broken_records_are_named_and_can_be_removed(store: ImageStore, text: str) -> None:
    good = add(store, "docker.io/library/good:1", layers=("good",))
    bad = add(store, ALPINE, layers=("bad",))
    path = f"{store.root}/ids/{bad.id[7:]}.json"
    Path(path).write_text(text.replace("ID", bad.id[7:]), errors="surrogateescape")
    for name in ("alpine", bad.id):
        with pytest.raises(Corrupt) as told:
            store.find(name)
        assert path in told.value.why
    with pytest.raises(Corrupt):
        store.list()
    errors: list[Corrupt] = []
    assert store.list(errors.append) == [good]
    assert len(errors) == 1
    assert store.remove("good:1") == ["Untagged: good:1", f"Deleted: {good.id}"]  # the broken one may need the layer
    assert store.sweep() == []
    assert store.remove("alpine") == ["Untagged: alpine:latest", f"Deleted: {bad.id}"]
    store.sweep()
    assert os.listdir(store.layers) == os.listdir(f"{store.root}/blobs/sha256") == refs(store) == []


def test_a_name_without_a_record(store: ImageStore) -> None:
    image = add(store, ALPINE)
    os.unlink(f"{store.root}/ids/{image.id[7:]}.json")
    with pytest.raises(NotFound):
        store.find("alpine")
    assert store.list() == []
    assert store.remove("alpine") == ["Untagged: alpine:latest"]
    assert add(store, ALPINE).names == (ALPINE,)


def test_broken_blobs(store: ImageStore) -> None:
    image = add(store, ALPINE)
    path = Path(f"{store.root}/blobs/sha256/{image.id[7:]}")
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(Corrupt):
        store.raw_config(image)
    path.unlink()
    with pytest.raises(Corrupt):
        store.blob(image.id)


def test_no_record_without_its_layers(store: ImageStore) -> None:
    raw = json.dumps({"rootfs": {"diff_ids": [MANIFEST]}}).encode()
    with pytest.raises(Corrupt):
        store.add(raw, names=[ALPINE])
    assert store.list() == []


# --- what killed processes leave


def test_sweep(store: ImageStore) -> None:
    image = add(store, ALPINE)
    half, whole = "1" * 64, "2" * 64
    os.makedirs(f"{store.layers}/{half}.tmp/usr/bin")
    Path(f"{store.layers}/{half}.lock").touch()
    os.makedirs(f"{store.layers}/{whole}/etc")
    Path(f"{store.layers}/{whole}.json").write_text('{"size": 1}')
    os.makedirs(f"{store.layers}/{'3' * 64}.gone/etc")
    Path(f"{store.root}/blobs/sha256/{'4' * 64}").touch()
    Path(f"{store.root}/ids/{image.id[7:]}.json.1.tmp").touch()
    os.symlink("../ids/x.json", f"{store.root}/refs/.tmp")
    swept = store.sweep()
    assert len(swept) == 6
    assert store.sweep() == []
    assert store.find("alpine") == image
    assert store.layer_paths(image)
    assert layer_names(store) == {"base"}
    assert sorted(os.listdir(store.layers)) == [image.layers[0][7:] + end for end in ("", ".json", ".lock")]


def test_a_removal_sweeps(store: ImageStore) -> None:
    add(store, ALPINE)
    os.makedirs(f"{store.layers}/{'1' * 64}.tmp/usr")
    os.makedirs(f"{store.layers}/{'2' * 64}.gone/usr")
    store.remove("alpine")
    assert os.listdir(store.layers) == []


def test_names_of_a_crash_are_corrected(store: ImageStore) -> None:
    """Killed between a record and its names: who looks believes the names on disk, and who changes something gives the
    image the name that nobody else has."""
    image = add(store, ALPINE)
    os.unlink(f"{store.root}/refs/{ALPINE.replace('/', '%')}")
    assert store.find(image.id).names == (ALPINE,)  # the copy, one read
    assert store.list()[0].names == ()
    store.sweep()
    assert store.list() == [image]
    assert store.find(ALPINE) == image


def test_a_name_that_another_image_has_by_now_is_not_given_back(store: ImageStore) -> None:
    image = add(store, ALPINE)
    record = Path(f"{store.root}/ids/{image.id[7:]}.json")
    before = record.read_text()
    other = add(store, ALPINE, layer="other")
    record.write_text(before)  # as if killed before the record was written again
    store.sweep()
    assert store.find(ALPINE).id == other.id
    assert store.find(image.id).names == ()


def test_what_the_system_refuses_is_told_in_words(store: ImageStore) -> None:
    add(store, ALPINE)
    os.rename(f"{store.root}/refs", f"{store.root}/other")
    Path(f"{store.root}/refs").touch()
    for act in (
        lambda: store.find("alpine"),
        lambda: store.tag("alpine", "b"),
        lambda: store.remove("alpine"),
        store.sweep,
    ):
        with pytest.raises(NanoError):
            act()


def test_sweep_leaves_what_is_worked_at(store: ImageStore) -> None:
    os.makedirs(f"{store.layers}/{'1' * 64}.tmp")
    fd = os.open(f"{store.layers}/{'1' * 64}.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert store.sweep() == []
    os.close(fd)
    assert len(store.sweep()) == 1
