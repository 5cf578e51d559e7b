"""How a container's limits were met: what the kernel counts when it refuses, kills or holds back (cgroups(7)).

The counters go with the cgroup. So they are read at the end, before it is removed, and only those of limits that were
set: a container without limits pays nothing.
"""

from __future__ import annotations

from .anatomy_cgroup import controller_of, keyed, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import Limits


def pressed_of(path: str, groups: tuple[str, ...], limits: Limits) -> dict[str, int]:
    """What is not 0 of: "memory peak" (bytes), "memory max" (how often the limit was reached), "memory oom_kill"
    (processes killed), "pids max" (processes refused), "cpu throttled" (periods of 0.1 s), "cpu throttled_ms"."""
    one = {controller_of(group): group for group in groups}
    found = {}
    if limits.memory:
        if "memory" in one:
            at = one["memory"]
            found["memory peak"] = max(number(f"{at}/memory.max_usage_in_bytes"), 0)
            found["memory max"] = max(number(f"{at}/memory.failcnt"), 0)
            found["memory oom_kill"] = keyed(f"{at}/memory.oom_control").get("oom_kill", 0)
        else:
            events = keyed(f"{path}/memory.events")
            found["memory peak"] = max(number(f"{path}/memory.peak"), 0)
            found["memory max"], found["memory oom_kill"] = events.get("max", 0), events.get("oom_kill", 0)
    if limits.pids > 0:
        found["pids max"] = keyed(f"{one.get('pids', path)}/pids.events").get("max", 0)
    if limits.cpus or limits.cpu_quota > 0:
        stat = keyed(f"{one.get('cpu', path)}/cpu.stat")
        found["cpu throttled"] = stat.get("nr_throttled", 0)
        microseconds = stat.get("throttled_usec", stat.get("throttled_time", 0) // 1000)
        found["cpu throttled_ms"] = microseconds // 1000
    return {name: count for name, count in found.items() if count}
