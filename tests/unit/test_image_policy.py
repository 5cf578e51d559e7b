"""policy.json and signatures: who may have made an image."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import Corrupt, InvalidInput, NanoError, NotPermitted, Unsupported
from nanocontainer.image import policy as policies
from nanocontainer.image.policy import Identity, Policy, parse_policy, read_policy, scopes
from nanocontainer.image.reference import parse_reference
from nanocontainer.image.signature import Signature, parse_payload, verify

DIGEST = "sha256:" + "a" * 64
ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]
KEY = base64.b64encode(b"-----BEGIN PUBLIC KEY-----").decode()


def policy(default: Any = ACCEPT, **docker: Any) -> Policy:
    tables = {"docker": {name.replace("__", "/").replace("_", "."): value for name, value in docker.items()}}
    return parse_policy(json.dumps({"default": default, "transports": tables}).encode(), "policy.json")


def test_scopes() -> None:
    assert scopes(parse_reference("a.b.example.com:5000/x/y:1")) == [
        "a.b.example.com:5000/x/y:1", "a.b.example.com:5000/x/y", "a.b.example.com:5000/x", "a.b.example.com:5000",
        "*.b.example.com", "*.example.com", "*.com", "",
    ]  # fmt: skip


def test_the_best_scope_decides() -> None:
    made = policy(REJECT, docker_io=ACCEPT, docker_io__library__bad=REJECT)
    made.admit(parse_reference("alpine"))
    for name in ("bad", "bad:1", "docker.io/library/bad", "quay.io/x"):
        with pytest.raises(NotPermitted) as told:
            made.admit(parse_reference(name))
        assert "policy.json" in told.value.hint
    made.admit(parse_reference("badly"))


def test_what_cannot_be_proven_is_refused() -> None:
    gpg = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"}]
    with pytest.raises(Unsupported) as told:
        policy(gpg).admit(parse_reference("alpine"))
    assert "GPG" in told.value.why
    for name in ("fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyDatas"):
        with pytest.raises(Unsupported):
            policy([{"type": "sigstoreSigned", "keyData": KEY, name: {}}])


def test_images_from_files() -> None:
    Policy().admit_local("docker-archive")
    with pytest.raises(NotPermitted):
        policy(REJECT).admit_local("docker-archive", "/x.tar")
    fields = {"default": REJECT, "transports": {"oci": {"": ACCEPT, "/bad": REJECT}}}
    made = parse_policy(json.dumps(fields).encode(), "policy.json")
    made.admit_local("oci", "/good")
    with pytest.raises(NotPermitted):
        made.admit_local("oci", "/bad")


@pytest.mark.parametrize(
    "fields",
    [
        None, [], {}, {"default": []}, {"default": ["x"]}, {"default": ACCEPT, "more": 1}, {"default": [{"type": "x"}]},
        {"default": [{"type": "reject", "x": 1}]}, {"default": ACCEPT, "transports": []}, {"default": [{}]},
        {"default": ACCEPT, "transports": {"docker": []}}, {"default": ACCEPT, "transports": {"docker": {"a": 5}}},
        {"default": [{"type": "sigstoreSigned"}]}, {"default": [{"type": "sigstoreSigned", "keyData": "???"}]},
        {"default": [{"type": "sigstoreSigned", "keyData": KEY, "keyPath": "/x"}]},
        {"default": [{"type": "sigstoreSigned", "keyPath": "/does/not/exist"}]},
        {"default": [{"type": "sigstoreSigned", "keyPaths": []}]},
        {"default": [{"type": "sigstoreSigned", "keyData": KEY, "unknown": 1}]},
        {"default": [{"type": "sigstoreSigned", "keyData": KEY, "signedIdentity": {"type": "any"}}]},
        {"default": [{"type": "sigstoreSigned", "keyData": KEY, "signedIdentity": {"type": "exactReference"}}]},
        {"default": [{"type": "sigstoreSigned", "keyData": KEY, "signedIdentity": "matchExact"}]},
    ],
)  # fmt: skip
def test_a_broken_policy_lets_nothing_in(fields: Any) -> None:
    with pytest.raises(InvalidInput) as told:
        parse_policy(json.dumps(fields).encode(), "policy.json")
    assert "policy.json" in told.value.what


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(policies, "PLACES", ("~/user.json", str(tmp_path / "etc.json")))
    assert read_policy() == Policy()
    (tmp_path / "etc.json").write_text(json.dumps({"default": REJECT}))
    assert read_policy().file == str(tmp_path / "etc.json")
    (tmp_path / "user.json").write_text(json.dumps({"default": ACCEPT}))
    assert read_policy().file == str(tmp_path / "user.json")
    (tmp_path / "user.json").write_text("{")
    with pytest.raises(InvalidInput):
        read_policy()


_WORDS = st.sampled_from(["default", "transports", "type", "docker", "keyData", "x"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)


@given(st.recursive(_LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(_WORDS, one, max_size=3)))
def test_any_policy_is_read_or_refused(fields: Any) -> None:
    try:
        parse_policy(json.dumps(fields).encode(), "p")
    except NanoError:
        pass


@pytest.mark.parametrize(
    ("kind", "values", "signed", "wanted", "good"),
    [
        ("matchExact", (), "a.b/c:1", "a.b/c:1", True), ("matchExact", (), "a.b/c:1", "a.b/c:2", False),
        ("matchExact", (), "a.b/c", "a.b/c:latest", False), ("matchExact", (), "alpine:3", "alpine:3", True),
        ("matchExact", (), f"a.b/c@{DIGEST}", f"a.b/c@{DIGEST}", True),
        ("matchRepoDigestOrExact", (), "a.b/c:1", "a.b/c:1", True),
        ("matchRepoDigestOrExact", (), "a.b/c:2", "a.b/c:1", False),
        ("matchRepoDigestOrExact", (), "a.b/c:2", f"a.b/c@{DIGEST}", True),
        ("matchRepoDigestOrExact", (), "a.b/d:2", f"a.b/c@{DIGEST}", False),
        ("matchRepoDigestOrExact", (), "a.b/c", "a.b/c:1", False),
        ("matchRepository", (), "a.b/c", "a.b/c:1", True), ("matchRepository", (), "a.b/c:9", "a.b/c:1", True),
        ("matchRepository", (), "a.b/d", "a.b/c:1", False),
        ("exactReference", ("a.b/x:1",), "a.b/x:1", "a.b/c:1", True),
        ("exactReference", ("a.b/x:1",), "a.b/x:2", "a.b/c:1", False),
        ("exactReference", ("a.b/x:1",), "a.b/c:1", "a.b/c:1", False),
        ("exactRepository", ("a.b/x",), "a.b/x:2", "a.b/c:1", True),
        ("exactRepository", ("a.b/x",), "a.b/c", "a.b/c:1", False),
        ("remapIdentity", ("mirror:5000", "a.b"), "a.b/c:1", "mirror:5000/c:1", True),
        ("remapIdentity", ("mirror:5000", "a.b"), "mirror:5000/c:1", "mirror:5000/c:1", False),
        ("remapIdentity", ("mirror:5000", "a.b"), "a.b/c:1", "mirror:50001/c:1", False),
        ("remapIdentity", ("other", "a.b"), "a.b/c:1", "a.b/c:1", True),
        ("matchExact", (), "NOT A NAME", "a.b/c:1", False),
    ],
)  # fmt: skip
def test_identities(kind: str, values: tuple[str, ...], signed: str, wanted: str, good: bool) -> None:
    assert Identity(kind, values).matches(signed, parse_reference(wanted)) is good


def payload(digest: str = DIGEST, name: str = "a.b/c:1", kind: str = "cosign container image signature") -> bytes:
    image, identity = {"docker-manifest-digest": digest}, {"docker-reference": name}
    return json.dumps({"critical": {"type": kind, "image": image, "identity": identity}, "optional": None}).encode()


def test_payloads() -> None:
    assert parse_payload(payload()) == (DIGEST, "a.b/c:1")
    fields = json.loads(payload())
    for change in (
        lambda one: one.update(more=1), lambda one: one["critical"].update(more=1), lambda one: one.pop("critical"),
        lambda one: one["critical"]["image"].update(more=1), lambda one: one["critical"].update(type="x"),
        lambda one: one["critical"].update(image=5), lambda one: one["critical"]["identity"].update(x="y"),
        lambda one: one["critical"]["identity"].update({"docker-reference": 5}),
    ):  # fmt: skip
        broken = json.loads(json.dumps(fields))
        change(broken)
        with pytest.raises(Corrupt):
            parse_payload(json.dumps(broken).encode())
    for data in (b"", b"[]", b"{", b"[" * 100_000):
        with pytest.raises(Corrupt):
            parse_payload(data)


def make_key(place: Path, *kind: str) -> tuple[Path, bytes]:
    """A private key's file, and its public half."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there")
    key = place / f"{len(list(place.iterdir()))}.key"
    subprocess.run(["openssl", "genpkey", *kind, "-out", str(key)], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True).stdout
    return key, public


EC = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def sign(key: Path, data: bytes) -> bytes:
    """As cosign does it: ECDSA and RSA over SHA-256, Ed25519 over the bytes themselves."""
    file = key.with_suffix(".data")
    file.write_bytes(data)
    text = subprocess.run(
        ["openssl", "pkey", "-in", str(key), "-noout", "-text"], check=True, capture_output=True
    ).stdout
    if b"ED25519" in text:
        command = ["openssl", "pkeyutl", "-sign", "-inkey", str(key), "-rawin", "-in", str(file)]
    else:
        command = ["openssl", "dgst", "-sha256", "-sign", str(key), str(file)]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("kind", [EC, ("-algorithm", "ED25519"), ("-algorithm", "RSA")])
def test_keys_of_every_kind(tmp_path: Path, kind: tuple[str, ...]) -> None:
    key, public = make_key(tmp_path, *kind)
    _, stranger = make_key(tmp_path, *kind)
    data = payload()
    signature = sign(key, data)
    assert verify(public, data, signature)
    assert not verify(public, data + b" ", signature)
    assert not verify(public, data, signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not verify(public, data, b"")
    assert not verify(stranger, data, signature)
    for wrong in (b"", b"no key", key.read_bytes()):  # nor is a private key a public one
        with pytest.raises(NanoError):
            verify(wrong, data, signature)


def test_verdicts(tmp_path: Path) -> None:
    key, public = make_key(tmp_path, *EC)
    _, stranger = make_key(tmp_path, *EC)
    wanted = parse_reference("a.b/c:1")

    def verdict(data: bytes, keys: list[bytes], identity: Identity = Identity()) -> str:
        return Signature(DIGEST, data, sign(key, data)).verdict(keys, identity, wanted)

    assert verdict(payload(), [public]) == ""
    assert verdict(payload(), [stranger, public]) == ""
    assert "none of the keys" in verdict(payload(), [stranger])
    assert "is for sha256:bbb" in verdict(payload(digest="sha256:" + "b" * 64), [public])
    assert "'a.b/evil:1'" in verdict(payload(name="a.b/evil:1"), [public])
    assert verdict(payload(name="a.b/c"), [public], Identity("matchRepository")) == ""
    assert verdict(b"{}", [public])


def test_without_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported) as told:
        verify(b"x", b"y", b"z")
    assert "openssl" in told.value.hint
