"""Random commands on the same few things, from many workers at once; what each answered, and whether it may say that.

A worker draws its commands from random.Random(seed and its number): the same seed gives the same commands, though not
the same interleaving.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.root.nano import Nano, Result

BOUND = 60.0  # seconds in which each command must end, however many others there are
NAMES = ("alpha", "beta", "gamma", "delta")
PORTS = (18101, 18102, 18103)
TAGS = ("mix:a", "mix:b", "mix:c")
VOLUMES = ("mix-one", "mix-two")
KILLED = {137, 143}
NOT_STARTED = 128  # as wait says it, where a port or an address was taken

# What may be said, in the first lines of stderr, and the kind it is counted as. Whatever else is said is a finding.
EXPECTED = {
    "no such container": r"no such (container|object): ",
    "no such image": r"no such image: |cannot be found|not here|manifest unknown",
    "name in use": r"the container name '\w+' is already in use",
    "port in use": r"port \d+/tcp is already in use on the host: container \w+ has published it",
    "address in use": r"address [\d.]+ is in use",
    "running": r"cannot remove container \w+: it is running",
    "not running": r"is not running|it has just ended|first process is gone|it is (created|exited|running|paused)",
    "paused": r"is paused",
    "image in use": r"containers? [\w, ]+ uses? it",
    "is being started": r"just being started",
}


class Mix:
    """What the workers share: the engine, the images they may use, and what came of it."""

    def __init__(self, nano: Nano, seed: int, images: tuple[str, ...], archive: str, pullable: str) -> None:
        self.nano, self.seed = nano, seed
        self.images, self.archive, self.pullable = images, archive, pullable
        subnet = json.loads(Path(nano.root, "networks/bridge/network.json").read_text())["subnet"]
        self.addresses = [str(ipaddress.ip_network(subnet)[number]) for number in (1001, 1002)]
        self.verbs: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()  # type: ignore[type-arg]
        self.slowest: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.findings: list[str] = []
        self.stop = threading.Event()

    def work(self, number: int, many: int) -> None:
        """The life of a worker: so many commands."""
        draw = random.Random(f"{self.seed}-{number}")
        for _ in range(many):
            if self.stop.is_set():
                return
            args, code = command(draw, self)
            try:
                self.judge(self.nano(*args, check=False, timeout=BOUND), code)
            except AssertionError as error:
                self.findings.append(f"{error}")
                self.stop.set()

    def judge(self, done: Result, code: int) -> None:
        """code: the exit code of the container, where the command answers with that."""
        verb = done.args[0]
        self.verbs[verb] += 1
        self.seconds[verb] += done.seconds  # type: ignore[assignment]
        self.slowest[verb] = max(self.slowest.get(verb, 0), done.seconds)
        if "Traceback" in done.err or "this is a bug" in done.err:
            self.findings.append(f"a traceback\n{done!r}")
            return
        if "Error: " in done.err:
            kind = next((kind for kind, words in EXPECTED.items() if re.search(words, done.err)), "")
            self.errors[f"{verb}: {kind or '?'}"] += 1
            if not kind:
                self.findings.append(f"unexpected words\n{done!r}")
            elif done.code not in (1, 125) and verb not in ("rm", "rmi"):
                self.findings.append(f"an exit code that does not go with an error\n{done!r}")
        elif verb in ("run", "attach") or (verb == "start" and "-a" in done.args):
            if verb == "run" and "-d" in done.args:
                return
            if done.code not in ({code} if verb == "run" else CODES) | KILLED:
                self.findings.append(f"another exit code than {code}\n{done!r}")
        elif verb == "exec":
            if done.code not in {0} | KILLED:
                self.findings.append(f"exec\n{done!r}")
        elif verb == "wait":
            if int(done.out or -1) not in CODES | KILLED | {NOT_STARTED, 0}:
                self.findings.append(f"a code that no container has\n{done!r}")
        elif done.code:
            self.findings.append(f"failed without a word\n{done!r}")

    def table(self) -> list[str]:
        lines = [f"{'command':12}{'times':>8}{'mean s':>10}{'slowest s':>12}"]
        for verb, many in self.verbs.most_common():
            lines.append(f"{verb:12}{many:8}{self.seconds[verb] / many:10.2f}{self.slowest[verb]:12.2f}")
        lines.append(f"{'all':12}{sum(self.verbs.values()):8}")
        lines += [f"{kind:44}{many:6}" for kind, many in sorted(self.errors.items())]
        return lines


CODES = frozenset(range(11, 20))  # what the containers' commands exit with


def command(draw: random.Random, mix: Mix) -> tuple[list[str], int]:
    """A command line, and the exit code of the container that it would make."""
    name, code = draw.choice(NAMES), draw.choice(sorted(CODES))
    kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    if kind in ("create", "run", "run -d", "run --rm"):
        options = []
        if draw.random() < 0.5:
            options += ["-p", f"127.0.0.1:{draw.choice(PORTS)}:80"]
        elif draw.random() < 0.3:
            options += ["--network", "none"]
        elif draw.random() < 0.3:
            options += ["--ip", draw.choice(mix.addresses)]
        if draw.random() < 0.4:
            options += ["-v", f"{draw.choice(VOLUMES)}:/data"]
        if draw.random() < 0.2:
            options += ["-v", "/anonymous"]
        if draw.random() < 0.2:
            options += ["--init"]
        if draw.random() < 0.2:
            options += ["-m", "64m"]
        image = draw.choice((*mix.images, *TAGS, mix.pullable))
        options += ["--pull", "missing" if image == mix.pullable else "never"]
        if draw.random() < 0.9:
            options += ["--name", name]
        script = f"echo begin; sleep {draw.random():.2f}; echo end; exit {code}"
        return [*kind.split(), *options, image, "sh", "-c", script], code
    image = {
        "tag": lambda: ["tag", draw.choice((*mix.images, *TAGS)), draw.choice(TAGS)],
        "rmi": lambda: ["rmi", draw.choice((*TAGS, mix.images[1], mix.pullable))],
        "rmi -f": lambda: ["rmi", "-f", draw.choice((*TAGS, mix.images[1], mix.pullable))],
        "load": lambda: ["load", "-i", mix.archive],
        "pull": lambda: ["pull", "-q", mix.pullable],
    }
    if kind in image:
        return image[kind](), 0
    if kind in ("ps -a", "images"):
        return kind.split(), 0
    return [*kind.split(), name, *(["sh", "-c", "exit 0"] if kind == "exec" else [])], 0


WEIGHTS = {
    "create": 6, "run": 8, "run -d": 8, "run --rm": 6, "start": 14, "start -a": 3, "stop -t 0": 6, "restart -t 0": 8,
    "kill": 5, "rm -v": 4, "rm -f -v": 4, "exec": 8, "logs": 4, "logs -f": 3, "inspect": 5, "wait": 8,
    "attach --no-stdin": 3,
    "pause": 2, "unpause": 4, "ps -a": 5, "images": 2, "tag": 4, "rmi": 3, "rmi -f": 2, "load": 2, "pull": 3,
}  # fmt: skip


class Claims(threading.Thread):
    """Looks at the running containers again and again: an address, a port or a name that two have at once is a finding.

    Two containers are read one after the other. So what looks like a double claim counts only where both still run, in
    the same lives, when they are read again.
    """

    def __init__(self, nano: Nano) -> None:
        super().__init__(name="claims", daemon=True)
        self.place = Path(nano.root, "containers")
        self.looks = 0
        self.findings: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.01):
            self.looks += 1
            first = self._claims()
            double = {claim: lives for claim, lives in first.items() if len(lives) > 1}
            if double:
                again = self._claims()
                for claim, lives in double.items():
                    if len(lives & again.get(claim, set())) > 1:
                        self.findings.append(f"{claim} belongs to {sorted(lives)}")

    def _claims(self) -> dict[str, set[tuple[str, str]]]:
        """Claim → the lives that have it: (id, start)."""
        found: dict[str, set[tuple[str, str]]] = {}
        for place in self.place.iterdir() if self.place.exists() else ():
            if place.name.startswith("."):
                continue
            try:
                state = json.loads((place / "state.json").read_text())
                spec = json.loads((place / "spec.json").read_text())
            except (OSError, ValueError):
                continue
            life = (place.name[:12], state.get("started", ""))
            found.setdefault(f"name {spec['name']}", set()).add((place.name[:12], ""))
            if state.get("status") == "running" and state.get("pid") and os.path.exists(f"/proc/{state['pid']}"):
                for claim in (state.get("ip"), *(f"port {port['host_port']}" for port in state.get("ports", ()))):
                    if claim:
                        found.setdefault(claim, set()).add(life)
        return found


def all_at_once(jobs: list[Callable[[], object]]) -> list[object]:
    """Run them in threads that begin at the same moment; what they returned or raised."""
    answers: list[object] = [None] * len(jobs)
    barrier = threading.Barrier(len(jobs))

    def one(index: int) -> None:
        barrier.wait()
        try:
            answers[index] = jobs[index]()
        except BaseException as error:
            answers[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def small_image(place: Path) -> tuple[Path, Path]:
    """(an OCI layout, a docker-archive named app:1) of busybox-static with a shell."""
    from tests.root.images import write_layout

    tree = place / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    for applet in ("sh", "sleep", "echo", "true"):
        (tree / "bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(place / "tree.tar"), "."], check=True)
    write_layout(place / "layout", [place / "tree.tar"], {"Cmd": ["sh"], "Env": ["PATH=/bin"]})
    copy = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{place}/layout", f"docker-archive:{place}/app.tar:app:1"]
    subprocess.run(copy, check=True)
    return place / "layout", place / "app.tar"


def until(what: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
