"""Plans as text: what a start consists of, for hosts that we have and hosts that we do not have. No root is needed.

The texts are in snapshots/. After a change that is meant, write them with NANOCONTAINER_SNAPSHOTS=write in the
environment, and read the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.container import confinement, joining, planner
from nanocontainer.container.spec import Attachment, Device, Limits, Mount, Port, Rate, Spec, Ulimit
from nanocontainer.errors import InvalidInput, Unsupported
from nanocontainer.image.model import Image, ImageConfig
from nanocontainer.kernel.bpf import DeviceRule
from nanocontainer.kernel.facts import Facts
from nanocontainer.network import allot
from nanocontainer.paths import Paths
from nanocontainer.plan.explanation import explain
from nanocontainer.plan.plan import Plan
from nanocontainer.rootfs.devices import AddDevice
from nanocontainer.runtime.namespaces import SetHostname, SetSysctls

HERE = Path(__file__).parent / "snapshots"
PATHS = Paths("/state", "/run/nano")
ID = "ab" * 32
CONFIG = ImageConfig(
    entrypoint=(), cmd=("sh",), env=("PATH=/bin", "A=image"), cwd="/work", user="", volumes=(), stop_signal="",
    labels={"of": "image"}, exposed=("80/tcp",),
)  # fmt: skip
IMAGE = Image(id="sha256:" + "1" * 64, config=CONFIG)
V2 = Facts(
    boot="b", kernel=(6, 12), release="6.12.0", machine="x86_64", last_cap=40, filesystems=("overlay",),
    cgroup2="/sys/fs/cgroup", controllers=("cpuset", "cpu", "io", "memory", "pids"), swap_limit=True,
    masked=("/proc/kcore", "/proc/acpi/", "/sys/firmware/"), read_only=("/proc/bus/", "/proc/sys/"),
)  # fmt: skip
HYBRID = V2.replace(
    cgroup2="/sys/fs/cgroup/unified",
    controllers=(),
    cgroup1={name: f"/sys/fs/cgroup/{name}" for name in ("memory", "cpu", "cpuset", "pids", "blkio")},
    cpus="0-1",
    mems="0",
)
LIMITS = Limits(memory=64 << 20, cpus=0.5, pids=20, cpuset_cpus="0", rates=(Rate("read_bps", "8:0", 1 << 20),))
ETC = {"hostname": "h\n", "hosts": "127.0.0.1 localhost\n", "resolv.conf": "nameserver 192.0.2.1\n"}


def plan(facts: Facts = V2, *, network: str = "none", inputs: dict[str, Any] | None = None, **wish: Any) -> Plan:
    spec = Spec(image="img", network=network, limits=wish.pop("limits", Limits()), **wish)
    spec = planner.resolve(spec, IMAGE, id=ID, name="web", created="2020")
    sources = tuple(
        planner.Source(f"/state/volumes/{mount.source}/_data" if mount.kind == "volume" else mount.source,
                       fill=mount.kind == "volume")
        for mount in spec.mounts
    )  # fmt: skip
    given = planner.Inputs(("/layers/1", "/layers/2"), sources, ETC).replace(**(inputs or {}))
    if spec.networks:
        ports = tuple(allot.Binding(port.container_port, port.host_port, "", port.protocol) for port in spec.ports)
        mac = "02:42:0a:09:00:02"
        endpoints = tuple(
            allot.Endpoint(
                network, f"eth{number}", f"veth{number}", mac, f"10.{9 - number}.0.2",
                "fd00:9::2" if network.subnet6 else "", link_local=each.link_local,
            )
            for number, each in enumerate(spec.networks)
            for network in (NETWORKS[each.network],)
        )  # fmt: skip
        allotment = allot.Allotment("bridge", 0, endpoints, ports, "/state", 0, ipv6=True)
    else:
        allotment = allot.Allotment(network.partition(":")[0], 77 if ":" in network else 0, state="/state")
    return planner.plan_start(spec, given, facts, allotment, PATHS)


def network() -> Any:
    from nanocontainer.network.model import Network

    given: dict[str, Any] = {"name": "bridge", "id": "1" * 64, "interface": "nano0", "subnet": "10.9.0.0/24"}
    given |= {"gateway": "10.9.0.1", "created": "2020"}
    return Network(**{name: value for name, value in given.items() if name in Network._fields})


BRIDGE = network()
NETWORKS = {
    "bridge": BRIDGE,
    "six": BRIDGE.replace(name="six", interface="nano6", subnet6="fd00:9::/64", gateway6="fd00:9::1"),
    "back": BRIDGE.replace(name="back", interface="nano1", subnet="10.8.0.0/24", gateway="10.8.0.1", internal=True),
}


def exec_plan(spec: Spec, facts: Facts = V2, **options: Any) -> Plan:
    given: dict[str, Any] = {
        "pid": 77, "cgroup": "/sys/fs/cgroup/nanocontainer/x", "groups1": (), "args": ("ls", "-l"),
        "env": ("PATH=/bin",), "cwd": "", "user": "", "tty": False, "privileged": False, "paths": PATHS,
        "null": ("stdin",), **options,
    }  # fmt: skip
    return joining.plan_exec(planner.resolve(spec, IMAGE, id=ID, name="web", created="2020"), facts, **given)


DEVICES = (AddDevice("/dev/fuse", 0o20666, 10, 229),)
MOUNTS = (
    Mount("bind", "/a/b/c", "/deep", read_only=True),
    Mount("volume", "/a", "data"),
    Mount("bind", "/etc", "/host/etc"),
    Mount("tmpfs", "/tmp/", options={"size": "1000", "exec": ""}),
)

PLANS: dict[str, Any] = {
    "default": lambda: plan(network="bridge", ports=(Port(80, 8080),)),
    "none": plan,
    "networks": lambda: plan(
        network="bridge", networks=(Attachment("six", link_local=("169.254.9.9",)), Attachment("back"))
    ),
    "host": lambda: plan(network="host"),
    "container": lambda: plan(network="container:other"),
    "tty": lambda: plan(tty=True, open_stdin=True),
    "privileged": lambda: plan(privileged=True, inputs={"devices": DEVICES}),
    "limits-v2": lambda: plan(limits=LIMITS),
    "limits-hybrid": lambda: plan(HYBRID, limits=LIMITS),
    "old-kernel": lambda: plan(V2.replace(kernel=(5, 15))),
    "no-new-privileges": lambda: plan(security=("no-new-privileges",)),
    "unconfined": lambda: plan(security=("seccomp=unconfined", "systempaths=unconfined")),
    "init": lambda: plan(init=True),
    "mounts": lambda: plan(mounts=MOUNTS),
    "user": lambda: plan(user="me:staff", groups=("wheel",), cwd="/home", auto_remove=True),
    "everything": lambda: plan(
        read_only=True, oom_score_adj=-5, ulimits=(Ulimit("nofile", 10, 20),), sysctls={"kernel.shmmax": "5"},
        domainname="d", hostname="h", cap_drop=("ALL",), inputs={"devices": DEVICES},
    ),
    "shared-namespaces": lambda: plan(
        pid_mode="container:other", ipc_mode="host", uts_mode="host", cgroupns="host", inputs={"pid_target": 78}
    ),
    "exec": lambda: exec_plan(Spec(image="img")),
    "exec-tty-privileged": lambda: exec_plan(
        Spec(image="img"), tty=True, privileged=True, user="me", cwd="/tmp", null=()
    ),
    "exec-hybrid": lambda: exec_plan(
        Spec(image="img", ulimits=(Ulimit("nofile", 10, 20),), pid_mode="host", uts_mode="host"),
        HYBRID,
        groups1=("/sys/fs/cgroup/memory/nanocontainer/x",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_the_plan_is_as_it_was(name: str) -> None:
    made: Plan = PLANS[name]()
    text = "".join(f"{step.side:6} {step.residue:6} {step!r}\n" for step in made)
    text = f"given  {' '.join(made.given)}\n{text}"
    file = HERE / f"plan-{name}.txt"
    if os.environ.get("NANOCONTAINER_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def names(made: Plan) -> list[str]:
    return [type(step).__name__ for step in made]


def test_the_host_name_with_the_network_of_the_host() -> None:
    """It is the host's, as a new UTS namespace has it, unless another is asked for."""
    assert plan(network="host").find("SetHostname") == -1
    assert "uts" in plan(network="host").steps[plan(network="host").find("Clone")].namespaces  # type: ignore[attr-defined]
    assert SetHostname("box", "d") in plan(network="host", hostname="box", domainname="d").steps
    assert SetSysctls({"kernel.domainname": "d"}) in plan(network="host", domainname="d").steps
    assert plan(network="host", uts_mode="host").find("SetHostname") == -1
    assert SetHostname(ID[:12]) in plan(network="none").steps


def test_no_snapshot_is_of_a_plan_that_is_not_tested() -> None:
    assert {file.stem for file in HERE.glob("plan-*.txt")} == {f"plan-{name}" for name in PLANS}


def test_a_default_run_is_a_list_that_one_can_read() -> None:
    made = plan(network="bridge")
    assert 25 <= len(made) <= 54
    explained = explain(made)
    assert len(explained.undo) == sum(step.residue != "init" for step in made)
    assert not any(step.sync for step in explained.steps)  # no handshake in it: host steps, Clone, inside steps


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_ends_with_nothing_open_and_the_command(name: str) -> None:
    assert names(PLANS[name]())[-2:] == ["CloseFiles", "Exec"]


@pytest.mark.parametrize("name", [name for name in PLANS if not name.startswith("exec")])
def test_every_container_can_be_killed_and_dies_with_its_keeper(name: str) -> None:
    made = names(PLANS[name]())
    assert made.index("MakeCgroup") < made.index("Clone")
    assert made.index("SetCapabilities") < made.index("DieWithKeeper")  # a change of ids takes it back


def test_the_filter_comes_first_or_last() -> None:
    early, late = names(plan()), names(plan(security=("no-new-privileges",)))
    assert early.index("LoadSeccomp") < early.index("BoundCapabilities")
    assert late.index("LoadSeccomp") > late.index("NoNewPrivs") > late.index("SetCapabilities")


def test_a_host_without_the_controller_is_told_so() -> None:
    with pytest.raises(Unsupported, match="memory"):
        plan(V2.replace(controllers=("pids",)), limits=Limits(memory=64 << 20))
    with pytest.raises(Unsupported, match="pids"):
        plan(HYBRID.replace(cgroup1={"memory": "/m"}), limits=Limits(pids=5))


def test_shallow_mounts_come_first_whoever_wants_them() -> None:
    made = plan(mounts=MOUNTS)
    targets = [step.target for step in made if type(step).__name__ in ("MountBind", "MountTmpfs")]  # type: ignore[attr-defined]
    for target in ("/etc/hosts", "/etc/resolv.conf"):
        assert targets.index("/etc") < targets.index(target)
    assert targets.index("/a") < targets.index("/a/b/c")


def test_a_file_of_etc_that_the_user_mounts_is_the_users() -> None:
    made = plan(mounts=(Mount("bind", "/etc/hosts", "/mine"),))
    assert [step.source for step in made if getattr(step, "target", "") == "/etc/hosts"] == ["/mine"]  # type: ignore[attr-defined]


# --- resolve


def resolved(image: dict[str, Any] | None = None, **wish: Any) -> Spec:
    return planner.resolve(
        Spec(image="img", **wish), IMAGE.replace(config=CONFIG.replace(**(image or {}))), id=ID, name="n", created="c"
    )


ENTRY = {"entrypoint": ("/entry", "-x"), "cmd": ("arg",)}


@pytest.mark.parametrize(
    ("image", "wish", "args"),
    [
        ({}, {}, ("sh",)),
        ({}, {"command": ("ls", "-l")}, ("ls", "-l")),
        (ENTRY, {}, ("/entry", "-x", "arg")),
        (ENTRY, {"command": ("mine",)}, ("/entry", "-x", "mine")),
        (ENTRY, {"entrypoint": ("/other",)}, ("/other",)),  # drops the image's command
        (ENTRY, {"entrypoint": ("/other",), "command": ("a",)}, ("/other", "a")),
        (ENTRY, {"entrypoint": (), "command": ("a",)}, ("a",)),
    ],
)
def test_what_is_executed(image: dict[str, Any], wish: dict[str, Any], args: tuple[str, ...]) -> None:
    assert resolved(image, **wish).args == args


def test_environment() -> None:
    env = resolved(env=("B=1", "A=mine", "B=2", "PATH"), tty=True).env
    assert env == ("HOSTNAME=abababababab", "TERM=xterm", "A=mine", "B=2")
    assert f"PATH={planner.DEFAULT_PATH}" in resolved({"env": ()}).env


def test_image_defaults() -> None:
    spec = resolved({"user": "me", "stop_signal": "INT", "volumes": ("/data", "/mine/")}, labels={"a": "b"},
                    mounts=(Mount("tmpfs", "/mine"),))  # fmt: skip
    assert (spec.user, spec.stop_signal, spec.cwd) == ("me", "INT", "/work")
    assert spec.labels == {"of": "image", "a": "b"}
    assert [(mount.kind, mount.target) for mount in spec.mounts] == [("tmpfs", "/mine"), ("volume", "/data")]
    assert spec.exposed == ("80/tcp",)


@pytest.mark.parametrize(
    "wish",
    [
        {"entrypoint": ()},
        {"command": ("",)},
        {"cwd": "relative"},
        {"command": ("a\0b",)},
        {"env": ("A=b\0c",)},
        {"hostname": "a\0"},
        {"mounts": (Mount("tmpfs", "relative"),)},
        {"mounts": (Mount("tmpfs", "/a/../b"),)},
        {"mounts": (Mount("tmpfs", "/"),)},
        {"mounts": (Mount("tmpfs", "/a"), Mount("tmpfs", "/a/"))},
        {"mounts": (Mount("volume", "/a", "v", options={"subpath": "../x"}),)},
        {"mounts": (Mount("volume", "/a", "v", options={"subpath": "/x"}),)},
        {"mounts": (Mount("tmpfs", "/dev"),)},
        {"mounts": (Mount("bind", "/dev/", "/x"),)},
        {"mounts": (Mount("bind", "/proc", "/proc"),)},
        {"mounts": (Mount("bind", "/proc/self/attr", "/x"),)},
        {"device_rules": ("c 1:3",)},
        {"hostname": "h" * 65},
        {"hostname": "é" * 33},
        {"hostname": "a\nb"},
        {"domainname": "a b"},
        {"devices": (Device("/dev/fuse", "/dev/"),)},
        {"devices": (Device("/dev/fuse", "/dev/../fuse"),)},
        {"devices": (Device("/dev/fuse", "fuse"),)},
        {"devices": (Device("/dev/fuse", "/proc/fuse"),)},
        {"devices": (Device("/dev/fuse", "/"),)},
        {"sysctls": {"kernel.core_pattern": "|/x"}},
        {"sysctls": {"vm.swappiness": "1"}},
        {"network": "host", "sysctls": {"net.ipv4.ip_forward": "1"}},
        {"network": "container:x", "sysctls": {"net.ipv4.ip_forward": "1"}},
        {"network": "host", "sysctls": {"net/ipv4/ip_forward": "1"}},
        {"ipc_mode": "host", "sysctls": {"kernel.shmmax": "1"}},
        {"ipc_mode": "container:x", "sysctls": {"kernel.sem": "1"}},
        {"ipc_mode": "host", "sysctls": {"fs.mqueue.msg_max": "1"}},
        {"uts_mode": "host", "sysctls": {"kernel.domainname": "d"}},
        {"sysctls": {"kernel.hostname": "h"}},
        {"sysctls": {"net/../kernel/core_pattern": "|/x"}},
        {"sysctls": {"net/ipv4/../../kernel/core_pattern": "|/x"}},
        {"sysctls": {"net...kernel.core_pattern": "|/x"}},
        {"sysctls": {"fs.mqueue.": "1"}},
        {"network": "container:x", "ports": (Port(80),)},
        {"security": ("nonsense",)},
        {"security": ("no-new-privileges=yes",)},
        {"security": ("no-new-privileges:",)},
        {"security": ("seccomp",)},
        {"security": ("seccomp=",)},
        {"security": ("apparmor",)},
        {"security": ("systempaths=confined",)},
        {"cap_add": ("NONSENSE",)},
        {"limits": Limits(memory=1)},
    ],
)
def test_bad_wishes(wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        resolved(**wish)


def test_rules_for_devices() -> None:
    (step,) = [step for step in plan(device_rules=("c 1:11 r",)) if type(step).__name__ == "AllowDevices"]
    assert step.rules[-1] == DeviceRule("c", 1, 11, "r")  # type: ignore[attr-defined]


def test_what_is_odd_and_can_be() -> None:
    resolved(
        hostname="é" * 32, domainname="h" * 64, devices=(Device("/dev/fuse", ""),),
        mounts=(Mount("bind", "/dev", "/dev"), Mount("bind", "/sys", "/sys"), Mount("bind", "/proc/uptime", "/x")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("net.ipv4.conf.eth0/1.forwarding", {}),
        ("net/ipv4/conf/eth0.1/forwarding", {"ipc_mode": "host"}),
        ("kernel.shmmax", {"ipc_mode": "shareable", "network": "host"}),
        ("fs.mqueue.msg_max", {"uts_mode": "host"}),
        ("kernel.domainname", {}),
    ],
)
def test_sysctls_of_the_containers_own_namespaces(name: str, wish: dict[str, Any]) -> None:
    assert resolved(sysctls={name: "1"}, **wish).sysctls == {name: "1"}


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (("no-new-privileges",), {"no-new-privileges": "true"}),
        (("no-new-privileges:true",), {"no-new-privileges": "true"}),
        (("seccomp=/a:b=c",), {"seccomp": "/a:b=c"}),
        (("no-new-privileges=1",), {"no-new-privileges": "true"}),
        (("no-new-privileges=true", "no-new-privileges:0"), {"no-new-privileges": "false"}),
        (("seccomp:unconfined",), {"seccomp": "unconfined"}),
        (("seccomp=builtin",), {"seccomp": "builtin"}),
        (("label=disable", "apparmor=unconfined"), {"label": "disable", "apparmor": "unconfined"}),
    ],
)
def test_security_words(items: tuple[str, ...], words: dict[str, str]) -> None:
    assert confinement.security_words(Spec(image="x", security=items)) == words


@pytest.mark.parametrize("item", ["label=type:x", "label:level:s0", "apparmor=docker-default", "apparmor:mine"])
def test_protection_that_we_cannot_give_is_not_dropped_in_silence(item: str) -> None:
    with pytest.raises(Unsupported, match="not supported yet"):
        resolved(security=(item,))


def test_no_new_privileges_that_is_false() -> None:
    assert "NoNewPrivs" not in names(plan(security=("no-new-privileges=false",)))
    assert "NoNewPrivs" in names(plan(security=("no-new-privileges=1",)))
