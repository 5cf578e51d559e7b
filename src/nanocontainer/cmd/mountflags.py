"""Readers of the flags that put files into a container: -v, --mount, --tmpfs, --device. Each reads one value.

What docker's two forms have in common is decided here: a relative host path is taken from where the user stands, a
target is absolute and never "/", and -v makes a missing source where --mount complains.
"""

from __future__ import annotations

import os

from ..container.spec import Device, Mount
from ..errors import InvalidInput, Unsupported
from ..paths import check_name
from . import flags

PROPAGATIONS = frozenset(("rprivate", "private", "rslave", "slave", "rshared", "shared"))
# Asked for by SELinux hosts and Docker Desktop; without them they mean nothing, and docker says nothing either.
MEANINGLESS = frozenset(("z", "Z", "cached", "delegated", "consistent", "default"))
_FORM = "is not of the form [SOURCE:]TARGET[:OPTIONS]"
_MOUNT_FORMS = "write HOST:CONTAINER[:ro], or type=bind|volume|tmpfs,src=SOURCE,dst=TARGET[,readonly]"
_KEYS = frozenset(
    (
        "type", "source", "src", "target", "dst", "destination", "readonly", "ro", "bind-propagation",
        "bind-create-src", "bind-recursive", "bind-nonrecursive", "consistency", "volume-nocopy", "volume-subpath",
        "volume-driver", "volume-opt", "volume-label", "tmpfs-size", "tmpfs-mode", "image-subpath",
    )
)  # fmt: skip


def volume(text: str) -> Mount:
    """-v [SOURCE:]TARGET[:OPTIONS]. A source with a slash is a host path, made where it is missing; else a volume."""
    return _colon_form("volume", text, create=True)


def mount(text: str) -> Mount:
    """--mount type=...,src=...,dst=..., or HOST:CONTAINER[:OPTIONS] whose source must be there."""
    first = text.partition(",")[0]
    if first.partition("=")[0] not in _KEYS and ":" in text:
        return _colon_form("mount", text, create=False)
    fields: dict[str, str] = {}
    for part in _fields(text):
        key, equals, value = part.partition("=")
        key = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(key, key)
        if key not in _KEYS:
            why = f"there is no key {key!r}" if equals else f"{part!r} is not of the form KEY=VALUE"
            raise _bad("mount", text, why)
        if not equals and key not in ("readonly", "volume-nocopy", "bind-create-src"):
            raise _bad("mount", text, f"{key!r} needs a value: {key}=...")
        fields[key] = value if equals else "true"
    kind = fields.pop("type", "volume")
    if kind not in ("bind", "volume", "tmpfs", "image"):
        raise _bad("mount", text, f"type {kind!r} is not bind, volume, tmpfs or image")
    target = _target("mount", fields.pop("target", ""), text)
    source = fields.pop("source", "")
    read_only = _bool("mount", text, fields.pop("readonly", "false"))
    if fields.pop("consistency", "default") not in MEANINGLESS:
        raise _bad("mount", text, "consistency is cached, delegated or consistent")
    for key in fields:
        if key.partition("-")[0] != kind:
            raise _bad("mount", text, f"{key} does not go with type={kind}")
    propagation = fields.pop("bind-propagation", "rprivate")
    if propagation not in PROPAGATIONS:
        raise _bad("mount", text, f"bind-propagation is one of {', '.join(sorted(PROPAGATIONS))}")
    create = _bool("mount", text, fields.pop("bind-create-src", "false"))
    if kind in ("bind", "image") and not source:
        raise _bad("mount", text, "a source is missing: source=...")
    if kind == "bind":
        source = _host_path(source)
    elif kind == "volume" and source:
        check_name(source, "volume name")
    elif kind == "tmpfs" and source:
        raise _bad("mount", text, "a tmpfs has no source")
    return Mount(kind, target, source, read_only, propagation, create, _options(text, fields))


def tmpfs(text: str) -> Mount:
    """--tmpfs TARGET[:OPTIONS], options as in tmpfs(5): size=64m, mode=1777, ro, noexec."""
    target, _, rest = text.partition(":")
    options: dict[str, str] = {}
    read_only = False
    for word in rest.split(",") if rest else ():
        key, _, value = word.partition("=")
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif key in ("size", "mode"):
            options[key] = _size("tmpfs", text, value) if key == "size" else _mode("tmpfs", text, value)
        elif word in ("exec", "noexec", "suid", "nosuid", "dev", "nodev"):
            options[word] = ""
        elif key in ("uid", "gid", "nr_inodes", "nr_blocks", "huge", "noatime", "relatime"):
            raise Unsupported(f"option {key!r} of --tmpfs is not supported yet")
        else:
            raise _bad("tmpfs", text, f"there is no option {word!r}")
    return Mount("tmpfs", _target("tmpfs", target, text), read_only=read_only, options=options)


def device(text: str) -> Device:
    """--device SOURCE[:TARGET][:ACCESS], access of the letters r, w and m."""
    parts = text.split(":")
    access = parts.pop() if len(parts) > 1 and parts[-1] and set(parts[-1]) <= set("rwm") else "rwm"
    if len(parts) > 2 or any(part[:1] != "/" for part in parts):
        raise InvalidInput("invalid --device", f"{text!r} is not of the form SOURCE[:TARGET][:rwm]")
    return Device(parts[0], parts[-1], access)


def _colon_form(flag: str, text: str, create: bool) -> Mount:
    parts = text.split(":")
    if flag == "mount" and (not 2 <= len(parts) <= 3 or "" in parts):
        raise _bad(flag, text, "it has neither of the two forms")
    if not 1 <= len(parts) <= 3 or "" in parts:
        raise InvalidInput(f"invalid --{flag}", f"{text!r} {_FORM}")
    if len(parts) == 1:
        return Mount("volume", _target(flag, parts[0], text))
    source, target = parts[0], _target(flag, parts[1], text)
    read_only, propagation, options = False, "rprivate", {}
    for word in parts[2].split(",") if len(parts) == 3 else ():
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif word in PROPAGATIONS:
            propagation = word
        elif word == "nocopy":
            options["nocopy"] = "true"
        elif word in ("U", "O", "idmap") or word.startswith("idmap="):
            raise Unsupported(f"option {word!r} of --{flag} is not supported yet")
        elif word not in MEANINGLESS:
            raise InvalidInput(f"invalid --{flag}", f"{text!r} has the unknown option {word!r}")
    if "/" in source or source in (".", "..", "~") or flag == "mount":
        if flag == "volume" and source[0] not in "/.~":
            hint = f"a host path starts with / or ./, so write ./{source}"
            raise InvalidInput(f"invalid --{flag}", f"{source!r} is neither a path nor a volume's name", hint)
        return Mount("bind", target, _host_path(source), read_only, propagation, create, options)
    return Mount("volume", target, check_name(source, "volume name"), read_only, propagation, options=options)


def _host_path(path: str) -> str:
    """An absolute path, from where the user stands. The shell leaves a ~ that stands behind an = to us."""
    if path == "~" or path.startswith("~/"):
        path = os.path.expanduser(path)
    return os.path.abspath(path)


def _target(flag: str, path: str, text: str) -> str:
    if not path:
        raise _bad(flag, text, "a target is missing")
    if path[0] != "/":
        raise _bad(flag, text, f"the target {path!r} must be an absolute path")
    path = "/" + os.path.normpath(path).lstrip("/")
    if path == "/":
        raise _bad(flag, text, "the target must not be /")
    return path


def _options(text: str, fields: dict[str, str]) -> dict[str, str]:
    """The rest of a --mount: keys with their type in front."""
    options: dict[str, str] = {}
    for key, value in fields.items():
        if key == "tmpfs-size":
            options["size"] = _size("mount", text, value)
        elif key == "tmpfs-mode":
            options["mode"] = _mode("mount", text, value)
        elif key == "volume-nocopy":
            if _bool("mount", text, value):
                options["nocopy"] = "true"
        elif key in ("volume-subpath", "image-subpath"):
            if value[:1] == "/" or ".." in value.split("/"):
                raise _bad("mount", text, f"{key} must stay below the volume")
            options["subpath"] = value
        elif (key, value) not in (
            ("volume-driver", "local"),
            ("bind-recursive", "enabled"),
            ("bind-nonrecursive", "false"),
        ):
            raise Unsupported(f"{key} of --mount is not supported yet", text)
    return options


def _fields(text: str) -> list[str]:
    """The comma separated fields of a --mount. A field may stand in double quotes, "" being one quote (RFC 4180)."""
    fields, field, quoted = [], "", False
    for character in text:
        if character == '"' and (quoted or not field or field[-1:] == '"'):
            quoted = not quoted
            if quoted and field:
                field += '"'
        elif character == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            field += character
    if quoted:
        raise _bad("mount", text, "a quote is not closed")
    return [*fields, field]


def _bool(flag: str, text: str, value: str) -> bool:
    try:
        return flags.read_bool(value)
    except ValueError:
        raise _bad(flag, text, f"{value!r} is not true or false") from None


def _size(flag: str, text: str, value: str) -> str:
    if value.endswith("%") and value[:-1].isdigit():
        return value
    try:
        return str(flags.read_bytes(value))
    except ValueError as error:
        raise _bad(flag, text, f"the size {error}") from None


def _mode(flag: str, text: str, value: str) -> str:
    if not (value and set(value) <= set("01234567") and len(value) <= 5):
        raise _bad(flag, text, f"the mode {value!r} is not octal, such as 1777")
    return value


def _bad(flag: str, text: str, why: str) -> InvalidInput:
    return InvalidInput(f"invalid --{flag} {text!r}", why, _MOUNT_FORMS if flag == "mount" else "")
