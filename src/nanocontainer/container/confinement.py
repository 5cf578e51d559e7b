"""What a container and every command in it are confined by: the part that the plans of a start and of an exec share."""

from __future__ import annotations

from ..runtime.confine import BoundCapabilities, LoadSeccomp, NoNewPrivs, SetCapabilities
from ..runtime.identity import SetIds, SetLimits, SetOomScore
from ..runtime.namespaces import JoinSessionKeyring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from .spec import Spec


def security_words(spec: Spec) -> dict[str, str]:
    """--security-opt as a table: "no-new-privileges" → "true", "seccomp" → "unconfined" or a path."""
    words = {}
    for item in spec.security:
        for separator in ("=", ":"):
            if separator in item:
                key, _, value = item.partition(separator)
                break
        else:
            key, value = item, "true"
        words[key] = value
    return words


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
    if words.get("no-new-privileges") in ("true", "1"):
        return [*ring, *ids, NoNewPrivs(), *filter]
    return [*ring, *filter, *ids]
