"""A container's files: all of them as a tar (docker export), and what it has changed as an image (docker commit).

Neither starts anything. For export its layers and its own directory are stacked read-only once more (rootfs/view.py),
beside the container where it runs; so volumes and /proc, which are mounted in the container, are only empty directories
there, as docker has it. For commit overlayfs has done the work already: the upper directory is the change.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from ..errors import NanoError, reason
from ..image import holding, layertar
from ..image.changes import apply_changes
from ..image.making import commit_image, new_name
from ..image.writing import source_date
from ..paths import make_dirs
from ..rootfs.view import view
from .events import emit
from .planner import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from ..image.model import Image
    from .lifecycle import Lifecycle
    from .spec import Container, Spec

_OURS = ("etc/hosts", "etc/hostname", "etc/resolv.conf")  # what we mount there leaves an empty file below


def export_tar(life: Lifecycle, container: Container) -> Iterator[bytes]:
    """The container's whole root file system as a tar, in chunks. NotPermitted, Corrupt."""
    image = life.images.find(container.spec.image_id)
    with holding.held(life.images, [image]), _merged(life, container, image) as root:
        yield from layertar.tar_of(root)
    emit(life.paths, "container", "export", container.id, name=container.name)


@contextmanager
def _merged(life: Lifecycle, container: Container, image: Image) -> Iterator[int]:
    """The open root of what the container sees, read-only. Its layers are held by the caller."""
    facts = life.facts()
    spare = f"{life.paths.run}/empty"
    make_dirs(spare)
    lower = (f"{life.paths.container(container.id)}/upper", *reversed(life.images.open_layers(image)))
    fd = view(life.kernel, lower, append=facts.since(6, 5), spare=spare)
    try:
        yield fd
    finally:
        os.close(fd)


def commit(
    life: Lifecycle,
    container: Container,
    name: str = "",
    *,
    changes: Sequence[str] = (),
    message: str = "",
    author: str = "",
    pause: bool = True,
) -> Image:
    """See Engine.commit."""
    names = new_name(name)  # before anything is done
    store = life.images
    parent = store.find(container.spec.image_id)
    run = apply_changes(_run_config(store.raw_config(parent).get("config") or {}, container.spec), changes)
    upper = f"{life.paths.container(container.id)}/upper"
    stubs = frozenset(os.fsencode(path) for path in _OURS if _is_empty(f"{upper}/{path}"))
    with _still(life, container, pause), holding.held(store, [parent]), _merged(life, container, parent) as root:
        layer = layertar.tar_of(upper, layer=True, merged=root, newest=source_date(), skip=stubs.__contains__)
        image = commit_image(
            store, parent, layer,
            names[0] if names else "", run=run, created_by=" ".join(container.spec.args), message=message,
            author=author,
        )  # fmt: skip
    emit(life.paths, "container", "commit", container.id, name=container.name, imageID=image.id)
    return image


def _is_empty(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not found.st_size


@contextmanager
def _still(life: Lifecycle, container: Container, pause: bool) -> Iterator[None]:
    """Its processes do not move meanwhile, if it runs: half-written files are not what anybody wants."""
    if not pause or container.state.status != "running":
        yield
        return
    from ..runtime.cgroup import freeze

    with _let_go(life, container.state.cgroup):
        try:
            freeze(life.kernel, container.state.cgroup, True)
        except FileNotFoundError:  # it has just ended
            pass
        except OSError as error:
            raise NanoError(f"cannot pause container {container.name}", *reason(error)) from None
        yield
    try:
        freeze(life.kernel, container.state.cgroup, False)
    except OSError:
        pass  # it was killed meanwhile


@contextmanager
def _let_go(life: Lifecycle, cgroup: str) -> Iterator[None]:
    """Whatever becomes of us, also SIGKILL, what is frozen in between runs on: a process of its own sees to it, which
    waits for the end of a pipe that only we hold open."""
    reading, writing = os.pipe()
    child = life.kernel.fork()
    if not child:
        try:
            os.setsid()  # what the terminal sends to us is not for it
            os.dup2(reading, 0)
            life.kernel.close_range(1, 0xFFFFFFFF, 0)  # among them the pipe's other end, and locks
            os.read(0, 1)
            life.kernel.write_file(f"{cgroup}/cgroup.freeze", b"0")
        finally:
            os._exit(0)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def _run_config(base: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """How the container was run, as "config" of an image; what only this container has (its host name) is left out."""
    config = dict(base)
    if spec.entrypoint is not None:
        config["Entrypoint"] = list(spec.entrypoint)
    if spec.command:
        config["Cmd"] = list(spec.command)
    elif spec.entrypoint is not None:
        config.pop("Cmd", None)
    had = base.get("Env") or []
    added = (f"HOSTNAME={spec.hostname}", "TERM=xterm" if spec.tty else "", f"PATH={DEFAULT_PATH}")
    config["Env"] = [item for item in spec.env if item in had or item not in added]
    config["User"], config["Labels"], config["StopSignal"] = spec.user, dict(spec.labels), spec.stop_signal
    config["WorkingDir"] = spec.cwd if spec.cwd != "/" or base.get("WorkingDir") else ""
    config["ExposedPorts"] = {port: {} for port in spec.exposed}
    return {key: value for key, value in config.items() if value or key in ("Entrypoint", "Cmd")}
