"""The plan of an exec: one more command in a running container."""

from __future__ import annotations

from ..kernel.caps import granted
from ..plan.plan import Plan
from ..runtime.cgroup import OpenCgroup
from ..runtime.cgroup1 import JoinCgroup1, OpenCgroup1
from ..runtime.confine import CompileSeccomp
from ..runtime.identity import LookUpUser
from ..runtime.joining import OpenContainerRoot, OpenContainerTerminal
from ..runtime.namespaces import Clone, EnterNamespaces, OpenProcess
from ..runtime.process import (
    STREAMS,
    CloseFiles,
    ConnectStreams,
    ConnectTerminal,
    EnterWorkDir,
    Exec,
    HideFromContainer,
    NewSession,
    OwnStreams,
)
from .confinement import make_launcher, process_limits, security, security_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.facts import Facts
    from ..paths import Paths
    from ..plan.step import Step
    from .spec import Spec


def plan_exec(
    spec: Spec,
    facts: Facts,
    *,
    pid: int,
    cgroup: str,
    groups1: tuple[str, ...],
    args: tuple[str, ...],
    env: tuple[str, ...],
    cwd: str,
    user: str,
    tty: bool,
    privileged: bool,
    paths: Paths,
    null: tuple[str, ...] = (),
    size: tuple[int, int] = (0, 0),
) -> Plan:
    """The steps that run one more command in a running container: join its namespaces, be confined as it is.

    null: the standard streams that are connected to nothing.
    """
    words = security_words(spec)
    privileged = privileged or spec.privileged
    keep = granted(spec.cap_add, spec.cap_drop, privileged, facts.last_cap, facts.capabilities)
    confined = words.get("seccomp") != "unconfined" and not privileged
    host: list[Step] = [OpenProcess(pid), OpenContainerRoot(pid), OpenCgroup(cgroup)]
    host += [OpenCgroup1(group) for group in groups1]
    host.append(LookUpUser(user or spec.user, spec.groups))
    command = Exec(args, env)
    host.append(make_launcher(command, facts))
    if tty:
        host.append(OpenContainerTerminal(*size))
    if confined:
        profile = words.get("seccomp") or "default"
        host.append(CompileSeccomp(profile, facts.machine, keep, facts.release, f"{paths.run}/cache/seccomp"))
    host.append(Clone((), join_pid=spec.pid_mode != "host"))
    namespaces = ["mnt", "net", "cgroup"]
    if spec.uts_mode != "host":
        namespaces.append("uts")
    if spec.ipc_mode != "host":
        namespaces.append("ipc")
    inside: list[Step] = [HideFromContainer(), NewSession()]
    if groups1:
        inside.append(JoinCgroup1(groups1))
    inside += [EnterNamespaces(tuple(namespaces)), EnterWorkDir(cwd or spec.cwd)]
    inside += process_limits(spec)
    inside.append(ConnectTerminal() if tty else ConnectStreams(null))
    inside.append(OwnStreams())
    inside += security(keep, facts.last_cap, confined, words, spec.id)
    inside += [CloseFiles(), command]
    given = ("wire",) if tty else ("wire", *(name for name in STREAMS if name not in null))
    return Plan((*host, *inside), given).validate()
