"""anatomy tells the truth: what it says is what nsenter, ip, lsns, findmnt and the kernel itself say."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.kernel import safepath
from nanocontainer.kernel.calls import Kernel
from nanocontainer.rootfs.strata import changes, trace

from .images import write_layout
from .isolation import mount, umount
from .nano import COMMAND, Nano

BUSY = "echo hi > /own; (while true; do nc -l -p 80; done) & sleep 1000"


def anatomy(nano: Nano, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(nano("anatomy", "-f", "json", name).out)
    return found


def said(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def web(clean: Nano, tmp_path: Path) -> Iterator[tuple[Nano, dict[str, Any]]]:
    """A container with a port, limits, a volume and a bind mount."""
    (tmp_path / "shared").mkdir()
    clean(
        "run", "-d", "--name", "web", "-p", "127.0.0.1:18480:80", "-m", "64m", "--pids-limit", "50", "--cpus", "0.5",
        "-v", "anatomy:/data", "-v", f"{tmp_path}/shared:/sh ared:ro", "--tmpfs", "/cache:size=1m",
        "tiny", "sh", "-c", BUSY,
    )  # fmt: skip
    deadline = time.monotonic() + 10
    while not (found := anatomy(clean, "web"))["network"]["ports"][0]["listening"] and time.monotonic() < deadline:
        time.sleep(0.05)
    yield clean, found
    clean("rm", "-f", "web")
    shutil.rmtree(f"{clean.root}/volumes/anatomy")


def test_namespaces_are_those_that_lsns_lists(web: tuple[Nano, dict[str, Any]]) -> None:
    _, found = web
    pid = found["pid"]
    listed = said("lsns", "-n", "-r", "-o", "NS,TYPE", "-p", str(pid))
    assert {one["kind"]: one["inode"] for one in found["namespaces"]} == {
        kind: int(inode) for inode, kind in (line.split() for line in listed.splitlines())
    }
    own = {one["kind"] for one in found["namespaces"] if one["own"]}
    mine = {kind for kind in ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user", "time")
            if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")}  # fmt: skip
    assert own == mine == {"mnt", "pid", "net", "uts", "ipc", "cgroup"}
    assert all(one["processes"] == len(found["processes"]) for one in found["namespaces"])


def test_who_shares_is_named(web: tuple[Nano, dict[str, Any]]) -> None:
    nano, found = web
    nano("run", "-d", "--name", "guest", "--network", "container:web", "tiny", "sleep", "1000")
    stranger = subprocess.Popen(["nsenter", "-t", str(found["pid"]), "-n", "sleep", "1000"])
    try:
        deadline = time.monotonic() + 5
        net: dict[str, Any] = {}
        while time.monotonic() < deadline and net.get("others") != 1:
            net = next(one for one in anatomy(nano, "web")["namespaces"] if one["kind"] == "net")
        assert (net["containers"], net["others"]) == (["guest"], 1)
        text = nano("anatomy", "--only", "namespaces", "web").out
        assert "shared with container guest; 1 process from elsewhere" in " ".join(text.split())
        guest = anatomy(nano, "guest")
        assert next(one for one in guest["namespaces"] if one["kind"] == "net")["containers"] == ["web"]
        assert guest["network"]["interfaces"][1]["addresses"] == found["network"]["interfaces"][1]["addresses"]
    finally:
        stranger.kill()
        stranger.wait()
        nano("rm", "-f", "guest")


def test_network_is_what_ip_and_nft_say(web: tuple[Nano, dict[str, Any]]) -> None:
    _, found = web
    net = found["network"]
    inside = json.loads(said("nsenter", "-t", str(found["pid"]), "-n", "ip", "-j", "address"))
    outside = {link["ifindex"]: link for link in json.loads(said("ip", "-j", "link"))}
    for shown, real in zip(net["interfaces"], inside, strict=True):
        assert (shown["name"], shown["index"], shown["mac"], shown["mtu"]) == (
            real["ifname"], real["ifindex"], real["address"], real["mtu"],
        )  # fmt: skip
        assert shown["addresses"] == [f"{one['local']}/{one['prefixlen']}" for one in real["addr_info"]]
    peer = outside[inside[1]["link_index"]]
    assert (net["interfaces"][1]["peer"], net["interfaces"][1]["bridge"]) == (peer["ifname"], peer["master"])
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(said("nsenter", "-t", str(found["pid"]), "-n", "ip", family, "-j", "route"))
        if route["dst"] != "fe80::/64"  # not shown: every interface has it
    ]
    assert [(one["destination"], one["gateway"], one["interface"]) for one in net["routes"]] == [
        (one["dst"], one.get("gateway", ""), one["dev"]) for one in routes
    ]
    (port,) = net["ports"]
    assert port["there"] and port["listening"] and port["container_ip"] == inside[1]["addr_info"][0]["local"]
    element = port["element"].partition("{ ")[2].removesuffix(" }")
    assert element in said("nft", "list", "table", "inet", net["table"])


def test_a_port_that_nobody_listens_on_is_said(clean: Nano) -> None:
    clean("run", "-d", "--name", "deaf", "-p", "127.0.0.1:18481:81", "tiny", "sleep", "1000")
    assert "nothing inside listens on port 81" in clean("anatomy", "--only", "network", "deaf").out


def test_mounts_are_those_that_findmnt_lists(web: tuple[Nano, dict[str, Any]], tmp_path: Path) -> None:
    nano, found = web
    table = json.loads(said("findmnt", "-J", "-N", str(found["pid"]), "-o", "TARGET,FSTYPE,OPTIONS,FSROOT", "--list"))
    real = {one["target"]: one for one in table["filesystems"]}
    shown = {one["target"]: one for one in found["mounts"]}
    assert set(shown) == set(real)
    for target, one in shown.items():
        assert (one["kind"], one["root"]) == (real[target]["fstype"], real[target]["fsroot"])
        assert one["writable"] == ("ro" not in real[target]["options"].split(","))
    assert shown["/data"]["source"] == f"{nano.root}/volumes/anatomy/_data"
    assert (shown["/sh ared"]["source"], shown["/sh ared"]["flag"]) == (
        f"{tmp_path}/shared", f"-v {tmp_path}/shared:/sh ared:ro",
    )  # fmt: skip
    steps = {target: one["step"] for target, one in shown.items()}
    assert steps["/proc"] == "MountProc" and steps["/cache"] == "MountTmpfs" and steps["/proc/sys"] == "ProtectPaths"
    assert all(steps.values()), "each mount of a start goes back to a step"
    assert {one["role"] for one in shown.values()} == {"root", "user", "file", "kernel", "mask", "guard"}


def test_limits_and_processes_are_the_kernel_s(web: tuple[Nano, dict[str, Any]]) -> None:
    _, found = web
    meters = {one["name"]: one for one in found["cgroup"]["meters"]}
    assert meters["memory"]["limit"] == 64 << 20 and 0 < meters["memory"]["used"] < 64 << 20
    assert (meters["processes"]["limit"], meters["processor time"]["limit"]) == (50, 0.5)
    assert all(Path(one["file"]).exists() for one in meters.values())
    first = found["processes"][0]
    assert (first["pid"], first["inside"], first["parent"], first["user"]) == (found["pid"], 1, 0, "root")
    for one in found["processes"]:
        status = Path(f"/proc/{one['pid']}/status").read_text()
        assert status.split("NSpid:")[1].split("\n")[0].split()[-1] == str(one["inside"])


def test_capabilities_and_seccomp_are_those_of_init(web: tuple[Nano, dict[str, Any]]) -> None:
    _, found = web
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{found['pid']}/status").read_text().split("\n") if ":\t" in line
    )
    seen = found["security"]
    assert f"{seen['effective']:016x}" == status["CapEff"] and f"{seen['bounding']:016x}" == status["CapBnd"]
    held = {one["name"] for one in seen["capabilities"] if one["held"]}
    assert held == {one["name"] for one in seen["capabilities"] if one["default"]} and len(held) == 14
    assert (seen["seccomp"], str(seen["filters"]), seen["no_new_privs"]) == ("filter", status["Seccomp_filters"], False)
    groups = {one["name"]: one for one in seen["calls"]}
    assert "reboot" in groups["reboot and new kernels"]["blocked"] and not groups["mounting"]["allowed"]
    assert seen["open"] == []


def test_a_privileged_one_says_what_is_open(clean: Nano) -> None:
    clean("run", "-d", "--name", "wide", "--privileged", "tiny", "sleep", "1000")
    seen = anatomy(clean, "wide")["security"]
    assert seen["privileged"] and seen["seccomp"] == "off" and "/proc/sys" in seen["open"] and not seen["masked"]
    text = clean("anatomy", "wide").out
    assert f"process  {anatomy(clean, 'wide')['pid']} on the host, 1 inside" in text
    assert "off: every system call" in text and "SYS_ADMIN !" in text and "every device of the host" in text


def test_one_with_the_host_s_numbers_and_a_tree_of_mounts(clean: Nano, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    mount("tmpfs", str(tmp_path / "in"), "tmpfs", 0)
    try:
        clean(
            "run",
            "-d",
            "--name",
            "open",
            "--pid",
            "host",
            "--network",
            "host",
            "-v",
            f"{tmp_path}:/t",
            "tiny",
            "sleep",
            "99",
        )
        found = anatomy(clean, "open")
        shown = {one["target"]: one for one in found["mounts"]}
        assert shown["/t/in"]["what"].startswith("came along with /t") and shown["/t/in"]["step"] == "MountBind"
        assert found["processes"][0]["inside"] == found["pid"] and not found["network"]["own"]
        text = clean("anatomy", "open").out
        assert f"{found['pid']}, here and inside" in text and "the host's own: nothing is between" in text
        assert "the host&#39;s network" in clean("anatomy", "-f", "html", "open").out
        clean("rm", "-f", "open")
    finally:
        umount(str(tmp_path / "in"))


def test_who_is_not_root_is_told_so(clean: Nano) -> None:
    clean("create", "--name", "closed", "tiny", "true")
    for words in (("anatomy", "closed"), ("compare", "closed", "host")):
        done = subprocess.run(
            ["setpriv", "--reuid", "65534", "--clear-groups", COMMAND, *words],
            env=clean.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and "Error: " in done.stderr and "Traceback" not in done.stderr


def test_exec_pause_and_stop_are_seen(web: tuple[Nano, dict[str, Any]]) -> None:
    nano, _ = web
    nano("exec", "-d", "web", "sleep", "77")
    joined = [one for one in anatomy(nano, "web")["processes"] if one["joined"]]
    assert [one["command"] for one in joined] == ["sleep 77"]
    nano("pause", "web")
    assert anatomy(nano, "web")["cgroup"]["frozen"] and "paused for" in nano("anatomy", "web").out
    nano("unpause", "web")
    nano("stop", "-t", "0", "web")
    found = anatomy(nano, "web")
    assert not found["running"] and found["layers"] and found["mounts"] == [] and found["changes"]["paths"]
    text = nano("anatomy", "web").out
    assert "exited (137)" in text and "NOT RUNNING" in text
    assert "does not" not in nano("anatomy", "-f", "html", "web").err


def test_hostile_names_do_nothing(clean: Nano) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    clean("run", "-d", "--name", "evil", "-v", "/tmp:/x<b>y", "tiny", "sh", "-c", "sleep 1000; true", evil)
    text = clean("anatomy", "evil").out
    assert "\x1b" not in text and "\\x1b[31m" in text
    page = clean("anatomy", "-f", "html", "evil").out
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "/x<b>y" not in page


@pytest.mark.parametrize(
    ("args", "why"),
    [(["nosuch"], "no such container"), (["-f", "yaml", "web"], "not one of text, json, html"),
     (["--only", "soul", "web"], "the sections are: processes"), (["--file", "etc/passwd", "web"], "must be absolute"),
     (["-f", "html", "--file", "/x", "web"], "use text or json")],
)  # fmt: skip
def test_bad_input(clean: Nano, args: list[str], why: str) -> None:
    clean("create", "--name", "web", "tiny", "true")
    done = clean("anatomy", *args, check=False)
    assert done.code == 1 and why in done.err and not done.out


def layer_tar(place: Path, entries: dict[str, str | None]) -> Path:
    """A layer: name → content; None is a directory; "-> x" a link."""
    with tarfile.open(place, "w") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            data = b""
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
            else:
                data, info.mode = content.encode(), 0o755
                info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return place


@pytest.fixture
def layered(clean: Nano, tmp_path: Path) -> Iterator[str]:
    """An image of three layers with whiteouts and an opaque directory; the name of a container of it, not started."""
    tars = [
        layer_tar(tmp_path / "1.tar", {"bin": None, "etc": None, "etc/old": "1", "etc/kept": "1", "dir": None,
                                       "dir/a": "1", "dir/b": "1", "gone": None, "gone/x": "1", "sbin": "-> bin"}),
        layer_tar(tmp_path / "2.tar", {"etc/old": "22", "dir/.wh..wh..opq": "", "dir/c": "2", ".wh.gone": ""}),
        layer_tar(tmp_path / "3.tar", {"etc/.wh.old": "", "bin/tool": "333"}),
    ]  # fmt: skip
    write_layout(tmp_path / "layout", tars, {"Cmd": ["/bin/tool"]})
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted((tmp_path / "layout").rglob("*")):
            tar.add(path, path.relative_to(tmp_path / "layout"), recursive=False)
    name = clean("load", "-q", "-i", str(archive)).out.split(": ")[-1].strip()
    clean("create", "--name", "strata", name)
    yield "strata"
    clean("rm", "strata")
    clean("rmi", name)


def test_which_layer_a_file_comes_from(clean: Nano, layered: str) -> None:
    def roles(path: str, code: int = 0) -> list[tuple[str, str]]:
        found = json.loads(clean("anatomy", "-f", "json", "--file", path, layered, check=False).out)
        assert clean("anatomy", "--file", path, layered, check=False).code == code
        return [(found["layers"][one["layer"]].split(",")[0], one["role"]) for one in found["trace"]["findings"]]

    top, middle, bottom = "layer 3 of 3", "layer 2 of 3", "layer 1 of 3"
    assert roles("/etc/old", 1) == [(top, "deletes"), (middle, "hidden"), (bottom, "hidden")]
    assert roles("/etc/kept") == [(bottom, "provides")]
    assert roles("/dir/a", 1) == [(middle, "opaque"), (bottom, "hidden")]
    assert roles("/dir/c") == [(middle, "opaque"), (middle, "provides")]
    assert roles("/gone/x", 1) == [(middle, "deletes"), (bottom, "hidden")]
    assert roles("/sbin/tool") == [(top, "provides")]
    assert roles("/nothing", 1) == []
    found = anatomy(clean, layered)
    assert [one["size"] for one in found["layers"]] == [5, 3, 3]
    assert [one["made_by"] for one in found["layers"]] == ["tests"] * 3


def test_the_rules_are_the_kernel_s(tmp_path: Path) -> None:
    """Random trees with files, directories, links, whiteouts and opaque directories: what the walk says exists, and
    with which content, is what overlayfs shows."""
    dice = random.Random(5)
    seen = 0
    for round in range(40):
        base = tmp_path / str(round)
        tops = [base / f"l{number}" for number in range(4)]
        for layer in tops:
            layer.mkdir(parents=True)
            fill(dice, layer, layer, 3)
        merged, work = base / "merged", base / "work"
        merged.mkdir()
        work.mkdir()
        upper, *lower = map(str, tops)
        mount("overlay", str(merged), "overlay", 0, f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work}")
        root = os.open(merged, os.O_RDONLY)
        try:
            names = {str(path.relative_to(layer)) for layer in tops for path in layer.rglob("*")}
            for name in sorted(names | {f"{one}/a" for one in names} | {f"{one}/b/c" for one in names}):
                seen += agrees([upper, *lower], root, name)
            counted = changes(upper, lower, most=10_000)
            assert counted.added + counted.changed + counted.deleted == len(counted.paths)
        finally:
            os.close(root)
            umount(str(merged), 0)
    assert seen > 200


def agrees(layers: list[str], merged: int, name: str) -> bool:
    """Whether the kernel shows something there, as to a process whose root that is; and that the walk says the same."""
    found = trace(layers, f"/{name}")
    try:
        file = safepath.open_in(Kernel(), merged, name)
    except OSError:
        assert not found.exists, (name, found)
        return False
    try:
        assert found.exists, (name, found)
        shown = Path(f"/proc/self/fd/{file}")
        if shown.is_file():
            (layer,) = [one.layer for one in found.findings if one.role == "provides" and one.path == found.resolved]
            assert Path(layers[layer] + found.resolved).read_text() == shown.read_text()
    finally:
        os.close(file)
    return True


def fill(dice: random.Random, layer: Path, at: Path, depth: int) -> None:
    for name in "abc":
        kind = dice.choice(("nothing", "file", "file", "directory", "directory", "directory", "whiteout", "link"))
        path = at / name
        if kind == "file":
            path.write_text(f"{path}")
        elif kind == "whiteout":
            os.mknod(path, 0o020000, 0)
        elif kind == "link":
            path.symlink_to(dice.choice(("a", "b", "b/c", "../a", "c")))
        elif kind == "directory" and depth:
            path.mkdir()
            if dice.random() < 0.3:
                os.setxattr(path, "trusted.overlay.opaque", b"y")
            fill(dice, layer, path, depth - 1)


def test_on_a_real_debian(clean: Nano, debian_image: str, pulled: Callable[[str], str]) -> None:
    clean("run", "-d", "--name", "deb", "-u", "www-data", pulled(debian_image), "sleep", "1000")
    found = anatomy(clean, "deb")
    assert found["processes"][0]["user"] == "www-data" and found["security"]["uid"] == 33
    assert not any(one["held"] for one in found["security"]["capabilities"])
    clean("exec", "-u", "root", "deb", "sh", "-c", "rm /etc/debian_version; echo x >> /etc/passwd; mkdir -p /new/dir")
    own = anatomy(clean, "deb")["changes"]
    assert {"D /etc/debian_version", "C /etc/passwd", "A /new", "A /new/dir"} <= set(own["paths"])
    text = clean("anatomy", "--file", "/bin/sh", "deb").out
    assert "/bin is a link to usr/bin" in text and "/usr/bin/dash" in text and "provides it" in text
    gone = clean("anatomy", "--file", "/etc/debian_version", "deb", check=False)
    assert gone.code == 1 and "deletes it" in gone.out and "hidden by what is above" in gone.out


def test_a_tree_of_processes_as_deep_as_a_container_likes(clean: Nano) -> None:
    deep = "if [ $1 = 0 ]; then echo; else sh /deep $(($1-1)); fi; sleep 600"
    script = f"echo '{deep}' >/deep; sh /deep 1200"
    id = clean("run", "-d", "--network", "none", "tiny", "sh", "-c", script).out.strip()
    for _ in range(300):
        if clean("logs", id).out:
            break
        time.sleep(0.1)
    assert len(json.loads(clean("anatomy", "--format", "json", id).out)["processes"]) > 1200
    for form in ("text", "html"):
        assert clean("anatomy", "--format", form, id).out.count("sh /deep") > 1200
