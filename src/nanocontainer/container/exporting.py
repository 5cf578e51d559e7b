"""A container as a shell script (plan/shell.py): its plan, for a copy that has nothing in common with it on the host.

The script has an id, a directory, a cgroup and, where it needs one, a bridge of its own, with a subnet that is free now
and an nftables table: so it can run while the container does, and touches nothing of the engine's. What both want is
only there once: a published port, and what is in a volume.
"""

from __future__ import annotations

import os
import time

from .. import __version__
from ..clock import rfc3339
from ..image.store import root_of
from ..network import allot, names
from ..network.addresses import number6_of, number_of, subnet_of
from ..network.model import DEFAULT, NetworkStore
from ..paths import Paths
from ..plan import shell
from ..runtime import limits
from . import planner
from .explaining import IMAGINED_IMAGE, image_of
from .starting import devices, hold_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.facts import Facts
    from ..network.allot import Allotment
    from ..network.model import Network
    from .lifecycle import Lifecycle
    from .spec import Mount, Spec


class ScriptPaths(Paths):
    """The places of one script: a directory of its own in the state directory, a group of cgroups for all scripts."""

    @property
    def group(self) -> str:
        return "nanocontainer-script"

    def container(self, id: str) -> str:
        return f"{self.state}/{id}"

    def live(self, id: str) -> str:
        return f"{self.state}/{id}/rootfs"


def new_id() -> str:
    """For a script: twelve hex digits, as much as a host name has of an id."""
    return os.urandom(6).hex()


def script_of_run(life: Lifecycle, wish: Spec, host: Facts, title: str) -> str:
    """The script of a container that `run` would make; of a made-up image where only root can read it."""
    image, layers = image_of(life, wish.image)
    if image is IMAGINED_IMAGE:
        title += "  (The image could not be read without root: put its layers in the place of IMAGE.)"
    id = new_id()
    spec = planner.resolve(wish, image, id=id, name=wish.name or id, created=rfc3339(time.time_ns()),
                           nodename=os.uname().nodename)
    return script_of(life, spec, id, layers, host, title)


def script_of(life: Lifecycle, spec: Spec, id: str, layers: dict[str, str], host: Facts, title: str) -> str:
    """The script for a specification that is resolved: spec.json's, or the one of `run --explain=script`. layers: as
    ImageStore.layer_places; those that are images are mounted in the script's own directory."""
    paths = ScriptPaths(f"{life.paths.state}/scripts", life.paths.run)
    directory = paths.container(id)
    own = {f"{directory}/layer{at}" if file else place: file for at, (place, file) in enumerate(layers.items(), 1)}
    sources = tuple(_source(life, mount, f"{directory}/volume{number}") for number, mount in enumerate(spec.mounts, 1))
    held: list[int] = []
    try:
        allotment = _allotment(life, spec, id, paths, held)
        inputs = planner.Inputs(
            layers=tuple(own), images={place: file for place, file in own.items() if file}, sources=sources,
            files=names.files(spec, allotment), devices=devices(spec),
            pid_target=hold_target(life, spec.pid_mode, held), ipc_target=hold_target(life, spec.ipc_mode, held),
        )  # fmt: skip
    finally:
        for fd in held:
            os.close(fd)
    wish = spec.replace(id=id, limits=limits.numbered(spec.limits))
    plan = planner.plan_start(wish, inputs, host, allotment, paths)
    made = tuple(source.path for source, mount in zip(sources, spec.mounts, strict=True) if mount.kind == "volume")
    created = tuple(mount.source for mount in spec.mounts if mount.kind == "bind" and mount.create)
    notes = _notes(spec, allotment)
    *_, (top, file) = own.items()
    like = root_of(file) if file else top
    return shell.as_script(plan, shell.Setting(title, notes, id, directory, like, (*made, *created)))


def _source(life: Lifecycle, mount: Mount, own: str) -> planner.Source:
    if mount.kind != "volume":
        return planner.Source(mount.source)
    shared = mount.source and "anonymous" not in mount.options
    return planner.Source(f"{life.paths.volumes}/{mount.source}/_data" if shared else f"{own}/_data", fill=True)


def _allotment(life: Lifecycle, spec: Spec, id: str, paths: ScriptPaths, held: list[int]) -> Allotment:
    """A network of the script's own in the place of the engine's."""
    imagined = allot.imagine(spec, life.paths)
    if imagined.mode == "container":
        return imagined.replace(pid=hold_target(life, spec.network, held))
    if not imagined.endpoints:
        return imagined
    store = NetworkStore(life.paths)
    networks: tuple[Network, ...] = ()
    endpoints = []
    for number, (endpoint, wish) in enumerate(zip(imagined.endpoints, allot.attachments(spec), strict=True)):
        name = f"nanos{id[:8]}{number or ''}"
        network = store.spare(name, networks).replace(name=name, internal=endpoint.network.internal)
        if not endpoint.ip6:
            network = network.without_ipv6()
        networks = (*networks, network)
        keeps = wish.ip and number_of(wish.ip) in subnet_of(network.subnet)
        keeps6 = wish.ip6 and network.subnet6 and number6_of(wish.ip6) in subnet_of(network.subnet6)
        wish = wish.replace(ip=wish.ip if keeps else "", ip6=wish.ip6 if keeps6 else "")
        endpoints.append(
            allot.imagine_endpoint(network, wish, endpoint.interface, f"veth{id[:8]}{number or ''}")
        )
    ports = tuple(  # those without a number of the host's: the same for all by imagine()
        port.replace(host_port=port.host_port + number) if port.host_port == allot.DYNAMIC[0] else port
        for number, port in enumerate(imagined.ports)
    )
    return imagined.replace(endpoints=tuple(endpoints), ports=ports, state=paths.state, resolver=False)


def _notes(spec: Spec, allotment: Allotment) -> tuple[str, ...]:
    made = (
        f"Made by nanocontainer {__version__} for this host: its kind of cgroups, its kernel's abilities, the "
        "directories of its images. The image's layers are read in the engine's store and must stay there; what a "
        "container has written is not in them."
    )
    differences = (
        "Differences from what the engine does: no keeper (no log, no restart; the standard streams are the caller's); "
        "a shell waits for the first process in the container's cgroup, and counts there; files that the caller has "
        "open above 9 stay open. After kill -9 of this script the container dies, and nothing is cleaned up: the names "
        "below tell what there is."
    )
    notes = [made, differences]
    if spec.tty:
        notes.append(
            "The command gets the terminal that the script is started from, in its session; the engine makes one that "
            "is the container's own."
        )
    if spec.init:
        notes.append(
            "Process 1 is a shell that reaps and passes signals on; SIGINT and SIGQUIT are ignored in its child, as in "
            "every background job of a shell."
        )
    for endpoint in allotment.endpoints:
        network = endpoint.network
        addresses = f"{endpoint.ip} and {endpoint.ip6}" if endpoint.ip6 else endpoint.ip
        notes.append(
            f"The bridge {network.interface}, its subnet {network.subnet} and the address {addresses} are this "
            "script's own, free when it was made; it looks again, and ends where they are not."
        )
    if any(wish.network != DEFAULT for wish in allot.attachments(spec)):
        notes.append(
            "No resolver runs for this script. The networks are its own and nobody else is on them, so the only name "
            "that one could tell is the container's, which is in /etc/hosts; all others are asked of the servers in "
            "resolv.conf."
        )
    if lost := shell.lost(item for item in spec.env if "=" in item):
        notes.append(f"A shell passes on no variables with such names, and they are missing: {', '.join(lost)}.")
    return tuple(notes)
