"""The lessons on what a container sees: chroot, mounts, pivot_root, uts, pid, net."""

from __future__ import annotations

import os

from ...lean import sockets
from .lesson import ROOTS, Lesson, Seen
from .stage import SECRET, SERVICE, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...engine import Result
    from .stage import Stage

HACKED = "hacked"
NOTHING, YES, NO = "nothing", "yes", "no"  # said in the learner's language


def secret_read(stage: Stage, result: Result) -> Seen:
    """Whether the attack has shown the play host's secret."""
    found = stage.secret in result.stdout.decode(errors="replace")
    return Seen(found, (("secret", stage.secret),) if found else (("code", str(result.exit_code)),))


def came_through(stage: Stage, result: Result) -> Seen:
    """Whether the command has succeeded, where that says all."""
    return Seen(result.exit_code == 0, (("code", str(result.exit_code)),))


# --- chroot


def _said_hello(stage: Stage) -> Seen:
    there = os.path.lexists(f"{stage.upper}/hello")
    elsewhere = os.path.lexists("/hello")
    return Seen(there and not elsewhere, (("inside", _file("/hello", there)), ("outside", _file("/hello", elsewhere))))


def _look(stage: Stage, walled: bool) -> tuple[tuple[tuple[str, str], ...], Result]:
    """With the wall in the root that chroot(1) has gone to, as stage.run() does it; said here, as it is the lesson."""
    command = f"cat {SECRET}"
    return (("inside", f"chroot {ROOTS} {command}" if walled else command),), stage.run(command, walled=walled)


CHROOT = Lesson(
    "chroot",
    ("chroot(2)", "path_resolution(7)"),
    (
        ("inside", f"ls {ROOTS}"),
        ("inside", f"chroot {ROOTS} sh -c 'ls /; echo I was here > /hello'"),
    ),
    _said_hello,
    f"cat {SECRET}",
    secret_read,
    duel=_look,
)


# --- mounts


def _mounted(stage: Stage) -> Seen:
    inside, outside = _places(stage.pid, "mine"), _places("self", "mine")
    return Seen(bool(inside) and not outside, (("inside", inside or NOTHING), ("outside", outside or NOTHING)))


def _trapped(stage: Stage, result: Result) -> Seen:
    caught = _places("self", "trap")
    return Seen(bool(caught), (("outside", caught or NOTHING),))


def _places(pid: int | str, source: str) -> str:
    """Where this is mounted, as a process sees it."""
    return next((place for one, place in zip(mounts(pid, -2), mounts(pid, 4), strict=True) if one == source), "")


MOUNTS = Lesson(
    "mounts",
    ("mount_namespaces(7)", "mount(2)", "proc(5)"),
    (
        ("inside", "mount -t tmpfs mine /mnt"),
        ("inside", "grep mine /proc/mounts"),
        ("outside", "grep mine /proc/mounts || echo nothing here"),
    ),
    _mounted,
    "mount -t tmpfs trap /mnt",
    _trapped,
    opens=("PrivatizeMounts",),
)


# --- pivot_root


def _counted(stage: Stage) -> Seen:
    said, real = stage.written("answer").strip(), str(len(mounts(stage.pid, 4)))
    return Seen(said == real, (("/answer", said or NOTHING), ("mountinfo", real)))


PIVOT_ROOT = Lesson(
    "pivot_root",
    ("pivot_root(2)", "chroot(2)"),
    (
        ("inside", "cut -d' ' -f5 /proc/self/mountinfo"),
        ("inside", "wc -l < /proc/self/mountinfo > /answer"),
    ),
    _counted,
    "mkdir /x; nsenter -r/x -w/ bin/busybox sh -c 'cd -P ../../../../../../..; read it < run/secret && echo $it'",
    secret_read,
)


# --- uts


def _renamed(stage: Stage) -> Seen:
    inside = stage.inside("hostname").stdout.decode(errors="replace").strip()
    outside = os.uname().nodename
    return Seen(inside == "lesson" != outside, (("inside", inside), ("outside", outside)))


def _host_renamed(stage: Stage, result: Result) -> Seen:
    name = os.uname().nodename
    if name == HACKED:
        from .playhost import NAME

        stage.kernel.sethostname(NAME)
    return Seen(name == HACKED, (("outside", name),))


UTS = Lesson(
    "uts",
    ("uts_namespaces(7)", "sethostname(2)"),
    (("inside", "hostname lesson"), ("inside", "hostname"), ("outside", "hostname")),
    _renamed,
    f"hostname {HACKED}; hostname",
    _host_renamed,
)


# --- pid


def _two_numbers(stage: Stage) -> Seen:
    """A process whose number in the container is another one than that outside (NSpid of proc_pid_status(5))."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/cmdline") as file:
                words = file.read().split("\0")
            with open(f"/proc/{name}/status") as file:
                numbers = next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])
        except OSError:
            continue  # gone meanwhile
        if words[:2] == ["sleep", "4242"] and len(numbers) == 2:
            return Seen(True, (("outside", f"PID {numbers[0]}"), ("inside", f"PID {numbers[1]}")))
    return Seen(False, (("sleep 4242", NOTHING),))


def _start_database(stage: Stage) -> None:
    """The victim: it calls itself a database, and answers whoever asks it."""
    ours, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)

    def live() -> None:
        ours.close()
        stage.kernel.set_name("database")
        stage.kernel.set_command_line("database")
        while question := theirs.recv(16):
            theirs.send(question)

    stage.victim = stage.fork(live), ours
    theirs.close()


def _database_killed(stage: Stage, result: Result) -> Seen:
    """A signal that was sent is dealt with before a process can answer: so there is nothing to wait for."""
    pid, line = stage.victim
    try:
        line.send(b"?")
        lives = bool(line.recv(16))
    except (BrokenPipeError, ConnectionResetError):
        lives = False
    line.close()
    stage.end(pid)
    _start_database(stage)  # the next attack, or the learner, finds one
    return Seen(not lives, (("database", "alive" if lives else "killed"), ("PID", str(pid))))


PID = Lesson(
    "pid",
    ("pid_namespaces(7)", "proc(5)"),
    (
        ("inside", "sleep 4242 > /dev/null 2>&1 &"),
        ("inside", "ps"),
        ("outside", "ps -e | grep sleep"),
    ),
    _two_numbers,
    "ps; killall database",
    _database_killed,
    _start_database,
)


# --- net


def _serve_secret(stage: Stage) -> None:
    """A service that trusts whoever comes from 127.0.0.1, as many databases and agents do."""
    stage.serve(SERVICE, {"/": (f"{stage.secret}\n".encode(), "text/plain")})


def _answers(stage: Stage) -> Seen:
    """Whether a server in the container answers on its own address, and none on the play host's."""
    address = stage.container.state.ip
    answers = []
    for ip in (address, "127.0.0.1"):
        sock = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
        try:
            sock.settimeout(3)
            answers.append(sock.connect_ex((ip, 80)) == 0)
        finally:
            sock.close()
    return Seen(answers == [True, False], ((f"{address}:80", yes(answers[0])), ("127.0.0.1:80", yes(answers[1]))))


NET = Lesson(
    "net",
    ("network_namespaces(7)", "veth(4)"),
    (
        ("inside", "ip addr"),
        ("inside", "httpd -p 80 -h /etc > /dev/null 2>&1"),
        ("inside", "wget -qO- http://127.0.0.1/hostname"),
    ),
    _answers,
    f"wget -qO- http://127.0.0.1:{SERVICE}/",
    secret_read,
    _serve_secret,
)


def _file(path: str, there: bool) -> str:
    return path if there else NOTHING


def yes(value: bool) -> str:
    return YES if value else NO
