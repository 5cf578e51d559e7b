"""Verbs, help and errors, with an engine that only remembers what it was asked."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from nanocontainer import library
from nanocontainer.cmd import complete, features, verbs
from nanocontainer.cmd.help import closest
from nanocontainer.cmd.main import _load
from nanocontainer.container.spec import Container, EndpointState, Port, Spec, State
from nanocontainer.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    NanoError,
    NotFound,
    NotRunning,
    Unsupported,
)
from nanocontainer.kernel.calls import Kernel
from nanocontainer.kernel.facts import Facts
from nanocontainer.kernel.host import Host
from nanocontainer.network.model import Network
from nanocontainer.paths import Paths
from nanocontainer.plan.plan import Plan
from nanocontainer.runtime.process import Exec

from .cmd_fakes import IMAGE, OLD, WEB, Cli, no_terminal

ALL = [
    *([name] for name in verbs.VERBS),
    *([group, word] for group, (_, words) in verbs.GROUPS.items() for word in words),
]  # fmt: skip


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    no_terminal()
    return Cli(capfd)


# --- help and unknown words


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_of_every_verb(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str], columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = cli(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage:  nanocontainer {' '.join(words)}")
    examples = out.find("Examples:")
    assert max(len(line) for line in out[:examples].split("\n")) <= min(int(columns), 120)
    assert "--help" in out or words == ["create"] or "Options:" not in out or words[-1] in ("run", "create", "trace")
    assert cli("help", *words) == (0, out, "")
    assert not cli.engine.asked


def test_help_shows_every_supported_flag(cli: Cli) -> None:
    for words in ALL:
        found = verbs.find(words)
        assert found
        command = getattr(_load(found[1][0]), found[1][1])
        _, out, _ = cli(*words, "--help")
        for row in command.flags:
            if not isinstance(row, str) and row[4]:
                assert f"--{row[0]}" in out


def test_root_help(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0 and cli()[1] == cli("help")[1] == cli("-h")[1] == out
    assert cli("help", "help")[:2] == (
        0,
        "Usage:  nanocontainer help [COMMAND]\n\nExplain a command, or list all of them.\n",
    )
    for name in verbs.VERBS:
        assert f"\n  {name} " in out
    for section in verbs.SECTIONS:
        assert f"{section} Commands:" in out
    assert "__complete" not in out
    for way, (_, about) in verbs.WAYS.items():
        assert re.search(f"^  {way} +{re.escape(about)}$", out, re.MULTILINE)
    for name in ("explain", "step", "break-at", "without"):
        assert f"--{name} " in cli("run", "--help")[1].partition("\nSee-through:\n")[2]
    assert "run --explain" in out and "'log' is 'logs'" in out and "nanoc" in out
    assert '--explain string[="text"]' in cli("run", "--help")[1]


@pytest.mark.parametrize("group", verbs.GROUPS)
def test_group_help(cli: Cli, group: str) -> None:
    code, out, err = cli(group)
    assert (code, err) == (0, "") and out.startswith(f"Usage:  nanocontainer {group} COMMAND")
    assert cli(group, "--help") == cli("help", group) == (0, out, "")
    words = re.findall(r"^  (\w+)  ", out, re.MULTILINE)
    assert len(words) > 2 and words == sorted(words)
    assert cli(group, "zzzzzz")[2].endswith(f"See 'nanocontainer {group} --help'.\n")


def test_a_default_is_told_once(cli: Cli) -> None:
    for words in ALL:
        for line in re.split(r"\n +(?:-\w, )?--", cli(*words, "--help")[1].partition("\nExamples:")[0]):
            assert line.count("(default") <= 1, line


def test_a_port_is_shown_in_each_family_it_is_published_in(cli: Cli) -> None:
    web = cli.engine.known[0]
    assert cli("port", "web")[1] == "80/tcp -> 0.0.0.0:8080\n443/tcp -> 127.0.0.1:8443\n"
    place = EndpointState("bridge", "9" * 64, "eth0", "veth0", "02:42:0a:58:00:02", "10.88.0.2", ip6="fd00::2")
    cli.engine.known[0] = Container(web.spec, web.state.replace(endpoints=(place,)))
    assert cli("port", "web")[1] == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n443/tcp -> 127.0.0.1:8443\n"
    assert cli("port", "web", "80")[1] == "0.0.0.0:8080\n[::]:8080\n"
    shown = json.loads(cli("inspect", "web")[1])[0]["NetworkSettings"]["Ports"]
    assert [one["HostIp"] for one in shown["80/tcp"]] == ["0.0.0.0", "::"]
    assert [one["HostIp"] for one in shown["443/tcp"]] == ["127.0.0.1"]


def test_port_add_without_a_port(cli: Cli) -> None:
    """Not "no such container: add"."""
    for word in ("add", "rm"):
        code, out, err = cli("port", word, "web")
        assert (code, out) == (1, "") and f"'nanocontainer port {word}' requires a container and a port\n" in err
    assert "no such container: ad" in cli("port", "ad")[2]


def test_network_create_gets_what_its_containers_need(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where people see it: at the first start of a container on it they would wait without a word."""
    there: list[bool] = []
    monkeypatch.setattr(library, "lies_at", lambda *_: "")
    monkeypatch.setattr(library, "install", lambda *_: there.pop())
    lab = Network("lab", "ab" * 32, "nano0", "10.5.0.0/24", "10.5.0.1")
    monkeypatch.setattr(cli.engine, "network_create", lambda wish: lab, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    there.append(True)
    assert cli("network", "create", "lab") == (0, "ab" * 32 + "\n", "")
    assert cli("network", "create", "-o", "foo", "lab")[0] == 1  # 125 is `create` of containers alone
    there.append(False)
    code, out, err = cli("network", "create", "lab")
    assert (code, out) == (0, "ab" * 32 + "\n") and not there
    assert err.startswith("WARNING: no container can start on this network yet: ") and "python3-dnspython" in err


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["rum"], "run"), (["imagess"], "images"), (["conatiner", "ls"], "container"), (["container", "pss"],
        "container ps"),
        (["zzzzzz"], ""), (["help", "sotp"], "stop"), (["image", "zzzzzz"], ""),
    ],
)  # fmt: skip
def test_unknown_words(cli: Cli, words: list[str], near: str) -> None:
    code, out, err = cli(*words)
    assert code == 1 and out == ""
    assert err.startswith("Error: unknown command: nanocontainer ")
    assert (f"did you mean 'nanocontainer {near}'?" in err) is bool(near)


@pytest.mark.parametrize("words", [["build", "."], ["container", "cp", "a", "b"], ["help", "stats"],
                                   ["system", "events"]])  # fmt: skip
def test_words_for_later(cli: Cli, words: list[str]) -> None:
    code, out, err = cli(*words)
    assert code == 1 and out == "" and " is not supported yet\n" in err and "did you mean" not in err
    assert not verbs.LATER & verbs.VERBS.keys()
    assert ("Hint: " in err) is (words[-1] != "events")


def test_closest() -> None:
    assert closest("exce", ["exec", "events"]) == "exec"
    assert closest("", ["a"]) == "a"
    assert closest("abc", []) == ""


@pytest.mark.parametrize(
    "words", [["run", "--foo", "x"], ["ps", "--foo"], ["stop", "-z", "x"], ["rm", "--force=x", "y"]]
)
def test_bad_flags_are_125(cli: Cli, words: list[str]) -> None:
    code, out, err = cli(*words)
    assert code == 125 and out == ""
    assert err.endswith(f"See 'nanocontainer {words[0]} --help'.\n")
    assert not cli.engine.asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "'nanocontainer run' requires at least 1 argument"),
        (["exec", "web"], "'nanocontainer exec' requires at least 2 arguments"),
        (["rm"], "'nanocontainer rm' requires at least 1 argument"),
        (["container", "rm"], "'nanocontainer container rm' requires at least 1 argument"),
        (["ps", "x"], "'nanocontainer ps' accepts no arguments"),
        (["tag", "x"], "'nanocontainer tag' requires exactly 2 arguments"),
        (["images", "a", "b"], "'nanocontainer images' requires at most 1 argument"),
    ],
)
def test_number_of_arguments(cli: Cli, words: list[str], message: str) -> None:
    code, _, err = cli(*words)
    assert code == 1 and message in err


def test_version(cli: Cli) -> None:
    assert cli("--version")[1] == cli("-v")[1]
    assert "NanoContainer version" in cli("-v")[1]
    assert cli("version")[0] == 0
    assert json.loads(cli("version", "--format", "json")[1])["Client"]["Version"]
    assert cli("version", "-f", "{{.Server.Os}}")[1] == "linux\n"
    assert cli("version", "-f", "{{.Nope}}")[0] == 64


def test_info(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanocontainer.cmd.features.features", lambda state: {"seccomp": "no: what is missing"})
    lines = cli("info")[1]
    assert lines.startswith(
        "Name: host\nContainers: 2\nLists: a b\nFlag: true\nInner:\n Key: value\nMemTotal: 23.54GiB\n"
    )
    assert "PythonVersion: 3." in lines and lines.endswith("Features:\n seccomp: no: what is missing\n")
    assert cli("info", "-f", "{{.MemTotal}}")[1] == f"{int(23.54 * (1 << 30))}\n"
    assert cli("system", "info", "-f", "{{.Inner.Key}}")[1] == "value\n"
    assert json.loads(cli("info", "-f", "json")[1])["Containers"] == 2


def test_features_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    found = features.features("/")
    assert found.keys() >= {"overlayfs", "nftables", "seccomp"}
    assert all(answer == "yes" or answer.startswith(("no: ", "unknown: ")) for answer in found.values())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert features.features("/")["nftables"] == "unknown: only root can ask"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Host, "in_child", lambda host, flags, ask: _raise(Unsupported("x", "it is not installed")))
    monkeypatch.setattr(Kernel, "fsopen", lambda kernel, kind: _raise(OSError(errno.ENODEV, "No such device")))
    monkeypatch.setattr("nanocontainer.kernel.host.probe", lambda: Facts(seccomp=False))
    found = features.features("/")
    assert found["nftables"] == "no: it is not installed" and found["EROFS from a file"] == "no: No such device"
    assert found["overlayfs"] == "no: the kernel does not know it, nor can it load the module"
    assert found["seccomp"] == "no: the kernel is built without it"


def _raise(error: Exception) -> NoReturn:
    raise error


# --- errors


@pytest.mark.parametrize(
    ("verb", "error", "code"),
    [
        ("run", NanoError("x"), 125),
        ("run", CommandNotFound("x"), 127),
        ("run", CommandNotExecutable("x"), 126),
        ("create", Conflict("x"), 125),
        ("exec", NotRunning("x"), 1),
        ("exec", CommandNotFound("x"), 127),
        ("stop", Conflict("x"), 1),
        ("run", KeyboardInterrupt(), 130),
        ("run", BrokenPipeError(), 141),
        ("run", OSError(28, "No space left on device", "/x"), 125),
    ],
)
def test_exit_codes(cli: Cli, verb: str, error: Exception, code: int) -> None:
    cli.engine.failing = {"launch": error, verb: error}
    words = {"run": ["run", "-d", "x"], "create": ["container", "create", "x"], "exec": ["exec", "web", "x"]}
    assert cli(*words.get(verb, [verb, "web"]))[0] == code


def test_errors_say_what_why_and_hint(cli: Cli) -> None:
    cli.engine.failing = {"stop": NanoError("cannot stop web", "it is stuck", "pull harder")}
    code, out, err = cli("stop", "web")
    assert (code, out, err) == (1, "", "Error: cannot stop web: it is stuck\nHint: pull harder\n")


def test_without_root(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.engine.failing = {"containers": PermissionError(13, "Permission denied", "/state/containers")}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    code, _, err = cli("ps")
    assert code == 1
    assert err.startswith("Error: cannot list containers: /state/containers: Permission denied\nHint: even root")
    cli.engine.asked.clear()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = cli("ps")
    said = "nanocontainer ps needs root: /state/containers: Permission denied"
    assert (code, err) == (1, f"Error: {said}\nHint: run as root (sudo)\n")
    cli.engine.asked.clear()
    for words in (["run", "-d"], ["run", "--pull", "always"], ["create"]):
        code, _, err = cli(*words, "tiny")
        assert code == 125 and "this needs root" in err
    assert not cli.engine.asked


def test_debug_shows_the_trace(capfd: pytest.CaptureFixture[str]) -> None:
    from nanocontainer.cmd.main import App, main

    assert main(["--debug", "version", "--format", "{{"], App()) == 64
    assert "Traceback" in capfd.readouterr().err


# --- run, create, start, exec


def test_run_detached(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    code, out, err = cli("run", "-d", "--cidfile", str(path), "--pull", "never", "debian", "sleep", "1")
    assert (code, out, err) == (0, f"{WEB}\n", "")
    assert path.read_text() == WEB
    [(_, spec, attach, how)] = cli.engine.asked
    assert spec == Spec("debian", command=("sleep", "1"), detached=True) and not attach
    assert how == {"pull": "never", "watch": None}
    code, out, err = cli("run", "-d", "--cidfile", str(path), "debian")
    assert code == 125 and "the file exists already" in err


def test_run_checks_before_it_starts(cli: Cli) -> None:
    for words in (["--pull", "maybe"], ["-a", "stdwhat"], ["-d", "-a", "stdin"], ["--detach-keys", "ctrl-"], ["-it"]):
        code, out, err = cli("run", *words, "debian")
        assert code == 125 and out == "" and err.startswith("Error: "), words
    assert not cli.engine.asked


def test_run_pulls_what_is_missing(cli: Cli) -> None:
    cli.engine.failing = {"launch": NotFound("no such image: debian")}
    code, _, err = cli("run", "-d", "--platform", "linux/arm64", "debian")
    assert code == 125 and err == "Error: no such image: debian\n"
    assert [what[0] for what in cli.engine.asked] == ["launch", "pull", "launch"]
    assert cli.engine.asked[1] == ("pull", "debian", "linux/arm64")
    for words, asked in (
        (["--pull=never", "debian"], ["launch"]),
        (["nginx"], ["launch"]),  # the image is here: it is something else that is not found
        (["--pull", "always", "nginx"], ["pull", "launch"]),
    ):
        cli.engine.asked.clear()
        assert cli("run", "-d", *words)[0] == 125
        assert [what[0] for what in cli.engine.asked] == asked


@pytest.mark.parametrize(
    ("words", "asked", "code"),
    [
        (["--platform", "linux/arm64"], ["launch"], 0),
        (["--platform", "arm64", "--pull", "never"], ["launch"], 0),
        (["--platform", "linux/amd64"], ["pull", "launch"], 0),
        (["--platform", "linux/arm64", "--pull", "always"], ["pull", "launch"], 0),
        (["--platform", "linux/amd64", "--pull", "never"], [], 125),
        (["--platform", "a/b/c/d"], [], 125),
    ],
)
def test_platform_of_an_image_that_is_here(cli: Cli, words: list[str], asked: list[str], code: int) -> None:
    cli.engine.stored[0] = cli.engine.stored[0].replace(os="linux", architecture="arm64", variant="v8")
    assert cli("run", "-d", *words, "nginx")[0] == code
    assert [what[0] for what in cli.engine.asked] == asked
    cli.engine.asked.clear()
    assert cli("create", *words, "nginx")[0] == code
    assert [what[0] for what in cli.engine.asked] == [word.replace("launch", "create") for word in asked]


def test_tiny_has_one_platform(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = cli.engine.stored[0].replace(os="linux", architecture="s390x", names=("docker.io/library/tiny:latest",))
    monkeypatch.setattr(cli.engine, "image", lambda name: tiny)
    cli.engine.stored[0] = tiny
    for words in (["run"], ["create"], ["run", "--pull", "always"], ["pull"]):
        code, _, err = cli(*words, "--platform", "linux/amd64", "tiny")
        assert code in (1, 125) and "no image for linux/amd64 in tiny: it is made of this host's own" in err
    assert not [what for what in cli.engine.asked if what[0] in ("launch", "create")]


@pytest.mark.parametrize(
    ("words", "tty"),
    [(["nginx", "sh"], True), (["nginx"], True), (["-t=false", "nginx", "sh"], False), (["-d", "nginx", "sh"], False),
     (["nginx", "ls"], False), (["--entrypoint", "ls", "nginx", "sh"], False), (["-it", "nginx", "ls"], True)],
)  # fmt: skip
def test_explain_explains_the_start_that_run_makes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str], tty: bool
) -> None:
    specs: list[Spec] = []

    def explain(spec: Spec) -> Plan:
        specs.append(spec)
        return Plan((Exec(spec.command or ("sh",), ()),))

    monkeypatch.setattr(os, "isatty", lambda fd: True)
    monkeypatch.setattr("nanocontainer.cmd.terminal.terminal_size", lambda: (33, 99))
    monkeypatch.setattr(cli.engine, "explain", explain, raising=False)
    assert cli("run", "--explain", *words)[0] == 0
    assert (specs[-1].tty, specs[-1].console_size) == ((True, (33, 99)) if tty else (False, (0, 0)))


def test_signals_during_a_start_are_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(spec: Spec, **how: object) -> tuple[str, None]:
        os.kill(os.getpid(), signal.SIGINT)
        return WEB, None

    monkeypatch.setattr(cli.engine, "launch", launch)
    assert cli("run", "-d", "nginx") == (130, f"{WEB}\n", "")


def test_create(cli: Cli) -> None:
    assert cli("create", "--name", "box", "debian") == (0, f"{WEB}\n", "")
    assert cli.engine.asked[0][:2] == ("create", Spec("debian", name="box"))
    cli.engine.asked.clear()
    assert cli("create", "--rm", "debian")[0] == 0
    assert cli.engine.asked[0][1] == Spec("debian", auto_remove=True)
    assert cli("create", "-d", "debian")[0] == 125  # as docker: create has no --detach


def test_exec(cli: Cli) -> None:
    assert cli("exec", "-e", "A=b", "-w", "/x", "-u", "me", "--privileged", "web", "ls", "-l") == (5, "", "")
    [(_, ref, args, how)] = cli.engine.asked
    assert (ref, args) == ("web", ("ls", "-l"))
    assert how == {
        "env": ("A=b",), "cwd": "/x", "user": "me", "tty": False, "stdin": False, "detach": False, "privileged": True,
        "inherit": True, "size": (0, 0), "watch": None,
    }  # fmt: skip
    assert cli("exec", "-d", "web", "ls") == (0, "", "")
    assert cli("exec", "-it", "web", "ls")[0] == 1
    assert cli("exec", "-w", "x", "web", "ls")[0] == 1


def test_start(cli: Cli) -> None:
    assert cli("start", "web", "old") == (0, "web\nold\n", "")
    assert cli("start", "-a", "web", "old")[0] == 1
    assert cli("attach", "old")[0] == 1


# --- verbs on containers


def test_many_containers(cli: Cli) -> None:
    assert cli("stop", "-t", "3", "-s", "INT", "a", "b") == (0, "a\nb\n", "")
    assert cli("stop", "--time", "-1", "a")[0] == 0
    assert cli("stop", "a")[0] == 0
    assert cli("kill", "-s", "HUP", "a")[0] == 0
    assert cli("kill", "a")[0] == 0
    assert cli("restart", "-t", "1", "a")[0] == 0
    assert cli("pause", "a")[0] == cli("unpause", "a")[0] == 0
    assert cli("wait", "a", "b") == (0, "3\n3\n", "")
    assert cli.engine.asked == [
        ("stop", "a", 3, "INT"), ("stop", "b", 3, "INT"), ("stop", "a", -1, ""), ("stop", "a", None, ""),
        ("kill", "a", "HUP"), ("kill", "a", "KILL"), ("restart", "a", 1), ("pause", "a"), ("unpause", "a"),
        ("wait", "a"), ("wait", "b"),
    ]  # fmt: skip


def test_rm(cli: Cli) -> None:
    code, out, err = cli("rm", "nope", "web", "-v")
    assert (code, out, err) == (1, "web\n", "Error: no such container: nope\n")
    code, out, err = cli("container", "rm", "-f", "nope", "old")
    assert (code, out) == (0, "old\n")
    assert cli.engine.asked == [("remove", "web", False, True), ("remove", "old", True, False)]


def test_prune(cli: Cli) -> None:
    code, _, err = cli("container", "prune")
    assert code == 1 and "nobody can be asked" in err and not cli.engine.asked
    code, out, _ = cli("container", "prune", "-f")
    assert (code, out) == (0, f"Deleted Containers:\n{OLD}\n\nTotal reclaimed space: 1.095kB\n")
    assert cli.engine.asked[-1] == ("remove", OLD, False, False)


def test_logs(cli: Cli) -> None:
    assert cli("logs", "web") == (0, "one\nthree", "two\n")
    assert cli("log", "-t", "--tail", "5", "--since", "10m", "web")[1].startswith(
        "2024-05-01T12:00:00.000000001Z one\n"
    )
    assert cli.engine.asked[1][2] == {"follow": False, "tail": 5, "since": "10m", "until": ""}
    assert cli("logs", "--tail", "x", "web")[0] == 1
    assert cli("logs", "nope")[0] == 1


# --- ps


def test_ps(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from nanocontainer.cmd import units

    monkeypatch.setattr(time, "time", lambda: units.read_time("2024-05-01T12:05:00Z"))
    assert cli("ps")[1] == (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         "
        "PORTS                                           NAMES\n"
        'abababababab   nginx     "nginx -g \'daemon of…"   5 minutes ago   Up 4 minutes   '
        "0.0.0.0:8080->80/tcp, 127.0.0.1:8443->443/tcp   web\n"
    )
    lines = cli("ps", "-a", "--no-trunc")[1].split("\n")
    assert lines[1].startswith(WEB) and "\"nginx -g 'daemon off;'\"" in lines[1]
    assert lines[2].startswith(OLD) and "Exited (3) 4 weeks ago" in lines[2]
    assert cli("ps", "-aq")[1] == "abababababab\ncdcdcdcdcdcd\n"
    assert cli("ps", "-q", "--no-trunc")[1] == f"{WEB}\n"
    assert cli("ps", "-l", "-q")[1] == "abababababab\n"
    assert cli("ps", "-n", "5", "-q")[1].count("\n") == 2
    assert "1.09kB (virtual 188MB)" in cli("ps", "-s")[1]
    assert cli("container", "ls")[1] == cli("container", "ps")[1] == cli("ps")[1]


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("{{.Names}}|{{.Status}}", "web|Up 5 minutes"),
        ("{{.ID}}", "abababababab"),
        ('{{.Label "tier"}}', "front"),
        ("{{.Labels}}", "a.b=c,tier=front"),
        ("{{.CreatedAt}}", "2024-05-01 12:00:00 +0000 UTC"),
        ("{{.State}} {{.Networks}} {{.Pid}} {{.ExitCode}}", "running bridge 4711 0"),
        ("{{.Ports}}", "0.0.0.0:8080->80/tcp, 127.0.0.1:8443->443/tcp"),
        (r"table {{.Names}}\t{{.Image}}", "NAMES     IMAGE\nweb       nginx"),
    ],
)
def test_ps_format(cli: Cli, monkeypatch: pytest.MonkeyPatch, form: str, shown: str) -> None:
    from nanocontainer.cmd import units

    monkeypatch.setattr(time, "time", lambda: units.read_time("2024-05-01T12:05:01Z"))
    assert cli("ps", "--format", form) == (0, f"{shown}\n", "")


def test_ps_json(cli: Cli) -> None:
    lines = cli("ps", "-a", "--format", "json")[1].splitlines()
    assert [json.loads(line)["Names"] for line in lines] == ["web", "old"]
    assert json.loads(lines[0])["Pid"] == "4711"
    assert cli("ps", "--format", "{{.Nope}}")[0] == 64


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=we"], ["web"]), (["name=web", "name=old"], ["web"]), (["name=^/web$"], ["web"]),
        (["status=exited"], ["old"]),
        (["status=exited", "status=running"], ["web", "old"]), (["exited=3"], ["old"]), (["exited=0"], []),
        (["label=tier"], ["web"]), (["label=tier=front", "label=a.b"], ["web"]), (["label=tier=back"], []),
        (["id=abab"], ["web"]), (["ancestor=nginx"], ["web"]), (["ancestor=" + IMAGE], ["web"]), (["ancestor=x"], []),
        (["publish=8080"], ["web"]), (["publish=8000-9000/tcp"], ["web"]), (["publish=8080/udp"], []),
        (["expose=443"], ["web"]),
        (["network=bridge"], ["web"]), (["since=old"], ["web"]), (["before=web", "status=exited"], ["old"]),
        (["volume=x"], []),
        (["status=running", "name=old"], []), (["health=none"], ["web"]),
    ],
)  # fmt: skip
def test_ps_filters(cli: Cli, filters: list[str], names: list[str]) -> None:
    words = [word for item in filters for word in ("--filter", item)]
    code, out, err = cli("ps", *words, "--format", "{{.Names}}")
    assert (code, out.split(), err) == (0, names, "")


@pytest.mark.parametrize("item", ["x", "color=red", "status=happy", "exited=x", "name=(", "publish=x", "since=nope"])
def test_ps_bad_filters(cli: Cli, item: str) -> None:
    code, out, err = cli("ps", "-f", item)
    assert code == 1 and out == "" and err.startswith("Error: ")


def test_ports_are_joined_to_ranges() -> None:
    from nanocontainer.cmd.ps import ports

    bound = (*(Port(80 + n, 8000 + n) for n in range(3)), Port(90, 9000), Port(53, 53, "::1", "udp"))
    container = Container(Spec("x", exposed=("80/tcp", "7/tcp")), State("running", ports=bound))
    assert ports(container) == "0.0.0.0:8000-8002->80-82/tcp, 0.0.0.0:9000->90/tcp, [::1]:53->53/udp, 7/tcp"
    assert ports(Container(container.spec, State("exited", ports=bound))) == ""


def test_status_words() -> None:
    from nanocontainer.cmd.ps import status

    def said(**state: object) -> str:
        return status(Container(Spec("x"), State(**state)), 1714564800.0)

    assert said(status="created") == "Created"
    assert said(status="paused", started="2024-05-01T11:00:00Z") == "Up About an hour (Paused)"
    assert said(status="exited", exit_code=137, finished="2024-05-01T11:59:59Z") == "Exited (137) 1 second ago"
    assert said(status="dead") == "Dead"


# --- inspect and images


def test_inspect(cli: Cli) -> None:
    code, out, err = cli("inspect", "web", "nope", "nginx")
    found = json.loads(out)
    assert code == 1 and err == "Error: no such object: nope\n"
    web, image = found
    assert (
        web["Id"] == WEB and web["Name"] == "/web" and web["Path"] == "nginx" and web["Args"] == ["-g", "daemon off;"]
    )
    assert web["State"]["Status"] == "running" and web["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert web["NetworkSettings"]["IPAddress"] == "10.88.0.2"
    assert web["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "8080"}]
    assert web["NetworkSettings"]["Networks"]["bridge"]["MacAddress"] == "02:42:0a:58:00:02"
    assert web["Config"]["Labels"] == {"tier": "front", "a.b": "c"} and web["HostConfig"]["NetworkMode"] == "bridge"
    assert image["RepoTags"] == ["nginx:latest", "localhost:5000/nginx:1"]
    assert image["RepoDigests"] == ["nginx@sha256:" + "56" * 32]
    assert cli("inspect", "nope")[:2] == (1, "[]\n")
    assert cli("inspect", "--type", "image", "web")[0] == 1
    assert cli("image", "inspect", "web")[0] == 1 and cli("container", "inspect", "nginx")[0] == 1
    assert cli("inspect", "--type", "x", "web")[0] == 1


def test_inspect_reads_the_network_of_an_address(cli: Cli, tmp_path: Path) -> None:
    assert json.loads(cli("inspect", "web")[1])[0]["NetworkSettings"]["Gateway"] == ""  # no record: no guess
    cli.engine.paths = Paths(str(tmp_path), "/run")
    (tmp_path / "networks/bridge").mkdir(parents=True)
    network = Network("bridge", "9" * 64, "nano0", "10.88.0.0/16", "10.88.0.1")
    (tmp_path / "networks/bridge/network.json").write_text(json.dumps(network.as_dict()))
    web, old = (found["NetworkSettings"] for found in json.loads(cli("inspect", "web", "old")[1]))
    assert (web["Gateway"], web["IPPrefixLen"]) == ("10.88.0.1", 16)
    assert web["Networks"]["bridge"]["Gateway"] == "10.88.0.1" and web["Networks"]["bridge"]["NetworkID"] == "9" * 64
    assert (old["Gateway"], old["IPPrefixLen"]) == ("", 0)


def test_inspect_format(cli: Cli) -> None:
    assert cli("inspect", "-f", "{{.State.Pid}} {{.Name}}", "web", "old") == (0, "4711 /web\n0 /old\n", "")
    assert cli("inspect", "-f", '{{index .Config.Labels "a.b"}}', "web")[1] == "c\n"
    assert cli("inspect", "-f", "{{.Config.Labels.nope}}", "web")[1] == "<no value>\n"
    assert cli("inspect", "-f", "{{json .Config.Entrypoint}}", "web")[1] == '["nginx","-g","daemon off;"]\n'
    assert cli("inspect", "-s", "-f", "{{.SizeRw}}", "web")[1] == "1095\n"
    assert cli("inspect", "-f", "{{.Nope}}", "web")[0] == 64
    assert cli("inspect", "-f", "{{", "nope")[0] == 64
    assert json.loads(cli("inspect", "-f", "json", "web")[1])[0]["Id"] == WEB


def test_images(cli: Cli) -> None:
    lines = [line.split() for line in cli("images")[1].splitlines()]
    assert lines[0] == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert [line[:3] + line[-1:] for line in lines[1:]] == [
        ["localhost:5000/nginx", "1", "121212121212", "188MB"],
        ["nginx", "latest", "121212121212", "188MB"],
        ["<none>", "<none>", "787878787878", "1000kB"],
    ]
    assert "sha256:" + "56" * 32 in cli("images", "--digests")[1]
    assert cli("images", "-q", "--no-trunc", "nginx")[1] == f"{IMAGE}\n"
    assert cli("images", "-f", "dangling=true", "-q")[1] == "787878787878\n"
    assert cli("images", "-f", "label=x=y", "-f", "reference=nginx:*", "--format", "{{.Tag}}")[1] == "latest\n"
    assert cli("images", "-f", "until=2023-06-01T00:00:00Z", "-q")[1] == "787878787878\n"
    assert cli("images", "-f", "before=nginx", "-q")[1] == "787878787878\n"
    assert json.loads(cli("images", "nginx", "--format", "json")[1])["Repository"] == "nginx"
    assert cli("image", "ls")[1] == cli("images")[1]


def test_image_verbs(cli: Cli) -> None:
    assert "invalid --format: 'yaml' is not json" in cli("image", "verify", "--format", "yaml")[2]
    assert cli("pull", "-q", "nginx") == (0, "docker.io/library/nginx:latest\n", "")
    code, out, err = cli("pull", "nginx")
    assert (code, out, err) == (0, "docker.io/library/nginx:latest\n", "Using default tag: latest\n")
    assert cli("rmi", "-f", "a", "b") == (0, "Untagged: a\nUntagged: b\n", "")
    assert cli("image", "tag", "a", "b") == (0, "", "")
    code, out, _ = cli("load", "-i", "x.tar")
    assert out.splitlines() == [
        "Loaded image: nginx:latest", "Loaded image: localhost:5000/nginx:1", f"Loaded image ID: sha256:{'78' * 32}",
    ]  # fmt: skip
    code, out, _ = cli("image", "prune", "-f")
    assert code == 0 and out.startswith("Deleted Images:\nuntagged: sha256:7878") and out.endswith("space: 1000kB\n")
    assert ("image_prune", False, "", (), ()) in cli.engine.asked
    filters = ("--filter", "until=24h", "--filter", "label!=a", "--filter", "label=b")
    assert cli("image", "prune", "-a", "-f", *filters)[0] == 0
    assert ("image_prune", True, "24h", ["b"], ["a"]) in cli.engine.asked
    assert cli("image", "prune", "-f", "--filter", "color=red")[0] == 1


# --- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    code, out, _ = cli("completion", shell)
    assert code == 0 and "__complete" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out.encode(), check=True)
    assert cli("completion", "csh")[0] == 1


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("nanocontainer ru", ["run"]),
        ("nanocontainer run --pull=nev", ["never"]),  # behind the = only: to bash that is the word
        ("nanocontainer run --pull=", ["always", "missing", "newer", "never"]),
        ("nanocontainer run debian:1", ["12"]),
        ("nanocontainer stop ", ["web", "worker"]),
        ("nanocontainer run tiny /bin/ech", ["/bin/echo"]),
        ("nanocontainer nope ", []),
    ],
)
def test_bash_completes(state: Paths, line: str, replies: list[str]) -> None:
    script = (
        f'nanocontainer() {{ {sys.executable} -IS {LAUNCHER} "$@"; }}; source <(nanocontainer completion bash)\n'
        f"COMP_LINE='{line}' COMP_POINT={len(line)}; compopt() {{ :; }}; _nanocontainer\n"
        'for reply in "${COMPREPLY[@]}"; do echo "$reply"; done'
    )
    env = {**os.environ, "NANOCONTAINER_ROOT": state.state}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (replies, "")


@pytest.fixture
def state(tmp_path: Path) -> Paths:
    for name in ("web", "worker"):
        (tmp_path / "names").mkdir(exist_ok=True)
        os.symlink("x", tmp_path / "names" / name)
    refs = tmp_path / "images" / "refs"
    refs.mkdir(parents=True)
    for name in ("docker.io%library%debian:12", "docker.io%library%tiny:latest", "localhost:5000%app:1"):
        os.symlink("x", refs / name)
    (tmp_path / "networks" / "lan").mkdir(parents=True)
    return Paths(str(tmp_path), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ru"], ["run"]),
        (["container", "st"], ["start", "stop"]),
        (["help", "unp"], ["unpause"]),
        (["--de"], ["--debug"]),
        (["--root", ""], [":files"]),
        (["--root", "/x", "ru"], ["run"]),
        (["run", "--pri"], ["--privileged"]),
        (["run", "--pull", ""], ["always", "missing", "newer", "never"]),
        (["run", "--pull=n"], ["--pull=newer", "--pull=never"]),
        (["run", "--cap-add", "NET_A"], ["NET_ADMIN"]),
        (["run", "--cap-drop=AL"], ["--cap-drop=ALL"]),
        (["run", "--network", "l"], ["lan"]),
        (["run", "--break-at", "pivot"], ["PivotRoot"]),
        (["learn", "n"], ["net", "next"]),
        (["why", "we"], ["web"]),
        (["learn", "net", ""], []),
        (["run", "--network=container:we"], ["--network=container:web"]),
        (["run", "-it", "deb"], ["debian:12"]),
        (["run", "-itv", ""], [":files"]),
        (["run", "--rm", "t"], ["tiny:latest", "tiny"]),
        (["run", "tiny", "x"], [":files"]),
        (["run", "tiny", "--r"], [":files"]),
        (["stop", "we", "w"], ["web", "worker"]),
        (["container", "rm", "-f", "wo"], ["worker"]),
        (["exec", "-it", "we"], ["web"]),
        (["logs", "web", ""], []),
        (["inspect", "w"], ["web", "worker"]),
        (["rmi", "loc"], ["localhost:5000/app:1"]),
        (["image", "inspect", "deb"], ["debian:12"]),
        (["push", "loc"], ["localhost:5000/app:1"]),
        (["save", "tiny", "deb"], ["debian:12"]),
        (["image", "files", "deb"], ["debian:12"]),
        (["image", "files", "debian:12", ""], []),
        (["import", ""], [":files"]),
        (["commit", "we"], ["web"]),
        (["save", "--format", "oci"], ["oci-archive", "oci-dir"]),
        (["network", "connect", "l"], ["lan"]),
        (["network", "connect", "lan", "we"], ["web"]),
        (["network", "disconnect", "lan", "web", ""], []),
        (["network", "reload", "w"], ["web", "worker"]),
        (["egress", "add", "we"], ["web"]),
        (["egress", "rm", "web", ""], []),
        (["port", "a"], ["add"]),
        (["port", "rm", "wo"], ["worker"]),
        (["completion", "z"], ["zsh"]),
        (["kill", "-s", "U"], ["USR1", "USR2"]),
        (["ps", "--format", "j"], ["json"]),
        (["anatomy", "we"], ["web"]),
        (["anatomy", "web", ""], []),
        (["anatomy", "--only", "ca"], ["capabilities"]),
        (["anatomy", "-f", "h"], ["html"]),
        (["compare", "web", "h"], ["host"]),
        (["compare", "--format=t"], ["--format=text"]),
        (["compare", "web", "host", ""], []),
        (["nope", ""], []),
        (["ps", "--nope", ""], []),
    ],
)
def test_candidates(state: Paths, words: list[str], found: list[str]) -> None:
    assert complete.candidates(words, state) == found


def test_complete_without_state(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOCONTAINER_ROOT", "/nowhere")
    assert cli("__complete", "stop", "") == (0, "", "")
    assert cli("__complete", "--", "run", "--rm=") == (0, "", "")
    assert cli("__complete", "--", "--ver") == (0, "--version\n", "")
    assert cli("__complete")[1].startswith("run\n")
    assert not cli.engine.asked


# --- the launcher


LAUNCHER = Path(__file__).parents[2] / "nanocontainer"


def test_launcher_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "nanoc"
    link.symlink_to(LAUNCHER)
    done = subprocess.run([sys.executable, "-IS", str(link), "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("NanoContainer version")


def test_launcher_with_closed_files() -> None:
    script = f"exec {sys.executable} -IS {LAUNCHER} __complete ru <&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "run\n"


def test_closed_stdout_is_141() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-IS", str(LAUNCHER), "--help"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_and_ps_import_little() -> None:
    """No module that costs a start. tests/budget counts the verbs that need root."""
    script = (
        f"import sys; sys.path.insert(0, {str(LAUNCHER.parent / 'src')!r})\n"
        "from nanocontainer.cmd import main, run, exec, start, ps, containers, logs\n"
        "from nanocontainer.cmd import options, terminal, mountflags, portflags\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {
        "re", "json", "typing", "dataclasses", "enum", "pathlib", "subprocess", "socket", "signal",
        "contextlib", "functools",
        "collections", "shutil", "tempfile", "hashlib", "threading", "datetime", "argparse", "traceback",
        "tty", "struct",
    }  # fmt: skip
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith("nanocontainer.") and ".image" in name}
