"""Image references: docker's short names and what they stand for.

The grammar is that of the distribution project (reference/reference.go), the short forms are docker's:

    alpine                     docker.io/library/alpine:latest
    user/app:1                 docker.io/user/app:1
    localhost:5000/app         localhost:5000/app:latest          (the first part has a "." or ":" or is localhost)
    app@sha256:<64 hex>        docker.io/library/app@sha256:...   (no tag is added beside a digest)

Read on the hot path (`run` names an image), hence plain string work instead of a regular expression.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..record import Record

DOCKER = "docker.io"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG = _ALNUM | frozenset("_.-")
_HEX = frozenset("0123456789abcdef")


class Reference(Record):
    """host: with port. path: the repository in that registry. tag, digest: one or both, never neither."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository's full name: docker.io/library/alpine."""
        return f"{self.host}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The shortest name that means this repository: alpine."""
        if self.host != DOCKER:
            return self.name
        short = self.path.removeprefix("library/")
        # library/a/b is not a/b; and a first part that reads as a host needs its own host before it
        return short if "/" not in short else self.path if not _is_host(self.path.split("/", 1)[0]) else self.name

    @property
    def familiar(self) -> str:
        """As people write it, with its tag: alpine:latest. What docker shows."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def parse_reference(text: str) -> Reference:
    """A reference as a user gives it, in full. InvalidInput where it is none."""
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, "after @ stands a digest, sha256: and 64 hex digits")
    tag = ""
    colon = rest.rfind(":")
    if colon > rest.rfind("/"):  # otherwise it is the port of a host
        rest, tag = rest[:colon], rest[colon + 1 :]
        if not (0 < len(tag) <= 128 and _TAG.issuperset(tag) and tag[0] not in ".-"):
            raise _invalid(text, "a tag has 1 to 128 of [a-zA-Z0-9_.-] and does not begin with . or -")
    first, slash, path = rest.partition("/")
    if not (slash and _is_host(first)):
        if not at and not tag and len(rest) == 64 and _HEX.issuperset(rest):
            raise _invalid(text, "64 hex digits are an image id, not a name")
        first, path = DOCKER, rest if slash else f"library/{rest}"
    elif first == "index.docker.io":
        first = DOCKER
    if first == DOCKER and "/" not in path:
        path = f"library/{path}"
    if not _is_host_name(first):
        raise _invalid(text, f"{first!r} is no host name")
    for part in path.split("/"):
        if not _is_component(part):
            why = (
                "it must be in lower case" if part and _is_component(part.lower()) else f"{part!r} is not allowed in it"
            )
            raise _invalid(text, why)
    reference = Reference(first, path, tag if tag or at else "latest", digest)
    if len(reference.name) + len(reference._suffix) > 255:  # also the longest file name, as the store needs it
        raise _invalid(text, "it is longer than 255 characters")
    return reference


def is_short(text: str) -> bool:
    """Whether a reference names no host: alpine, user/app:1."""
    first, slash, _ = text.partition("@")[0].partition("/")
    return not (slash and _is_host(first))


def is_digest(text: str) -> bool:
    """Whether text is a digest we can check: sha256: and 64 hex digits in lower case."""
    return len(text) == 71 and text.startswith("sha256:") and _HEX.issuperset(text[7:])


def familiar(name: str) -> str:
    """A full reference (Image.names) as people write it: alpine:latest."""
    return parse_reference(name).familiar


def _invalid(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"invalid reference {text[:300]!r}", why, "a reference looks like alpine, user/app:1 or host:5000/app"
    )


def _is_host(first: str) -> bool:
    """docker's rule for the part before the first slash; upper case cannot be a repository, so it is a host too."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _is_host_name(text: str) -> bool:
    if text.startswith("["):  # [::1]:5000
        address, bracket, port = text[1:].partition("]")
        if not (bracket and address and (_HEX | {":"}).issuperset(address.lower())):
            return False
        return not port or _is_port(port)
    host, colon, port = text.partition(":")
    if colon and not _is_port(f":{port}"):
        return False
    return all(
        part and (_ALNUM | {"-"}).issuperset(part) and part[0] != "-" and part[-1] != "-" for part in host.split(".")
    )


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit() and int(text[1:6]) < 65536 and len(text) < 7


def _is_component(text: str) -> bool:
    """[a-z0-9]+ runs, joined by one ".", one or two "_", or any number of "-"."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    run = ""
    for char in text:
        if char in _LOWER:
            run = ""
            continue
        run += char
        if char not in "._-" or (run not in (".", "_", "__") and run.strip("-")):
            return False
    return True
