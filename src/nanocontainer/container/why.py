"""why: the answer to one question, put together: the end, the limits, and what was refused and recorded."""

from __future__ import annotations

from ..record import Record
from .ending import Ending, ending
from .judgement import judge
from .recorder import Recording, records
from .recording import about, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .denials import Finding
    from .egress import Egress
    from .lifecycle import Lifecycle
    from .spec import Container, Spec


class Source(Record):
    """One recording. way: run, exec or watch; begin, end: nanoseconds since 1970, end 0 where it is under way, or its
    tracer was killed; calls: how many system calls were looked at; more: refusals of kinds beyond what is kept."""

    way: str
    begin: int
    end: int
    calls: int
    more: int = 0


class Why(Record):
    """id, name, image: of the container; ending: why it is as it is, None where only refusals were asked for; sources:
    the recordings; findings: what was refused, the walls first. egress: what it could not reach by its --allow-out;
    None where it has none."""

    id: str
    name: str
    image: str
    ending: Ending | None = None
    sources: tuple[Source, ...] = ()
    findings: tuple[Finding, ...] = ()
    egress: Egress | None = None


def why(life: Lifecycle, container: Container) -> Why:
    """Everything that is known. Errors of ending()."""
    found = ending(life, container)
    known = judged(life, container.spec, records(life.paths.container(container.id))).replace(ending=found)
    if not container.spec.allow_out:
        return known
    from .egress import look

    return known.replace(egress=look(life, container))


def watched(life: Lifecycle, container: Container, seconds: float) -> Why:
    """Watch a running container for a while, and judge what was seen. Errors of recording.watch()."""
    return judged(life, container.spec, (watch(life, container, seconds),))


def judged(life: Lifecycle, spec: Spec, recordings: Sequence[Recording]) -> Why:
    """The findings of recordings; those that say the same are one."""
    known = about(life, spec)
    merged: dict[tuple[str, ...], Finding] = {}
    for recording in recordings:
        for seen in recording.seen:
            one = judge(seen, known)
            key = (one.what, one.error, one.cause, one.why)
            if key in merged:
                old = merged[key]
                one = old.replace(
                    count=old.count + one.count, first=min(old.first, one.first), last=max(old.last, one.last)
                )
            merged[key] = one
    findings = sorted(merged.values(), key=lambda one: (one.cause == "kernel", one.harmless, one.first))
    sources = tuple(Source(one.way, one.begin, one.end, one.calls, one.more) for one in recordings)
    return Why(spec.id, spec.name, spec.image, None, sources, tuple(findings))
