"""Containers and images in the shape of docker's JSON (GET /containers/ID/json, GET /images/NAME/json of its API).

Programs read these names, so all that docker has and we know is here; what we do not have yet has docker's default.
"""

from __future__ import annotations

import os

from . import shape_network
from .ports import published
from .template import FreeMap
from .units import ZERO_TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..container.spec import Container, Mount, Port, Spec
    from ..image.details import Details
    from ..paths import Paths

_IMAGE_ONLY = ("Healthcheck", "OnBuild", "Shell", "ArgsEscaped")  # of an image's configuration, as it came


def container(found: Container, paths: Paths, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """One container of the engine at paths. sizes: bytes written, and bytes in all."""
    spec, state = found.spec, found.state
    args = spec.args or spec.command
    return {
        "Id": found.id,
        "Created": spec.created,
        "Path": args[0] if args else "",
        "Args": list(args[1:]),
        "State": {
            "Status": state.status,
            "Running": state.status in ("running", "paused"),
            "Paused": state.status == "paused",
            "Restarting": state.status == "restarting",
            "OOMKilled": state.oom_killed,
            "Dead": state.status == "dead",
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started or ZERO_TIME,
            "FinishedAt": state.finished or ZERO_TIME,
        },
        "Image": spec.image_id,
        "LogPath": "" if spec.log_driver == "none" else f"{paths.container(found.id)}/log.json",
        "Name": f"/{found.name}",
        "RestartCount": state.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        **({"SizeRw": sizes[0], "SizeRootFs": sizes[1]} if sizes else {}),
        "HostConfig": _host_config(spec),
        **({"Without": list(left_out(found))} if left_out(found) else {}),
        "Mounts": [_mount(mount, paths.volumes) for mount in spec.mounts],
        "Config": _config(spec),
        "NetworkSettings": shape_network.settings(found, paths, _bound(found)),
    }


def _bound(found: Container) -> FreeMap:
    """The ports: those exposed, and where the published ones are bound."""
    ports: dict[str, Any] = dict.fromkeys(found.spec.exposed) if found.state.ip else {}
    ports.update(_bindings(published(found.state)))
    return FreeMap(ports)


def left_out(found: Container) -> tuple[str, ...]:
    """The steps that this container is without: by --without, and by who stepped its start."""
    return tuple(dict.fromkeys((*found.spec.without, *found.state.skipped)))


def _config(spec: Spec) -> dict[str, Any]:
    entrypoint = None
    command = list(spec.command)
    if spec.args and spec.args[len(spec.args) - len(command) :] == spec.command:
        entrypoint = list(spec.args[: len(spec.args) - len(command)]) or None
    return {
        "Hostname": spec.hostname or os.uname().nodename,
        "Domainname": spec.domainname,
        "User": spec.user,
        "AttachStdin": spec.open_stdin and not spec.detached,
        "AttachStdout": not spec.detached,
        "AttachStderr": not spec.detached,
        "ExposedPorts": FreeMap({word: {} for word in spec.exposed}),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.open_stdin and not spec.detached,
        "Env": list(spec.env),
        "Cmd": command or None,
        "Image": spec.image,
        "Volumes": FreeMap({mount.target: {} for mount in spec.mounts if mount.kind == "volume" and not mount.source}),
        "WorkingDir": spec.cwd,
        "Entrypoint": entrypoint,
        "Labels": FreeMap(spec.labels),
        "StopSignal": spec.stop_signal or "SIGTERM",
        "StopTimeout": spec.stop_timeout,
    }


def _host_config(spec: Spec) -> dict[str, Any]:
    limits = spec.limits
    rates = {
        f"BlkioDevice{way}{unit}": [
            {"Path": rate.device, "Rate": rate.rate} for rate in limits.rates if rate.kind == f"{way}_{unit}".lower()
        ]
        for way in ("Read", "Write")
        for unit in ("Bps", "IOps")
    }
    return {
        "Binds": [_bind(mount) for mount in spec.mounts if mount.kind in ("bind", "volume") and mount.source],
        "ContainerIDFile": "",
        "LogConfig": {"Type": spec.log_driver, "Config": FreeMap(spec.log_options)},
        "NetworkMode": spec.network,
        "PortBindings": _bindings(spec.ports),
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": list(spec.cap_add) or None,
        "CapDrop": list(spec.cap_drop) or None,
        "CgroupnsMode": spec.cgroupns,
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.groups) or None,
        "IpcMode": spec.ipc_mode or "private",
        "Links": None,
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": spec.pid_mode,
        "Privileged": spec.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": list(spec.security) or None,
        "Tmpfs": FreeMap({mount.target: _tmpfs(mount) for mount in spec.mounts if mount.kind == "tmpfs"}),
        "UTSMode": spec.uts_mode,
        "UsernsMode": "",
        "ShmSize": spec.shm_size,
        "Sysctls": FreeMap(spec.sysctls),
        "Runtime": "nanocontainer",
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory,
        "NanoCpus": round(limits.cpus * 1_000_000_000),
        "BlkioWeight": limits.blkio_weight,
        **rates,
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [
            {"PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": device.access}
            for device in spec.devices
        ],
        "DeviceCgroupRules": list(spec.device_rules) or None,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap,
        "PidsLimit": limits.pids or None,
        "Ulimits": [{"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in spec.ulimits],
        "Init": spec.init,
    }


def _mount(mount: Mount, volumes: str) -> dict[str, Any]:
    name = mount.source if mount.kind == "volume" else ""
    source = f"{volumes}/{name}" if name else mount.source
    mode = ["ro"] if mount.read_only else []
    mode += [f"{key}={value}" for key, value in mount.options.items()]
    return {
        "Type": mount.kind,
        **({"Name": name, "Driver": "local"} if name else {}),
        "Source": source,
        "Destination": mount.target,
        "Mode": ",".join(mode),
        "RW": not mount.read_only,
        "Propagation": mount.propagation if mount.kind == "bind" else "",
    }


def _bind(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"


def _tmpfs(mount: Mount) -> str:
    words = ["ro"] if mount.read_only else []
    return ",".join(words + [f"{key}={value}" if value else key for key, value in mount.options.items()])


def _bindings(ports: Iterable[Port]) -> FreeMap:
    """ "80/tcp" → where it is published."""
    table: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        entry = {"HostIp": port.host_ip, "HostPort": str(port.host_port) if port.host_port else ""}
        table.setdefault(f"{port.container_port}/{port.protocol}", []).append(entry)
    return FreeMap(table)


def image(known: Details) -> dict[str, Any]:
    """One image."""
    from ..clock import rfc3339
    from ..image.reference import parse_reference

    found = known.image
    config = found.config
    more = {name: known.config[name] for name in _IMAGE_ONLY if known.config.get(name)}
    upper, *lower = reversed(known.layers)  # there is always one
    digests = []
    for digest in found.digests:
        name, _, value = digest.partition("@")
        digests.append(f"{parse_reference(name).familiar_name}@{value}")
    return {
        "Id": found.id,
        "RepoTags": [parse_reference(name).familiar for name in found.names if "@" not in name],
        "RepoDigests": digests,
        "Parent": "",
        "Comment": known.comment,
        "Created": found.created,
        "DockerVersion": known.docker_version,
        "Author": known.author,
        "Config": {
            "User": config.user,
            "ExposedPorts": FreeMap({word: {} for word in config.exposed}),
            "Env": list(config.env),
            "Cmd": list(config.cmd) or None,
            "Volumes": FreeMap({path: {} for path in config.volumes}),
            "WorkingDir": config.cwd,
            "Entrypoint": list(config.entrypoint) or None,
            "Labels": FreeMap(config.labels),
            "StopSignal": config.stop_signal,
            **more,
        },
        "Architecture": found.architecture,
        **({"Variant": found.variant} if found.variant else {}),
        "Os": found.os,
        "Size": found.size,
        "GraphDriver": {"Name": "overlay2", "Data": {"LowerDir": ":".join(lower), "UpperDir": upper}},
        "RootFS": {"Type": "layers", "Layers": list(found.layers)},
        "Metadata": {"LastTagTime": rfc3339(known.tagged) if known.tagged else ZERO_TIME},
    }
