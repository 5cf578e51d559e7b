"""Manifests, indexes, configurations and platforms: what is taken, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanocontainer.errors import Corrupt, InvalidInput, NanoError, NotFound, Unsupported
from nanocontainer.image import manifest as m

DIGEST = "sha256:" + "a" * 64
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
LOCAL = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 10}
CONFIG = {"mediaType": m.OCI_CONFIG, "digest": DIGEST, "size": 10}
MANIFEST = {"schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}


def parse(value: Any, media_type: str = "") -> m.Manifest | m.Index:
    return m.parse_manifest(json.dumps(value).encode(), media_type, "the manifest")


def entry(platform: str, digit: str = "b", **more: Any) -> dict[str, Any]:
    names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return {"mediaType": m.OCI_MANIFEST, "digest": "sha256:" + digit * 64, "size": 1, "platform": names, **more}


def index(*entries: dict[str, Any]) -> m.Index:
    parsed = parse({"schemaVersion": 2, "manifests": list(entries)})
    assert isinstance(parsed, m.Index)
    return parsed


def test_a_manifest() -> None:
    parsed = parse(MANIFEST, m.OCI_MANIFEST + "; charset=utf-8")
    assert isinstance(parsed, m.Manifest)
    assert parsed.config.digest == DIGEST
    assert [layer.size for layer in parsed.layers] == [10]


def test_docker_schema_2() -> None:
    layer = {**LAYER, "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    parsed = parse(
        {
            **MANIFEST,
            "mediaType": m.DOCKER_MANIFEST,
            "config": {**CONFIG, "mediaType": m.DOCKER_CONFIG},
            "layers": [layer],
        }
    )
    assert isinstance(parsed, m.Manifest)


@pytest.mark.parametrize(
    ("value", "error", "word"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, Unsupported, "schema 1"),
        ({**MANIFEST, "manifests": []}, Corrupt, "at once"),
        ({**MANIFEST, "layers": [{**LAYER, "mediaType": FOREIGN}]}, Unsupported, "foreign"),
        ({**MANIFEST, "layers": [{**LAYER, "mediaType": LOCAL}]}, Unsupported, "foreign"),
        ({**MANIFEST, "layers": [{**LAYER, "mediaType": "application/vnd.x.wasm"}]}, Unsupported, "wasm"),
        ({**MANIFEST, "layers": [{**LAYER, "mediaType": LAYER["mediaType"] + "+encrypted"}]}, Unsupported, "encrypted"),
        (
            {**MANIFEST, "config": {**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}},
            Unsupported,
            "helm",
        ),
        ({**MANIFEST, "layers": [{**LAYER, "digest": "sha512:" + "a" * 128}]}, Unsupported, "sha512"),
        ({**MANIFEST, "layers": [{**LAYER, "digest": "sha256:../../etc/passwd"}]}, Corrupt, "digest"),
        ({**MANIFEST, "layers": [{**LAYER, "digest": 7}]}, Corrupt, "text"),
        ({**MANIFEST, "layers": [{**LAYER, "size": -1}]}, Corrupt, "size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": True}]}, Corrupt, "size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": 1.5}]}, Corrupt, "size"),
        ({**MANIFEST, "layers": [{**LAYER, "size": 10**30}]}, Corrupt, "size"),
        ({**MANIFEST, "layers": {}}, Corrupt, "list"),
        ({**MANIFEST, "layers": [[]]}, Corrupt, "object"),
        ({**MANIFEST, "config": None}, Corrupt, "object"),
        ({"schemaVersion": 2}, Corrupt, "no manifest"),
        ([], Corrupt, "object"),
        ("x", Corrupt, "object"),
    ],
)
def test_refused(value: Any, error: type[NanoError], word: str) -> None:
    with pytest.raises(error) as told:
        parse(value)
    assert word in str(told.value)


def test_the_media_type_must_agree() -> None:
    with pytest.raises(Corrupt):
        parse(MANIFEST, m.OCI_INDEX)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[" * 100_000, b"nul", b'{"size": ' + b"1" * 5000 + b"}", b" " * (m.MAX_MANIFEST + 1)]
)
def test_no_json(data: bytes) -> None:
    with pytest.raises(Corrupt):
        m.parse_manifest(data, "", "the manifest")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(DIGEST),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "manifests",
                    "layers",
                    "config",
                    "digest",
                    "size",
                    "mediaType",
                    "platform",
                    "annotations",
                    "rootfs",
                    "diff_ids",
                    "os",
                    "Env",
                    "Cmd",
                    "Labels",
                    "Volumes",
                    "created",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_hostile_json_is_a_nano_error_or_a_value(value: Any) -> None:
    for parse_one in (lambda data: m.parse_manifest(data, "", "it"), m.parse_config):
        try:
            parse_one(json.dumps(value).encode())
        except NanoError:
            pass


# --- platforms


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("LINUX/ARM64", "linux/arm64"),
        ("linux/armv6l", "linux/arm/v6"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platform_names(text: str, normal: str) -> None:
    assert str(m.parse_platform(text)) == normal


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux//v8", "a/b/c/d", "linux/am d64", "linux/../x"])
def test_no_platform(text: str) -> None:
    with pytest.raises(InvalidInput):
        m.parse_platform(text)


def choose(platform: str, *entries: dict[str, Any]) -> str:
    return m.choose(index(*entries), m.parse_platform(platform), "x").digest[7]


def test_choice() -> None:
    there = (
        entry("linux/amd64", "1"),
        entry("linux/arm64/v8", "2"),
        entry("linux/arm/v6", "3"),
        entry("linux/arm/v7", "4"),
    )
    assert choose("linux/amd64", *there) == "1"
    assert choose("linux/arm64", *there) == "2"
    assert choose("linux/arm64/v8", *there) == "2"
    assert choose("linux/arm/v7", *there) == "4"
    assert choose("linux/arm/v6", *there) == "3"
    assert choose("linux/arm/v7", *there[:3]) == "3"  # an older variant runs
    with pytest.raises(NotFound) as told:
        choose("linux/s390x", *there)
    assert "linux/arm64" in told.value.why
    assert "--platform" in told.value.hint


def test_attestations_are_no_images() -> None:
    attestation = entry("unknown/unknown", "9", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    assert choose("linux/amd64", attestation, entry("linux/amd64", "1")) == "1"
    with pytest.raises(NotFound):
        choose("linux/amd64", attestation)


def test_an_index_of_one_without_a_platform() -> None:
    assert choose("linux/s390x", {"mediaType": m.OCI_MANIFEST, "digest": DIGEST, "size": 1}) == "a"


# --- configurations


def test_a_configuration() -> None:
    parsed = m.parse_config(
        json.dumps(
            {
                "architecture": "arm64",
                "os": "linux",
                "variant": "v8",
                "created": "2025-01-01T00:00:00Z",
                "unknown": {"x": 1},
                "config": {
                    "Entrypoint": ["/e"],
                    "Cmd": ["a", "b"],
                    "Env": ["A=1"],
                    "WorkingDir": "/w",
                    "User": "1:2",
                    "StopSignal": "SIGINT",
                    "Volumes": {"/v": {}, "/a": {}},
                    "ExposedPorts": {"80/tcp": {}},
                    "Labels": {"k": "v"},
                    "Healthcheck": None,
                },
                "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
            }
        ).encode()
    )
    config = parsed.config
    assert (config.entrypoint, config.cmd, config.env, config.cwd, config.user) == (
        ("/e",),
        ("a", "b"),
        ("A=1",),
        "/w",
        "1:2",
    )
    assert (config.volumes, config.exposed, config.labels, config.stop_signal) == (
        ("/a", "/v"),
        ("80/tcp",),
        {"k": "v"},
        "SIGINT",
    )
    assert (parsed.diff_ids, parsed.architecture, parsed.variant) == ((DIGEST,), "arm64", "v8")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"rootfs": {"diff_ids": []}, "os": "windows"}, Unsupported),
        ({"rootfs": {"diff_ids": ["x"]}}, Corrupt),
        ({"rootfs": None}, Corrupt),
        ({"rootfs": {}, "config": {"Env": ["A=\0"]}}, Corrupt),
        ({"rootfs": {}, "config": {"Env": ["A=\ud800"]}}, Corrupt),
        ({"rootfs": {}, "config": {"Cmd": [1]}}, Corrupt),
        ({"rootfs": {}, "config": {"Labels": {"a": 1}}}, Corrupt),
        ({"rootfs": {}, "config": {"WorkingDir": ["/"]}}, Corrupt),
        ({"rootfs": {}, "created": 5}, Corrupt),
    ],
)
def test_configurations_refused(fields: Any, error: type[NanoError]) -> None:
    with pytest.raises(error):
        m.parse_config(json.dumps(fields).encode())


def test_null_is_nothing() -> None:
    parsed = m.parse_config(
        b'{"rootfs": {"diff_ids": null}, "config": {"Cmd": null, "Env": null, "Labels": null, "User": null}}'
    )
    assert parsed.config == m.ImageConfig()
