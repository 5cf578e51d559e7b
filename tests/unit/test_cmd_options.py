"""From flags to a specification."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from nanocontainer.cmd import flags, mountflags, portflags
from nanocontainer.cmd.options import specification
from nanocontainer.cmd.run import RUN
from nanocontainer.container.spec import Attachment, Device, Limits, Mount, Port, Rate, Spec, Ulimit
from nanocontainer.errors import InvalidInput, Unsupported


def spec(*words: str) -> Spec:
    return specification(flags.parse(RUN.flags, list(words), interspersed=False))


def test_nothing_given_is_the_default() -> None:
    assert spec("debian") == Spec("debian")
    assert spec("debian", "ls", "--rm") == Spec("debian", command=("ls", "--rm"))


LONG_FORM = (
    "name=back,alias=a,alias=b,ip=10.2.0.9,ip6=fd00::9,mac-address=02-00-00-00-00-09,link-local-ip=fe80::1,"
    "gw-priority=-1,driver-opt=com.docker.network.endpoint.ifname=lan0"
)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--name", "web"], "name", "web"),
        (["-d"], "detached", True),
        (["-it"], "tty", True),
        (["-i"], "open_stdin", True),
        (["--rm"], "auto_remove", True),
        (["--rm=false"], "auto_remove", False),
        (["-e", "A=b", "-e", "C=d=e", "-e", "A=f"], "env", ("A=f", "C=d=e")),
        (["-w", "/work"], "cwd", "/work"),
        (["-u", "1000:1000"], "user", "1000:1000"),
        (["-h", "box"], "hostname", "box"),
        (["--entrypoint", "/bin/sh"], "entrypoint", ("/bin/sh",)),
        (["--entrypoint="], "entrypoint", ()),
        (["--net", "host"], "network", "host"),
        (["--network=default"], "network", "bridge"),
        (["--network", "container:web"], "network", "container:web"),
        (["-P"], "publish_all", True),
        (["--expose", "80", "--expose", "90-91/udp"], "exposed", ("80/tcp", "90/udp", "91/udp")),
        (["--cap-add", "NET_ADMIN", "--cap-add=SYS_TIME"], "cap_add", ("NET_ADMIN", "SYS_TIME")),
        (["-l", "a=b", "--label", "c"], "labels", {"a": "b", "c": ""}),
        (["--ulimit", "nofile=1024:2048", "--ulimit", "core=-1"], "ulimits",
         (Ulimit("nofile", 1024, 2048), Ulimit("core", -1, -1))),
        (["--shm-size", "1g"], "shm_size", 1 << 30),
        (["--sysctl", "net.ipv4.ip_forward=1"], "sysctls", {"net.ipv4.ip_forward": "1"}),
        (["--add-host", "db:10.0.0.1", "--add-host=gw=host-gateway", "--add-host", "six:::1"], "extra_hosts",
         ("db:10.0.0.1", "gw:host-gateway", "six:::1")),
        (["--dns", "1.1.1.1", "--dns", "::1"], "dns", ("1.1.1.1", "::1")),
        (["--mac-address", "92-D0-C6-0A-29-33"], "networks", (Attachment("bridge", mac="92:d0:c6:0a:29:33"),)),
        (["--network", "web", "--ip", "10.1.0.5", "--ip6=fd00::5", "--network-alias", "db", "--net-alias=sql",
          "--link-local-ip", "169.254.1.1", "--link-local", "fe80::7"], "networks",
         (Attachment("web", "10.1.0.5", "fd00::5", aliases=("db", "sql"), link_local=("169.254.1.1", "fe80::7")),)),
        (["--network", "web", "--network=back"], "networks", (Attachment("web"), Attachment("back"))),
        (["--network", "name=default"], "network", "bridge"),
        (["--network", "web", "--network", LONG_FORM], "networks",
         (Attachment("web"), Attachment("back", "10.2.0.9", "fd00::9", "02:00:00:00:00:09", ("a", "b"), ("fe80::1",),
                                        -1, "lan0"))),
        (["--pid", "host"], "pid_mode", "host"),
        (["--pid", "container:x"], "pid_mode", "container:x"),
        (["--oom-score-adj", "-500"], "oom_score_adj", -500),
        (["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"], "security",
         ("no-new-privileges=true", "seccomp=unconfined")),
        (["--device", "/dev/fuse", "--device=/dev/sda:/dev/xvda:r"], "devices",
         (Device("/dev/fuse", "/dev/fuse"), Device("/dev/sda", "/dev/xvda", "r"))),
        (["--device-cgroup-rule", "c 1:11 r", "--device-cgroup-rule=a"], "device_rules", ("c 1:11 r", "a")),
        (["--log-opt", "max-size=1m"], "log_options", {"max-size": "1m"}),
        (["-m", "64m", "--cpus", "1.5", "--pids-limit", "-1"], "limits", Limits(memory=64 << 20, cpus=1.5, pids=-1)),
        (["-m", "1g", "--memory-swap", "-1"], "limits", Limits(memory=1 << 30, memory_swap=-1)),
        (["--device-read-bps", "/dev/sda:1mb", "--device-write-iops", "/dev/sda:10"], "limits",
         Limits(rates=(Rate("read_bps", "/dev/sda", 1 << 20), Rate("write_iops", "/dev/sda", 10)))),
        (["--restart=no", "--no-healthcheck", "--userns=host"], "name", ""),
    ],
)  # fmt: skip
def test_flags(words: list[str], field: str, value: object) -> None:
    assert getattr(spec(*words, "debian"), field) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "-x"], "invalid container name '-x'"),
        (["-w", "work"], "invalid --workdir: 'work' is not an absolute path"),
        (["-e", "=x"], "invalid --env"),
        (["--env-file", "/nowhere"], "cannot read --env-file /nowhere: No such file or directory"),
        (["-l", "=x"], "invalid --label"),
        (["--ulimit", "files=3"], "invalid --ulimit: there is no limit 'files'"),
        (["--ulimit", "nofile=3:2"], "invalid --ulimit"),
        (["--ulimit", "nofile=x"], "invalid --ulimit"),
        (["--sysctl", "x"], "invalid --sysctl: 'x' is not of the form NAME=value"),
        (["--dns", "one.one"], "invalid --dns: 'one.one' is not an IP address"),
        (["--add-host", "x"], "invalid --add-host"),
        (["--add-host", "x:y"], "invalid --add-host: 'y' is not an IP address"),
        (["--mac-address", "1:2"], "invalid --mac-address"),
        (["--mac-address", "01:00:00:00:00:00"], "invalid --mac-address"),
        (["--ip", "1.2.3"], "invalid --ip: '1.2.3' is not an IPv4 address"),
        (["--pid", "web"], "invalid --pid: 'web' is not one of host, container:NAME"),
        (["--pid", "container:"], "invalid --pid"),
        (["--ipc", "container"], "invalid --ipc"),
        (["--cgroupns", "x"], "invalid --cgroupns: 'x' is not one of private, host"),
        (["--blkio-weight", "5"], "invalid --blkio-weight: 5 is not between 10 and 1000"),
        (["--oom-score-adj", "2000"], "invalid --oom-score-adj"),
        (["--cpu-shares", "-1"], "invalid --cpu-shares: must not be negative"),
        (["--memory-swap", "1g"], "invalid --memory-swap: --memory must be given too"),
        (["-m", "1g", "--memory-swap", "1m"], "invalid --memory-swap"),
        (["--cpus", "1", "--cpu-quota", "1000"], "--cpus cannot be used with --cpu-quota"),
        (["--device-read-bps", "sda:1"], "invalid --device-read-bps"),
        (["--device-read-iops", "/dev/sda:x"], "invalid --device-read-iops"),
        (["--device", "sda"], "invalid --device"),
        (["--security-opt", "x"], "invalid --security-opt 'x': known are no-new-privileges, seccomp"),
        (["--security-opt", "no-new-privileges=yes"], "invalid --security-opt 'no-new-privileges=yes'"),
        (["--cap-add", ""], "invalid --cap-add: an empty value"),
        (["--ip", "::1"], "invalid --ip: '::1' is not an IPv4 address"),
        (["--network", "web", "--ip6", "10.0.0.1"], "invalid --ip6"),
        (["--network", "web", "--network", "host"], "--network host cannot be used with another --network"),
        (["--network", "web", "--network", "name=web,alias=x"], "--network web is given twice"),
        (["--network", "name=web,ip=10.0.0.1", "--ip", "10.0.0.2"], "--ip cannot be used with the same option"),
        (["--network", "name=host,alias=x"], "options belong to a network, and host is none"),
        (["--network", "none", "--ip", "10.0.0.2"], "--ip cannot be used with --network none"),
        (["--network", "container:x", "--mac-address", "02:00:00:00:00:09"], "--mac-address cannot be used with"),
        (["--network", "alias=x"], "it does not name a network"),
        (["--network", "name=web,aliass=x"], "there is no option 'aliass'"),
        (["--network", "name=web,ip"], "is not of the form NAME=value"),
        (["--network", "name=web,gw-priority=high"], "gw-priority"),
        (["--network", "name=web,driver-opt=com.docker.network.endpoint.sysctls=x"], "the one option there is"),
        (["--network", "web", "--network-alias", "a b"], "invalid network alias"),
        (["--network", "host", "-p", "80:80"], "--publish cannot be used with --network host"),
        (["--network", "container:x", "-h", "y"], "--hostname cannot be used with --network container:NAME"),
        (["--uts", "host", "-h", "y"], "--hostname cannot be used with --uts host"),
        (["-v", "/a:/x", "--tmpfs", "/x/"], "duplicate mount point: /x is mounted twice"),
    ],
)
def test_bad_values(words: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as error:
        spec(*words, "debian")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--restart", "always"], ["--restart=on-failure:3"], ["--userns=auto"], ["--isolation", "hyperv"],
        ["--log-driver", "syslog"],
        ["-v", "/a:/b:O"], ["--mount", "type=volume,dst=/x,volume-opt=a=b"], ["-p", "8000-8005:80"],
        ["--tmpfs", "/x:uid=1000"],
    ],
)  # fmt: skip
def test_not_supported_yet(words: list[str]) -> None:
    with pytest.raises(Unsupported) as error:
        spec(*words, "debian")
    assert "not supported yet" in str(error.value)


@pytest.mark.parametrize(
    "flag",
    [
        "--health-cmd", "--gpus", "--link", "--volumes-from", "--cgroup-parent", "--runtime", "--storage-opt",
        "--memory-swappiness", "--oom-kill-disable", "--annotation",
    ],
)  # fmt: skip
def test_flags_that_docker_has_are_known(flag: str) -> None:
    with pytest.raises(flags.BadFlag, match=f"^{flag} is not supported yet$"):
        spec(flag, "x", "debian")


@pytest.mark.parametrize("image", ["", "-x", "a b"])
def test_bad_image(image: str) -> None:
    with pytest.raises(InvalidInput):
        spec("--", image)


def test_env_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("AWAY", raising=False)
    assert spec("-e", "HERE", "-e", "AWAY", "debian").env == ("HERE=value", "AWAY")


def test_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "value")
    monkeypatch.delenv("AWAY", raising=False)
    path = tmp_path / "env"
    path.write_text("# comment\n\nA=1\n  B='quoted' # not a comment\nC=\nHERE\nAWAY\nD=1=2\r\n")
    found = spec("--env-file", str(path), "-e", "A=2", "debian").env
    assert found == ("A=2", "B='quoted' # not a comment", "C=", "HERE=value", "D=1=2")
    path.write_text("A B=1\n")
    with pytest.raises(InvalidInput):
        spec("--env-file", str(path), "debian")
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        spec("--env-file", str(path), "debian")


def test_label_file(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("a=1\n# no\nb\n")
    assert spec("--label-file", str(path), "-l", "a=2", "debian").labels == {"a": "2", "b": ""}


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data", Mount("volume", "/data")),
        ("db:/data", Mount("volume", "/data", "db")),
        ("db:/data:ro,nocopy", Mount("volume", "/data", "db", True, options={"nocopy": "true"})),
        ("/a/b/../c:/x/", Mount("bind", "/x", "/a/c", create=True)),
        ("/a:/x:ro,rshared", Mount("bind", "/x", "/a", True, "rshared", True)),
        ("/a:/x:z", Mount("bind", "/x", "/a", create=True)),
        ("./a:/x", Mount("bind", "/x", f"{os.getcwd()}/a", create=True)),
        (".:/x", Mount("bind", "/x", os.getcwd(), create=True)),
    ],
)
def test_volume(text: str, mount: Mount) -> None:
    assert mountflags.volume(text) == mount


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        ":/x",
        "/a:x",
        "/a:/",
        "/a:/x:what",
        "a/b:/x",
        "a b:/x",
        "/a:/x:ro:rw",
        "/a::ro",
        "x",
        "/a:/x/../..",
    ],
)
def test_bad_volume(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        mountflags.volume(text)
    assert "volume" in error.value.what


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("type=bind,src=/a,dst=/x", Mount("bind", "/x", "/a")),
        ("type=bind,source=/a,target=/x,readonly", Mount("bind", "/x", "/a", True)),
        ("type=bind,source=/a,destination=/x,ro=false", Mount("bind", "/x", "/a")),
        ("type=bind,src=/a,dst=/x,bind-propagation=rslave", Mount("bind", "/x", "/a", propagation="rslave")),
        ('type=bind,"src=/a,b",dst=/x', Mount("bind", "/x", "/a,b")),
        ("src=db,dst=/x", Mount("volume", "/x", "db")),
        ("dst=/x", Mount("volume", "/x")),
        ("type=volume,src=db,dst=/x,volume-nocopy,volume-subpath=a/b",
         Mount("volume", "/x", "db", options={"nocopy": "true", "subpath": "a/b"})),
        ("type=tmpfs,dst=/x,tmpfs-size=64m,tmpfs-mode=1770",
         Mount("tmpfs", "/x", options={"size": str(64 << 20), "mode": "1770"})),
        ("type=image,src=debian,dst=/x", Mount("image", "/x", "debian")),
        ("/a:/x", Mount("bind", "/x", "/a")),
        ("/a:/x:ro", Mount("bind", "/x", "/a", True)),
        ("a=b/c:/x", Mount("bind", "/x", f"{os.getcwd()}/a=b/c")),
    ],
)  # fmt: skip
def test_mount(text: str, mount: Mount) -> None:
    assert mountflags.mount(text) == mount


@pytest.mark.parametrize(
    "text",
    [
        "", "type=bind,dst=/x", "type=bind,src=/a", "type=what,dst=/x", "type=tmpfs,src=a,dst=/x", "dst=x", "dst=/",
        "type=bind,src=/a,dst=/x,tmpfs-size=1", "type=tmpfs,dst=/x,tmpfs-size=much", "type=tmpfs,dst=/x,tmpfs-mode=999",
        "type=bind,src=/a,dst=/x,readonly=maybe", "type=bind,src=/a,dst=/x,bind-propagation=up", "src=a b,dst=/x",
        "type=bind,src,dst=/x", "type=volume,dst=/x,volume-subpath=../a", 'type=bind,"src=/a,dst=/x',
        "foo=bar,dst=/x", "/a",
    ],
)  # fmt: skip
def test_bad_mount(text: str) -> None:
    with pytest.raises(InvalidInput):
        mountflags.mount(text)


@pytest.mark.parametrize("text", ["/root", "/a:/b:ro:x", "/a:", "dst=/x,much"])
def test_a_mount_of_no_form_shows_the_forms(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        mountflags.mount(text)
    assert "HOST:CONTAINER[:ro]" in error.value.hint and "type=bind" in error.value.hint


def test_tmpfs() -> None:
    assert mountflags.tmpfs("/run") == Mount("tmpfs", "/run")
    assert mountflags.tmpfs("/run:rw,size=64m,mode=755,noexec") == Mount(
        "tmpfs", "/run", options={"size": str(64 << 20), "mode": "755", "noexec": ""}
    )
    assert mountflags.tmpfs("/run:ro").read_only
    for text in ("run", "/", "/run:what", "/run:size=x", "/run:mode=9"):
        with pytest.raises(InvalidInput):
            mountflags.tmpfs(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [Port(80)]),
        ("8080:80", [Port(80, 8080)]),
        (":80", [Port(80)]),
        ("0:80", [Port(80)]),
        ("127.0.0.1:8080:80/udp", [Port(80, 8080, "127.0.0.1", "udp")]),
        ("127.0.0.1::80", [Port(80, 0, "127.0.0.1")]),
        ("[::1]:8080:80", [Port(80, 8080, "::1")]),
        ("8000-8002:80-82", [Port(80, 8000), Port(81, 8001), Port(82, 8002)]),
        ("80-81", [Port(80), Port(81)]),
        ("53:53/TCP", [Port(53, 53)]),
    ],
)
def test_publish(text: str, ports: list[Port]) -> None:
    assert list(portflags.publish([text])) == ports


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "80:x", "80:", "70000", "0", "80/icmp", "80/", "1.2.3:80:80", "::1:80:80", "82-80", "8000-8001:80-82",
        "localhost:80:80", "-1", "80-", "+80", "8 0", "²",
    ],
)  # fmt: skip
def test_bad_publish(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid --publish"):
        portflags.publish([text])


def test_a_port_is_published_once() -> None:
    assert portflags.publish(["80:80/tcp", "80:80/udp", "80", "80"])
    with pytest.raises(InvalidInput, match="given twice"):
        portflags.publish(["80:80", "80:81"])


TEXT = st.text("abz019:/=,.-[]\"' \\é٣", max_size=24)


@hypothesis_given(TEXT)
def test_readers_raise_only_what_a_user_can_read(text: str) -> None:
    readers: list[Any] = [
        mountflags.volume, mountflags.mount, mountflags.tmpfs, mountflags.device,
        lambda value: portflags.publish([value]), lambda value: portflags.expose([value]),
    ]  # fmt: skip
    for read in readers:
        try:
            read(text)
        except (InvalidInput, Unsupported) as error:
            assert str(error)


@hypothesis_given(
    st.sampled_from(
        ["--ulimit", "--sysctl", "--add-host", "--dns", "--mac-address", "--device-read-bps", "--security-opt", "--pid",
         "--ipc", "--network", "--label", "--env", "--name", "--workdir", "--entrypoint", "--stop-signal"]
    ),
    TEXT,
)  # fmt: skip
def test_any_value_is_taken_or_refused(flag: str, text: str) -> None:
    try:
        spec(f"{flag}={text}", "debian")
    except (InvalidInput, Unsupported) as error:
        assert str(error)


@hypothesis_given(st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp", "sctp"]))
def test_ports_come_back(host: int, container: int, protocol: str) -> None:
    assert portflags.publish([f"{host}:{container}/{protocol}"]) == (Port(container, host, "", protocol),)
