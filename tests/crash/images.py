"""pull, load and rmi killed behind every call that changes something: names, records, blobs, layers.

After one sweep every image that is listed is whole and has a name; what a killed pull has got so far is kept for the
next one, and only that. The same again succeeds and has used it up, rmi takes the image away, and the store is as it
was before: no temporary file, no layer without an image.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

from nanocontainer.engine import Engine
from nanocontainer.errors import Corrupt, NotFound
from nanocontainer.image.partial import partials
from nanocontainer.kernel import abi
from nanocontainer.kernel.calls import Kernel

from .bench import Bench
from .calls import dying
from .crew import _NOT_LOADED, Job
from .moments import board


def warm(bench: Bench) -> None:
    """Load what pulling needs, once."""
    for name in ("registry", "pull", "archive", "install", "layers", "removal"):
        assert f".{name}" in _NOT_LOADED or name == "removal"
        importlib.import_module(f"nanocontainer.image.{name}")
    importlib.import_module("urllib3")


def _act(verb: str, source: str, name: str, netns: str) -> Callable[[Engine], object]:
    def act(engine: Engine) -> None:
        if verb == "load":
            engine.load(source)
        elif verb == "rmi":
            engine.remove_image(name)
        else:
            network = os.open(netns, os.O_RDONLY)
            Kernel().setns(network, abi.CLONE_NEWNET)  # where the registry is
            engine.pull(name)

    return act


def _files(bench: Bench) -> set[str]:
    """All of the store but what layers contain, and the lock."""
    found = set()
    for place, directories, files in os.walk(bench.paths.images):
        found |= {f"{place}/{name}" for name in (*directories, *files) if name != "lock"}
        if os.path.basename(place) == "layers":
            directories.clear()
    return found


def _damage(bench: Bench) -> list[str]:
    """What is wrong with the images that are listed."""
    problems: list[str] = []
    store = bench.life.images
    for image in store.list(lambda error: problems.append(f"{error}")):
        try:
            store.layer_paths(image)
            store.blob(image.id)
        except Corrupt as error:
            problems.append(f"{error}")
        if not image.names and not image.digests:
            problems.append(f"an image without a name: {image.id}")
        for name in image.names:
            try:
                store.find(name)
            except NotFound:
                problems.append(f"{name} is listed and not found")
    return problems


def kill_in_image(
    bench: Bench, verb: str, source: str, name: str, netns: str, at: int, torn: bool = False
) -> list[str]:
    """verb: pull, load or rmi; it dies behind its n-th call."""
    act, remove = _act(verb, source, name, netns), _act("rmi", source, name, netns)
    make = _act("load" if verb == "rmi" else verb, source, name, netns)
    before = bench.files = bench.files or _files(bench)
    if verb == "rmi":
        bench.must(make)
    problems = dying(bench, act, at, torn)
    bench.count = board.count
    bench.must(lambda engine: engine.life.images.sweep())
    problems += [f"after the kill and a sweep: {line}" for line in _damage(bench)]
    kept = partials(bench.paths.images)
    if verb != "pull":
        problems += [f"kept, and nothing was pulled: {path}" for path in kept]
    bench.must(make)
    problems += [f"kept, and it is here now: {path}" for path in partials(bench.paths.images)]
    if name not in [each for image in bench.life.images.list() for each in image.names]:
        problems.append("it is not there, although it was brought again")
    problems += _damage(bench)
    bench.must(remove)
    after = _files(bench)
    problems += [f"+ {path}" for path in sorted(after - before)] + [f"- {path}" for path in sorted(before - after)]
    bench.files = after
    return problems


def count_in_image(bench: Bench, verb: str, source: str, name: str, netns: str) -> int:
    if verb == "rmi":
        bench.must(_act("load", source, name, netns))
    bench.must(_act("load", source, name, netns))
    bench.must(_act("rmi", source, name, netns))  # the directories of the store are there from now on
    problems = kill_in_image(bench, verb, source, name, netns, 0)
    assert not problems, problems
    return bench.count


JOBS: dict[str, Job] = {"warm": warm, "kill_in_image": kill_in_image, "count_in_image": count_in_image}
