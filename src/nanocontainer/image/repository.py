"""One repository, wherever it is to be had: at its mirrors, in order, and at its own registry (mirrors.py).

The first that has the manifest is asked for the rest too; where it fails in the middle, the next one goes on. When none
has it, the error says what each of them said. All of them are equally little trusted: digests decide.
"""

from __future__ import annotations

import threading

from ..errors import NanoError, NotFound, NotPermitted, Unreachable
from .mirrors import sources
from .registry import Access, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .mirrors import Registries, Source
    from .reference import Reference

_NEXT = (NotFound, NotPermitted, Unreachable)  # what another source may do better


class Repository:
    """May be used by several threads at once; `close` when done."""

    def __init__(self, reference: Reference, access: Access, registries: Registries | None = None) -> None:
        self.reference = reference
        self._access = access
        self._sources = sources(reference, registries)
        self._open: dict[int, Registry] = {}
        self._first = 0  # the source that is asked first
        self._lock = threading.Lock()

    def close(self) -> None:
        for registry in self._open.values():
            registry.close()

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(registry.transport.requests for registry in self._open.values())

    def manifest(self, tag_or_digest: str, on_other: Callable[[str], None] = lambda text: None) -> tuple[bytes, str]:
        """As Registry.manifest. on_other: told where a source failed and another is tried."""
        failures: list[tuple[Source, NanoError]] = []
        for number in range(self._first, len(self._sources)):
            try:
                found = self._registry(number).manifest(tag_or_digest)
            except _NEXT as error:
                failures.append((self._sources[number], error))
                if number + 1 < len(self._sources):
                    on_other(f"{self._sources[number]} failed ({error}): trying {self._sources[number + 1]}")
                continue
            with self._lock:
                self._first = max(self._first, number)
            return found
        raise self._all_failed(failures)

    def blob(self, digest: str, size: int, start: int, broke: Callable[[], None]) -> Iterator[bytes]:
        """As Registry.blob."""
        failures: list[tuple[Source, NanoError]] = []
        for number in range(self._first, len(self._sources)):
            try:
                for chunk in self._registry(number).blob(digest, size, start, broke):
                    start += len(chunk)
                    yield chunk
                return
            except _NEXT as error:
                failures.append((self._sources[number], error))
                broke()
        raise self._all_failed(failures)

    def tags(self) -> list[str]:
        """All tags, of the registry itself: a mirror may have only some of them."""
        return list(self._registry(len(self._sources) - 1).tags())

    def _registry(self, number: int) -> Registry:
        with self._lock:
            if number not in self._open:
                source = self._sources[number]
                access = self._access
                if source.mirror:  # credentials on the command line are for the registry, not for its mirrors
                    access = access.replace(credentials=None, tries=min(access.tries, 2))
                self._open[number] = Registry(source.host, source.path, access, insecure=source.insecure)
            return self._open[number]

    def _all_failed(self, failures: list[tuple[Source, NanoError]]) -> NanoError:
        last = failures[-1][1]
        if len(failures) == 1:
            return last
        told = "; ".join(f"{place}: {error}" for place, error in failures)
        return type(last)(f"cannot pull {self.reference.familiar}", f"no source has it: {told}", last.hint)
