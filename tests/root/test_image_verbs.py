"""images, history, inspect, system df, image prune: on images whose layers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nano import Nano
from .test_image_layers import one, tar_of

BASE = tar_of(one("etc/base", b"b" * 10_000))
EXTRA = tar_of(one("etc/extra", b"e" * 700), one("etc/base", b"changed"))
OTHER = tar_of(one("etc/other", b"o" * 90))


@pytest.fixture(scope="module")
def made(nano: Nano, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """base:1, and on top of it top:1 and top:2; made without starting anything."""
    place = tmp_path_factory.mktemp("made")
    (place / "base.tar").write_bytes(BASE)
    nano("import", "-m", "the base", "-c", 'CMD ["/bin/x"]', "-c", "LABEL kind=base", str(place / "base.tar"), "base:1",
         env={"SOURCE_DATE_EPOCH": "1600000000"})  # fmt: skip
    for number, name in enumerate(("extra", "other")):
        nano("create", "--name", name, "-v", f"{name}:/data", "base:1")
        upper = next(Path(nano.root, "containers").glob(f"{nano('ps', '-aqf', f'name={name}').out.strip()}*")) / "upper"
        (upper / "etc").mkdir()
        (upper / "etc" / name).write_bytes(b"x" * (100 * (number + 1)))
        nano("commit", "-m", f"adds {name}", "-c", "USER 7", name, f"top:{number + 1}",
             env={"SOURCE_DATE_EPOCH": str(1650000000 + number)})  # fmt: skip
    nano("rm", "other")
    yield place
    nano("rm", "-v", "extra")
    nano("rmi", "-f", "base:1", "top:1", "top:2", check=False)


def test_images(nano: Nano, made: Path) -> None:
    form = ("--format", "{{.Repository}}:{{.Tag}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}}")
    lines = nano("images", *form).out.splitlines()
    assert {"base:1 1 10kB 0B", "top:1 0 10kB 100B", "top:2 0 10kB 200B"} <= set(lines)
    assert nano("images", "--tree").out == nano("image", "tree").out
    names = ("--format", "{{.Repository}}:{{.Tag}}")
    assert nano("images", *names, "-f", "since=base:1", "top").out.splitlines() == ["top:2", "top:1"]
    assert nano("images", *names, "-f", "before=top:2", "-f", "since=base:1", "top").out == "top:1\n"
    assert nano("images", *names, "-f", "until=2021-01-01", "-f", "label=kind=base").out == "base:1\n"
    assert nano("images", *names, "top").out.splitlines() == ["top:2", "top:1"]
    assert nano("images", "-f", "dangling=maybe", check=False).code == 1


def test_history_and_inspect(nano: Nano, made: Path) -> None:
    form = ("--format", "{{.Comment}}|{{.Size}}", "--human=false")
    assert nano("history", *form, "top:1").out.splitlines() == ["adds extra|100", "the base|10000"]
    assert nano("history", "-q", "--no-trunc", "top:1").out.splitlines()[1] == "<missing>"
    (seen,) = json.loads(nano("image", "inspect", "top:1").out)
    assert (seen["Comment"], seen["Config"]["User"], len(seen["RootFS"]["Layers"])) == ("adds extra", "7", 2)
    assert seen["Created"].startswith("2022-04-15") and seen["Metadata"]["LastTagTime"] > "2025"
    assert seen["GraphDriver"]["Data"]["LowerDir"]


def test_df(nano: Nano, made: Path) -> None:
    rows = [json.loads(line) for line in nano("system", "df", "--format", "json").out.splitlines()]
    kinds = {row["Type"]: row for row in rows}
    assert list(kinds) == ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert int(kinds["Images"]["TotalCount"]) >= 3 and int(kinds["Containers"]["TotalCount"]) >= 1
    partial = Path(nano.root, "images", "partial", "0" * 64)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(bytes(5000))
    try:
        out = nano("system", "df", "-v").out
    finally:
        partial.unlink()
    assert "broke off hold 8.19kB" in out
    (shared,) = (line for line in out.splitlines() if "base:1, " in line or ", base:1" in line)
    assert "top:1" in shared and "top:2" in shared and "10kB" in shared


def test_prune(nano: Nano, made: Path) -> None:
    """Last of this file: it takes images away."""
    nano("tag", "top:2", "spare:1")
    nano("rmi", "top:2")
    assert nano("image", "prune", check=False).code == 1  # nobody can be asked
    assert "reclaimed space: 0B" in nano("image", "prune", "-a", "-f", "--filter", "until=2022-01-01").out
    assert nano("images", "-q", "base:1").out
    done = nano("image", "prune", "-a", "-f", "--filter", "label=kind=base", "--filter", "label!=nothing").out
    assert "untagged: spare:1" in done and "untagged: top:1" in done and "base:1" not in done
    assert "reclaimed space: 300B" in done
    assert nano("images", "--format", "{{.Repository}}", "-f", "label=kind=base").out == "base\n"


def test_what_broken_pulls_left(nano: Nano, tmp_path: Path) -> None:
    """Counted by df, kept by a filtered prune (the next pull goes on with it), swept by prune -a."""

    def run(*words: str) -> str:
        return str(nano(*words, env={"NANOCONTAINER_ROOT": str(tmp_path), "NANOCONTAINER_RUNROOT": ""}).out)

    tar = tmp_path / "one.tar"
    tar.write_bytes(OTHER)
    run("rmi", run("import", str(tar)).strip())
    half, blob = tmp_path / f"images/layers/{'e' * 64}.tmp", tmp_path / f"images/partial/{'f' * 64}"
    blob.parent.mkdir()
    half.write_bytes(b"x" * 8192)
    blob.write_bytes(b"y" * 4096)
    assert "Pulls that broke off hold 12.3kB" in run("system", "df", "-v")
    assert run("system", "df", "--format", "{{.Size}} {{.Reclaimable}}").splitlines()[0] == "12.3kB 12.3kB (100%)"
    assert "reclaimed space: 8.192kB" in run("image", "prune", "-f")
    assert blob.exists() and not half.exists()
    assert "reclaimed space: 0B" in run("image", "prune", "-a", "-f", "--filter", "until=2000-01-01")
    assert blob.exists()
    assert "reclaimed space: 4.096kB" in run("image", "prune", "-a", "-f")
    assert not blob.exists() and "broke off" not in run("system", "df", "-v")


def test_events(nano: Nano, made: Path, registry: str) -> None:
    """What docker's own tools know of an image's life stands in events.log, in docker's words."""
    log = Path(nano.root, "events.log")
    before = log.stat().st_size
    name = f"{registry}/told:1"
    id = nano("import", str(made / "base.tar"), "told:0").out.strip()
    nano("tag", "told:0", name)
    nano("push", "-q", name)
    nano("save", "-o", str(made / "told.tar"), name)
    nano("rmi", name)
    nano("pull", "-q", name)
    nano("rmi", name, "told:0")
    nano("load", "-q", "-i", str(made / "told.tar"))
    nano("rmi", name)
    with open(log) as file:
        file.seek(before)
        found = [one for one in map(json.loads, file) if one["Type"] == "image"]
    assert {one["Actor"]["ID"] for one in found} == {id, name}
    assert [(one["Action"], one["Actor"]["Attributes"]["name"]) for one in found] == [
        ("import", id), ("tag", name), ("push", name[:-2]), ("save", id), ("untag", id), ("untag", id),
        ("pull", name[:-2]), ("untag", id), ("untag", id), ("untag", id), ("delete", id),
        ("load", id), ("untag", id), ("delete", id),
    ]  # fmt: skip
