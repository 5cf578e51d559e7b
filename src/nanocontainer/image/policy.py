"""Who may have made an image: policy.json, as podman, skopeo and cri-o read it (containers-policy.json(5)).

    {"default": [{"type": "insecureAcceptAnything"}],
     "transports": {"docker": {"registry.example.com/team": [{"type": "sigstoreSigned", "keyPath": "/etc/team.pub"}],
                               "docker.io": [{"type": "reject"}]}}}

The scope that fits a name best decides, and all of its requirements must be met: the whole reference, its repository,
the paths above it, its host, *.host, the transport's "", and last the default. A file that we cannot read or understand
is an error and never an empty policy. Without any file every image is accepted, as docker does it.

What we can prove: sigstoreSigned with a public key (signature.py). What we cannot (signedBy is GPG; fulcio, rekor and
pki are services) refuses the image and says so.
"""

from __future__ import annotations

import base64
import os

from ..errors import InvalidInput, NotPermitted, Unsupported, reason
from ..record import Record
from .manifest import parse_json
from .reference import Reference, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .repository import Repository

PLACES = ("~/.config/containers/policy.json", "/etc/containers/policy.json")

_IDENTITIES = {
    "matchExact": (), "matchRepoDigestOrExact": (), "matchRepository": (), "exactReference": ("dockerReference",),
    "exactRepository": ("dockerRepository",), "remapIdentity": ("prefix", "signedPrefix"),
}  # fmt: skip
_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_SERVICES = ("fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")


class Identity(Record):
    """Which docker-reference a signature must speak of. values: of the rule's own fields, in _IDENTITIES' order."""

    kind: str = "matchRepoDigestOrExact"
    values: tuple[str, ...] = ()

    def matches(self, signed: str, wanted: Reference) -> bool:
        """signed: as the signature has it; without a tag it means a repository, and no tag of it."""
        try:
            name, suffix = _parts(signed)
            if self.kind in ("exactReference", "exactRepository"):
                wanted_name, wanted_suffix = _parts(self.values[0])
            else:
                wanted_name, wanted_suffix = wanted.name, str(wanted)[len(wanted.name) :]
        except InvalidInput:
            return False
        if self.kind == "remapIdentity":
            before, after = self.values
            if wanted_name == before or wanted_name.startswith(f"{before}/"):
                wanted_name = after + wanted_name[len(before) :]
        only_name = self.kind in ("matchRepository", "exactRepository")
        if only_name or (self.kind in ("matchRepoDigestOrExact", "remapIdentity") and wanted.digest):
            return name == wanted_name
        return bool(wanted_suffix) and (name, suffix) == (wanted_name, wanted_suffix)

    def __str__(self) -> str:
        return f"{self.kind}{f' {self.values[-1]}' if self.values else ''}"


class Requirement(Record):
    """One of policy.json. keys: public keys, PEM."""

    kind: str
    keys: tuple[bytes, ...] = ()
    identity: Identity = Identity()


class Policy(Record):
    """file: where it stands, empty where there is none. docker: scope -> requirements."""

    file: str = ""
    default: tuple[Requirement, ...] = (Requirement("insecureAcceptAnything"),)
    docker: dict[str, tuple[Requirement, ...]] = {}
    others: dict[str, dict[str, tuple[Requirement, ...]]] = {}

    def requirements(self, reference: Reference) -> tuple[str, tuple[Requirement, ...]]:
        """(the scope that decides, what it requires)."""
        for scope in scopes(reference):
            if scope in self.docker:
                return scope or "the transport docker", self.docker[scope]
        return "default", self.default

    def admit(self, reference: Reference) -> None:
        """NotPermitted where no signature could help: before the registry is asked."""
        scope, required = self.requirements(reference)
        for one in required:
            if one.kind == "reject":
                hint = f"see {scope} in {self.file}"
                raise NotPermitted(f"cannot use {reference.familiar}", "the policy rejects it", hint)
            if one.kind == "signedBy":
                why = f"{self.file} wants a GPG signature for it ({scope}), which is not supported"
                hint = "sign it with cosign, and require sigstoreSigned"
                raise Unsupported(f"cannot use {reference.familiar}", why, hint)

    def admit_local(self, transport: str, scope: str = "") -> None:
        """The same for an image from a file. transport: docker-archive, oci-archive, oci, dir. scope: its path."""
        table = self.others.get(transport, {})
        required = table.get(scope, table.get("", self.default))
        if any(one.kind != "insecureAcceptAnything" for one in required):
            why = f"the policy {self.file} does not accept images from files ({transport}) as they are"
            raise NotPermitted("cannot load these images", why, f'see "default" and "transports" in {self.file}')

    def check(self, reference: Reference, chain: Sequence[tuple[str, bytes]], repository: Repository) -> None:
        """Whether the signatures are there that are required. chain: (digest, bytes) of the index and of the manifest:
        a signature of the index is one of all that it names. NotPermitted says what is wrong with those there are."""
        scope, required = self.requirements(reference)
        signed = [one for one in required if one.kind == "sigstoreSigned"]
        if not signed:
            return
        from .signature import find_signatures

        found = find_signatures(repository, [digest for digest, _ in chain])
        for one in signed:
            told = [signature.verdict(one.keys, one.identity, reference) for signature in found]
            if not told or all(told):
                why = "; ".join(dict.fromkeys(told)) or "it has no signature"
                hint = f"see {scope} in {self.file}"
                raise NotPermitted(f"cannot trust {reference.familiar}", why, hint)


def scopes(reference: Reference) -> list[str]:
    """Where to look a reference up, the most exact first."""
    found = [str(reference), reference.name]
    while "/" in found[-1]:
        found.append(found[-1].rpartition("/")[0])
    host = reference.host.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        found.append(f"*.{host}")
    return [*found, ""]


def read_policy() -> Policy:
    """The first file there is. InvalidInput where it cannot be understood: then nothing may be pulled."""
    for place in PLACES:
        file = os.path.expanduser(place)
        try:
            with open(file, "rb") as opened:
                data = opened.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InvalidInput(f"cannot read the policy {file}", *reason(error)) from None
        return parse_policy(data, file)
    return Policy()


def parse_policy(data: bytes, file: str) -> Policy:
    """policy.json as a value. InvalidInput."""
    try:
        fields = parse_json(data, 1 << 20, file)
    except Exception as error:
        raise _bad(file, str(error)) from None
    if not isinstance(fields, dict) or not {"default"} <= fields.keys() <= {"default", "transports"}:
        raise _bad(file, 'it has "default", perhaps "transports", and nothing else')
    transports = fields.get("transports", {})
    if not isinstance(transports, dict) or not all(isinstance(table, dict) for table in transports.values()):
        raise _bad(file, '"transports" is an object of objects')
    tables = {
        name: {scope: _requirements(given, file, scope or name) for scope, given in table.items()}
        for name, table in transports.items()
    }
    return Policy(file, _requirements(fields["default"], file, "default"), tables.pop("docker", {}), tables)


def _requirements(given: Any, file: str, scope: str) -> tuple[Requirement, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise _bad(file, f"{scope} is a list of at least one requirement")
    return tuple(_requirement(one, file, scope) for one in given)


def _requirement(given: dict[str, Any], file: str, scope: str) -> Requirement:
    kind = given.get("type")
    if kind in ("insecureAcceptAnything", "reject"):
        if len(given) > 1:
            raise _bad(file, f"{kind} of {scope} has more than its type")
        return Requirement(kind)
    if kind == "signedBy":
        return Requirement(kind)
    if kind != "sigstoreSigned":
        raise _bad(file, f"{scope} has the unknown requirement {kind!r:.60}")
    services = [name for name in _SERVICES if name in given]
    if services:
        why = f"{scope} wants signatures proven by {services[0]}, which is not supported"
        raise Unsupported(f"cannot use the policy {file}", why, "sigstoreSigned works with keyPath and keyData")
    if not given.keys() <= {"type", "signedIdentity", *_KEYS}:
        raise _bad(file, f"sigstoreSigned of {scope} has unknown fields")
    if sum(name in given for name in _KEYS) != 1:
        raise _bad(file, f"sigstoreSigned of {scope} has exactly one of {', '.join(_KEYS)}")
    return Requirement(kind, _keys(given, file, scope), _identity(given.get("signedIdentity"), file, scope))


def _keys(given: dict[str, Any], file: str, scope: str) -> tuple[bytes, ...]:
    name = next(name for name in _KEYS if name in given)
    values = given[name] if name.endswith("s") else [given[name]]
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise _bad(file, f"{name} of {scope} is no text, or no list of such")
    keys = []
    for value in values:
        try:
            if name.startswith("keyData"):
                keys.append(base64.b64decode(value, validate=True))
            else:
                with open(value, "rb") as opened:
                    keys.append(opened.read(1 << 16))
        except OSError as error:
            raise _bad(file, f"the key of {scope} cannot be read: {reason(error)[0]}") from None
        except ValueError:
            raise _bad(file, f"{name} of {scope} is not base64") from None
    return tuple(keys)


def _identity(given: Any, file: str, scope: str) -> Identity:
    if given is None:
        return Identity()
    kind = given.get("type") if isinstance(given, dict) else None
    if kind not in _IDENTITIES:
        raise _bad(file, f"signedIdentity of {scope} is none of {', '.join(_IDENTITIES)}")
    fields = _IDENTITIES[kind]
    if given.keys() != {"type", *fields} or not all(isinstance(given[name], str) for name in fields):
        raise _bad(file, f"signedIdentity {kind} of {scope} has {' and '.join(fields) or 'only its type'}")
    return Identity(kind, tuple(given[name] for name in fields))


def _parts(text: str) -> tuple[str, str]:
    """(repository in full, ":tag" or "@digest" as given, or "")."""
    reference = parse_reference(text)
    suffix = str(reference)[len(reference.name) :]
    return reference.name, suffix if text.endswith(suffix) else ""


def _bad(file: str, why: str) -> InvalidInput:
    return InvalidInput(f"cannot use the policy {file}", why, "see containers-policy.json(5)")
