"""Which host a name is fetched from: registries.conf, as podman and skopeo read it (containers-registries.conf(5)).

    unqualified-search-registries = ["docker.io", "quay.io"]     where a name without a host is looked for, in order
    [aliases]  "app" = "example.com/team/app"                    what a short name stands for
    [[registry]]  prefix, location, insecure, blocked            for names that begin so; the longest prefix wins
    [[registry.mirror]]  location, insecure, pull-from-mirror    asked before the registry itself, in order

The user's file (~/.config/containers/registries.conf) takes the place of the system's; the files of registries.conf.d
add to it. Without any of them a short name means Docker Hub, as docker has it.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput, NotFound, NotPermitted, reason
from ..record import Record
from .reference import DOCKER, Reference, is_short, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .model import Image
    from .store import ImageStore

SYSTEM = "/etc/containers"
USER = "~/.config/containers"
_PULLS = {"all": (True, True), "digest-only": (True, False), "tag-only": (False, True)}  # for digests, for tags


class Source(Record):
    """Where a repository is asked for. insecure: plain http and unknown certificates are allowed; None as usual."""

    host: str
    path: str
    insecure: bool | None = None
    mirror: bool = False

    def __str__(self) -> str:
        return f"{'the mirror ' if self.mirror else ''}{self.host}/{self.path}"


class Mirror(Record):
    """One [[registry.mirror]]. digests, tags: for which kind of reference it is asked."""

    location: str
    insecure: bool = False
    digests: bool = True
    tags: bool = True


class Rule(Record):
    """One [[registry]]. file: where it stands."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    file: str = ""


class Registries(Record):
    """All files together. search: None where no file says it."""

    rules: tuple[Rule, ...] = ()
    aliases: dict[str, str] = {}
    search: tuple[str, ...] | None = None


def read_registries() -> Registries:
    """The files of this user. InvalidInput names the file, and what is wrong with it."""
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    search: tuple[str, ...] | None = None
    for file in _files():
        data = _load(file)
        if data is None:
            continue
        if "registries" in data:
            raise _bad(file, "it is of the old format, version 1", "see containers-registries.conf(5) for version 2")
        if "unqualified-search-registries" in data:
            search = tuple(_texts(data["unqualified-search-registries"], "unqualified-search-registries", file))
        for name, target in _table(data.get("aliases", {}), "aliases", file).items():
            if not isinstance(target, str):
                raise _bad(file, f"the alias of {name} is no text")
            aliases[name] = target
        for entry in _tables(data.get("registry", []), "registry", file):
            rule = _rule(entry, file)
            rules[rule.prefix] = rule
    return Registries(tuple(rules.values()), aliases, search)


def candidates(name: str, registries: Registries | None = None) -> list[Reference]:
    """What a name may stand for, the first choice first: itself in full, its alias, or one for each search registry."""
    full = parse_reference(name)
    if not is_short(name):
        return [full]
    registries = registries or read_registries()
    short = full.path.removeprefix("library/") if "/" not in name.partition("@")[0] else full.path
    if short in registries.aliases:
        return [_at(registries.aliases[short], full, short)]
    if registries.search is None:
        return [full]
    if not registries.search:
        hint = "say it in full, as docker.io/library/alpine; or set unqualified-search-registries in registries.conf"
        raise InvalidInput(f"{name} is a short name", "registries.conf has no registry to look for such in", hint)
    return [full if host == DOCKER else _at(f"{host}/{short}", full, short) for host in registries.search]


def find_short(store: ImageStore, name: str) -> Image | None:
    """The image in the store that a short name means by registries.conf, or None."""
    try:
        references = candidates(name) if is_short(name) else []
    except InvalidInput:
        return None  # it is an id, or whoever pulls it is told what is wrong
    for reference in references:
        try:
            return store.find(str(reference))
        except NotFound:
            continue
    return None


def sources(reference: Reference, registries: Registries | None = None) -> list[Source]:
    """Where to ask for a reference: its mirrors in order, then the registry itself. NotPermitted if it is blocked."""
    registries = read_registries() if registries is None else registries
    rule = _longest(registries.rules, reference)
    if rule is None:
        return [Source(reference.host, reference.path)]
    if rule.blocked:
        hint = f"see the registry {rule.prefix} in {rule.file}"
        raise NotPermitted(f"cannot use {reference.familiar}", "its registry is blocked", hint)
    asked = [mirror for mirror in rule.mirrors if (mirror.digests if reference.digest else mirror.tags)]
    found = [_source(mirror.location, rule, reference, mirror.insecure, mirror=True) for mirror in asked]
    found.append(_source(rule.location, rule, reference, rule.insecure, mirror=False))
    return list(dict.fromkeys(found))


def origin(reference: Reference) -> Source:
    """Where a push goes, and a login: the registry itself, without its mirrors."""
    return sources(reference)[-1]


def _source(location: str, rule: Rule, reference: Reference, insecure: bool, *, mirror: bool) -> Source:
    name = reference.name
    if location and not rule.prefix.startswith("*."):
        name = location + name[len(rule.prefix) :]
    try:
        at = parse_reference(name)
    except InvalidInput as error:
        raise _bad(rule.file, f"the location {location!r} makes {name!r} of {reference.name}: {error.why}") from None
    return Source(at.host, at.path, True if insecure else None, mirror)


def _longest(rules: tuple[Rule, ...], reference: Reference) -> Rule | None:
    fitting = [rule for rule in rules if _fits(rule.prefix, reference)]
    return max(fitting, key=lambda rule: (not rule.prefix.startswith("*."), len(rule.prefix)), default=None)


def _fits(prefix: str, reference: Reference) -> bool:
    if prefix.startswith("*."):
        return reference.host.endswith(prefix[1:])
    text = str(reference)
    return text.startswith(prefix) and text[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@")


def _at(place: str, full: Reference, short: str) -> Reference:
    suffix = f":{full.tag}" if full.tag else ""
    try:
        return parse_reference(f"{place}{suffix}{f'@{full.digest}' if full.digest else ''}")
    except InvalidInput as error:
        raise InvalidInput(f"cannot use the short name {short}", error.why, "see registries.conf") from None


# --- reading


def _files() -> list[str]:
    user = os.path.expanduser(USER)
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF") or os.environ.get("REGISTRIES_CONFIG_PATH")
    own = f"{user}/registries.conf"
    first = named or (own if os.path.exists(own) else f"{SYSTEM}/registries.conf")
    directories = [os.environ.get("CONTAINERS_REGISTRIES_CONF_DIR") or f"{SYSTEM}/registries.conf.d"]
    directories += [f"{user}/registries.conf.d"]
    files = [first]
    for directory in directories:
        try:
            files += [f"{directory}/{name}" for name in sorted(os.listdir(directory)) if name.endswith(".conf")]
        except (FileNotFoundError, NotADirectoryError):
            pass
    return files


def _load(file: str) -> dict[str, Any] | None:
    import tomllib

    try:
        with open(file, "rb") as opened:
            return tomllib.load(opened)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInput(f"cannot read {file}", *reason(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(file, str(error) or "it is nested too deep") from None


def _rule(entry: dict[str, Any], file: str) -> Rule:
    location = _location(entry.get("location", ""), file)
    prefix = _location(entry.get("prefix", "") or location, file)
    if not prefix:
        raise _bad(file, "a registry has neither prefix nor location")
    if not location and not prefix.startswith("*."):
        location = prefix
    only = _flag(entry, "mirror-by-digest-only", file)
    mirrors = []
    for given in _tables(entry.get("mirror", []), "registry.mirror", file):
        target = _location(given.get("location", ""), file)
        if not target:
            raise _bad(file, f"a mirror of {prefix} has no location")
        kind = given.get("pull-from-mirror", "") or "all"
        if kind not in _PULLS:
            raise _bad(file, f"pull-from-mirror of {target} is {kind!r:.60}", f"one of {', '.join(_PULLS)}")
        if only and "pull-from-mirror" in given:
            raise _bad(file, f"{prefix} has mirror-by-digest-only, and {target} pull-from-mirror", "one of them")
        digests, tags = (True, False) if only else _PULLS[kind]
        mirrors.append(Mirror(target, _flag(given, "insecure", file), digests, tags))
    return Rule(prefix, location, _flag(entry, "insecure", file), _flag(entry, "blocked", file), tuple(mirrors), file)


def _location(value: Any, file: str) -> str:
    if not isinstance(value, str) or "://" in value:
        raise _bad(file, f"{value!r:.100} is no place", "it is a host and perhaps a path, without https://")
    return value.rstrip("/")


def _flag(entry: dict[str, Any], name: str, file: str) -> bool:
    value = entry.get(name, False)
    if not isinstance(value, bool):
        raise _bad(file, f"{name} is {value!r:.60}", "true or false")
    return value


def _table(value: Any, name: str, file: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(file, f"{name} is no table")
    return value


def _tables(value: Any, name: str, file: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _bad(file, f"{name} is no list of tables", f"write [[{name}]]")
    return value


def _texts(value: Any, name: str, file: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _bad(file, f"{name} is no list of texts")
    return value


def _bad(file: str, why: str, hint: str = "") -> InvalidInput:
    return InvalidInput(f"cannot use {file}", why, hint or "see containers-registries.conf(5)")
