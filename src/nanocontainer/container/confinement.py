"""What a container and every command in it are confined by: the part that the plans of a start and of an exec share."""

from __future__ import annotations

from ..errors import CommandNotFound, InvalidInput, Unsupported
from ..kernel import abi
from ..runtime.confine import BoundCapabilities, LoadSeccomp, NoNewPrivs, SetCapabilities
from ..runtime.identity import SetIds, SetLimits, SetOomScore
from ..runtime.launcher import MakeLauncher
from ..runtime.namespaces import JoinSessionKeyring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.facts import Facts
    from ..plan.step import Step
    from ..runtime.process import Exec
    from .spec import Spec

_ONLY = {"apparmor": "unconfined", "label": "disable", "systempaths": "unconfined"}  # the one value that we have


def security_words(spec: Spec) -> dict[str, str]:
    """--security-opt as a table: "no-new-privileges" → "true" or "false", "seccomp" → "unconfined", "builtin" or a
    path; InvalidInput, Unsupported as security_word."""
    return dict(security_word(item) for item in spec.security)


def security_word(item: str) -> tuple[str, str]:
    """One --security-opt: its name and its value, behind = or (as docker had it) a colon.

    What would protect the container and we cannot do is Unsupported, and never left out in silence.
    """
    key, separator, value = item.partition("=" if "=" in item else ":")
    what = f"invalid --security-opt {item!r}"
    if key == "no-new-privileges":
        value = value if separator else "true"
        if value not in ("true", "1", "false", "0"):
            raise InvalidInput(what, "its value is true or false")
        return key, "true" if value in ("true", "1") else "false"
    if key not in _ONLY and key != "seccomp":
        raise InvalidInput(what, f"known are no-new-privileges, seccomp, {', '.join(_ONLY)}")
    if not value:
        raise InvalidInput(what, f"it has no value: {key}=...")
    if key == "seccomp" or value == _ONLY[key]:
        return key, value
    if key == "systempaths":
        raise InvalidInput(what, "its value is unconfined")
    system = {"apparmor": "AppArmor profiles", "label": "SELinux labels"}[key]
    raise Unsupported(f"{system} are not supported yet", f"--security-opt {item}", f"{key}={_ONLY[key]} is taken")


def process_limits(spec: Spec) -> list[Step]:
    steps: list[Step] = []
    if spec.ulimits:
        steps.append(SetLimits(tuple((limit.name, limit.soft, limit.hard) for limit in spec.ulimits)))
    if spec.oom_score_adj:
        steps.append(SetOomScore(spec.oom_score_adj))
    return steps


def security(keep: int, last: int, confined: bool, words: dict[str, str], name: str) -> list[Step]:
    """Keyring, capabilities, ids, filter, in the order that plan.py demands: without no_new_privs the filter is
    first."""
    ids: list[Step] = [BoundCapabilities(keep, last), SetIds(), SetCapabilities(keep)]
    filter: list[Step] = [LoadSeccomp()] if confined else []
    ring: list[Step] = [JoinSessionKeyring(name)]
    if words.get("no-new-privileges") == "true":
        return [*ring, *ids, NoNewPrivs(), *filter]
    return [*ring, *filter, *ids]


def make_launcher(command: Exec, facts: Facts) -> Step:
    """The step that makes the program which becomes the command. CommandNotFound where there is no command."""
    if not command.args or not command.args[0]:
        raise CommandNotFound("cannot run the command", "it is empty", "name a command after the image")
    return MakeLauncher(command.places(), facts.machine, abi.MFD_EXEC if facts.since(6, 3) else 0)
