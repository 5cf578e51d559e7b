"""The engines and runtimes that are measured: how each is asked for the same piece of work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.root import isolation

HERE = Path(__file__).resolve().parents[1]

NOFILE = 4096  # podman asks for more than a root without CAP_SYS_RESOURCE may have
SLEEP = ["sleep", "1000000"]

Argv = list[str]


class Peer:
    """One engine or runtime: how it is asked for each piece of work. None: it has no such thing."""

    name = ""
    programs: tuple[str, ...] = ()
    env: dict[str, str] = {}
    mount_namespace = -1  # an open file: commands run in there

    def __init__(self, work: Path, rootfs: Path, tar: Path) -> None:
        self.work, self.rootfs, self.tar = work / self.name.replace("+", "-").replace(" ", "-"), rootfs, tar
        self.work.mkdir()

    def missing(self) -> str:
        """Why it is not measured; empty if it is."""
        lacking = [program for program in self.programs if not shutil.which(program)]
        return f"{', '.join(lacking)} not installed" if lacking else ""

    def version(self) -> str: ...
    def set_up(self) -> None: ...
    def tear_down(self) -> None: ...
    def run(self, network: str, name: str) -> Argv | None: ...
    def detached(self, name: str) -> Argv | None: ...
    def exec(self, name: str) -> Argv | None: ...
    def stop(self, name: str) -> Argv | None: ...
    def rm(self, name: str) -> Argv | None: ...

    def daemon(self) -> int:
        """The pid of a daemon that serves all containers, or 0."""
        return 0

    def must(self, argv: Argv) -> str:
        """Run a command of the set-up; its output."""
        env = {**os.environ, **self.env}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, preexec_fn=self.enter)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def enter(self) -> None:
        if self.mount_namespace >= 0:
            isolation._call("setns", self.mount_namespace, isolation.CLONE_NEWNS)


class NanoContainer(Peer):
    name = "nanocontainer"
    command = str(HERE / "nanocontainer")

    def set_up(self) -> None:
        self.env = {"NANOCONTAINER_ROOT": f"{self.work}/state", "NANOCONTAINER_RUNROOT": f"{self.work}/run"}
        self.must([self.command, "run", "--rm", "tiny", "true"])

    def missing(self) -> str:
        return "" if os.access(self.command, os.X_OK) else "no ./nanocontainer"

    def version(self) -> str:
        return self.must([self.command, "--version"]).strip()

    def run(self, network: str, name: str) -> Argv:
        return [self.command, "run", "--rm", "--network", network, "tiny", "true"]

    def detached(self, name: str) -> Argv:
        return [self.command, "run", "-d", "--network", "none", "--name", name, "tiny", *SLEEP]

    def exec(self, name: str) -> Argv:
        return [self.command, "exec", name, "true"]

    def stop(self, name: str) -> Argv:
        return [self.command, "stop", "-t", "0", name]

    def rm(self, name: str) -> Argv:
        return [self.command, "rm", name]

    def steps(self, network: str, runs: int) -> str:
        """Where the time of a start goes, step by step: the command's own `trace`."""
        return self.must([self.command, "trace", "-n", str(runs), "--network", network, "tiny", "true"])

    def tear_down(self) -> None:
        if ids := self.must([self.command, "ps", "-aq"]).split():
            self.must([self.command, "rm", "-f", *ids])


class Docker(Peer):
    name = "docker"
    programs = ("docker", "dockerd", "containerd", "runc", "iptables")

    def set_up(self) -> None:
        socket = f"{self.work}/docker.sock"
        self.env = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(self.work)}
        with open(self.work / "log", "wb") as log:
            self.server = subprocess.Popen(
                ["dockerd", "-H", f"unix://{socket}", "--data-root", f"{self.work}/data", "-p", f"{self.work}/pid",
                 "--exec-root", f"{self.work}/exec", "--bip", "10.213.77.1/24",
                 "--cgroup-parent", "/nanocontainer-bench/docker"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(600):
            if os.path.exists(socket):
                break
            if self.server.poll() is not None:
                raise RuntimeError(f"dockerd ended: {(self.work / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        self.must(["docker", "import", str(self.tar), "bench"])

    def version(self) -> str:
        versions = "{{.Server.Version}}, client {{.Client.Version}}"
        return "dockerd " + self.must(["docker", "version", "-f", versions]).strip()

    def run(self, network: str, name: str) -> Argv:
        return ["docker", "run", "--rm", "--network", network, "bench", "true"]

    def detached(self, name: str) -> Argv:
        return ["docker", "run", "-d", "--network", "none", "--name", name, "bench", *SLEEP]

    def exec(self, name: str) -> Argv:
        return ["docker", "exec", name, "true"]

    def stop(self, name: str) -> Argv:
        return ["docker", "stop", "-t", "0", name]

    def rm(self, name: str) -> Argv:
        return ["docker", "rm", name]

    def daemon(self) -> int:
        return self.server.pid

    def tear_down(self) -> None:
        if hasattr(self, "server"):
            if ids := self.must(["docker", "ps", "-aq"]).split():
                self.must(["docker", "rm", "-f", *ids])
            self.server.terminate()
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait()


class Podman(Peer):
    runtime = ""

    @property
    def base(self) -> Argv:
        return ["podman", "--root", f"{self.work}/root", "--runroot", f"{self.work}/run", "--runtime", self.runtime,
                "--cgroup-manager", "cgroupfs", "--network-config-dir", f"{self.work}/networks"]  # fmt: skip

    def set_up(self) -> None:
        config = self.work / "containers.conf"
        config.write_text(f'[containers]\ndefault_ulimits = ["nofile={NOFILE}:{NOFILE}", "nproc={NOFILE}:{NOFILE}"]\n')
        self.env = {"CONTAINERS_CONF": str(config)}
        self.must([*self.base, "import", str(self.tar), "bench"])

    def version(self) -> str:
        return self.must(["podman", "--version"]).strip()

    def run(self, network: str, name: str) -> Argv:
        return [*self.base, "run", "--rm", "--cgroup-parent", "/nanocontainer-bench/podman", "--network",
                "podman" if network == "bridge" else network, "bench", "true"]  # fmt: skip

    def detached(self, name: str) -> Argv:
        return [*self.base, "run", "-d", "--cgroup-parent", "/nanocontainer-bench/podman", "--network", "none",
                "--name", name, "bench", *SLEEP]  # fmt: skip

    def exec(self, name: str) -> Argv:
        return [*self.base, "exec", name, "true"]

    def stop(self, name: str) -> Argv:
        return [*self.base, "stop", "-t", "0", name]

    def rm(self, name: str) -> Argv:
        return [*self.base, "rm", name]

    def tear_down(self) -> None:
        self.must([*self.base, "rm", "-f", "-a", "-t", "0"])
        self.must([*self.base, "rmi", "-f", "-a"])


class PodmanCrun(Podman):
    name, runtime, programs = "podman+crun", "crun", ("podman", "conmon", "crun", "iptables")


class PodmanRunc(Podman):
    name, runtime, programs = "podman+runc", "runc", ("podman", "conmon", "runc", "iptables")


class Runtime(Peer):
    """An OCI runtime on its own: a bundle without overlay, an empty network namespace, no log, no keeper."""

    @property
    def base(self) -> Argv:
        return [self.name.split()[0], "--root", f"{self.work}/state"]

    def set_up(self) -> None:
        for kind, args in (("true", ["true"]), ("sleep", SLEEP)):
            bundle = self.work / kind
            bundle.mkdir()
            self.must([*self.base[:1], "spec", "--bundle", str(bundle)] if "runc" in self.name else
                      ["sh", "-c", f"cd {bundle} && exec crun spec"])  # fmt: skip
            spec = json.loads((bundle / "config.json").read_text())
            spec["process"].update(args=args, terminal=False)
            spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": NOFILE, "soft": NOFILE}]
            spec["root"] = {"path": str(self.rootfs), "readonly": True}
            (bundle / "config.json").write_text(json.dumps(spec))

    def _bundle(self, kind: str, name: str) -> Argv:
        bundle = self.work / f"{kind}-{name}"
        if not bundle.exists():
            bundle.mkdir()
            spec = json.loads((self.work / kind / "config.json").read_text())
            spec["linux"]["cgroupsPath"] = f"/nanocontainer-bench/{self.work.name}/{name}"
            (bundle / "config.json").write_text(json.dumps(spec))
        return ["--bundle", str(bundle), name]

    def version(self) -> str:
        return self.must([self.base[0], "--version"]).splitlines()[0]

    def run(self, network: str, name: str) -> Argv | None:
        return [*self.base, "run", *self._bundle("true", name)] if network == "none" else None

    def detached(self, name: str) -> Argv:
        return [*self.base, "run", "-d", *self._bundle("sleep", name)]

    def exec(self, name: str) -> Argv:
        return [*self.base, "exec", name, "true"]

    def tear_down(self) -> None:
        listed = self.must([*self.base, "list", "-q"]).split()
        for name in listed:
            self.must([*self.base, "delete", "-f", name])


class Runc(Runtime):
    name, programs = "runc alone", ("runc",)


class Crun(Runtime):
    name, programs = "crun alone", ("crun",)


PEERS: tuple[type[Peer], ...] = (NanoContainer, Docker, PodmanCrun, PodmanRunc, Runc, Crun)
