"""Trust: policy.json with signatures as cosign makes them, in a real registry; `image verify`; login, with a password,
TLS of its own authority and a token server."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nanocontainer.errors import NanoError, NotPermitted, Unsupported
from nanocontainer.image import policy as policies
from nanocontainer.image.archive import load
from nanocontainer.image.pull import pull
from nanocontainer.image.store import ImageStore
from nanocontainer.image.verify import verify

from ..unit.test_image_policy import EC, make_key, payload, sign
from .images import TOOLS, push
from .nano import Nano
from .test_image_registry import layout, nothing_left, quick, store

__all__ = ["layout", "quick", "store"]


# --- signatures


def upload(registry: str, repository: str, data: bytes) -> dict[str, Any]:
    """A blob into a registry, by hand; its descriptor."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    start = urllib.request.Request(f"http://{registry}/v2/{repository}/blobs/uploads/", b"", method="POST")
    with urllib.request.urlopen(start) as answer:
        place = answer.headers["Location"]
    place += f"{'&' if '?' in place else '?'}digest={digest}"
    headers = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(urllib.request.Request(place, data, headers, method="PUT")).close()
    return {"digest": digest, "size": len(data)}


def put_manifest(registry: str, repository: str, tag: str, fields: dict[str, Any]) -> str:
    data = json.dumps(fields).encode()
    headers = {"Content-Type": fields["mediaType"]}
    address = f"http://{registry}/v2/{repository}/manifests/{tag}"
    urllib.request.urlopen(urllib.request.Request(address, data, headers, method="PUT")).close()
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_signatures(registry: str, repository: str, digest: str, pairs: list[tuple[bytes, bytes]]) -> None:
    """(payload, signature) pairs, where and how cosign puts them."""
    layers = [
        {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "annotations": {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()},
            **upload(registry, repository, data),
        }
        for data, signature in pairs
    ]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", **upload(registry, repository, b"{}")}
    kind = "application/vnd.oci.image.manifest.v1+json"
    fields = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
    put_manifest(registry, repository, digest.replace(":", "-") + ".sig", fields)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the policy: what the registry's images must be, and what all others."""
    file = tmp_path / "policy.json"
    monkeypatch.setattr(policies, "PLACES", (str(file),))

    def write(scope: str, *requirements: dict[str, Any]) -> None:
        tables = {"docker": {scope: list(requirements)}}
        file.write_text(json.dumps({"default": [{"type": "reject"}], "transports": tables}))

    return write


@pytest.fixture
def signed(registry: str, layout: Path) -> tuple[str, str, str]:
    """(repository, reference, digest of its manifest) of an image that is in the registry."""
    repository = f"signed/app{os.urandom(4).hex()}"
    reference = push(layout, registry, f"{repository}:1")
    kind = "application/vnd.oci.image.manifest.v1+json"
    asked = urllib.request.Request(f"http://{registry}/v2/{repository}/manifests/1", headers={"Accept": kind})
    with urllib.request.urlopen(asked) as answer:
        digest = f"sha256:{hashlib.sha256(answer.read()).hexdigest()}"
    return repository, reference, digest


def test_who_signed_what(
    store: ImageStore, registry: str, signed: tuple[str, str, str], policy: Callable[..., None], tmp_path: Path
) -> None:
    repository, reference, digest = signed
    (tmp_path / "keys").mkdir()
    key, public = make_key(tmp_path / "keys", *EC)
    edwards, public2 = make_key(tmp_path / "keys", "-algorithm", "ED25519")
    stranger, _ = make_key(tmp_path / "keys", *EC)
    (tmp_path / "team.pub").write_bytes(public)
    name = f"{registry}/{repository}"
    wanted = {"type": "sigstoreSigned", "keyPath": str(tmp_path / "team.pub")}
    by_name = {**wanted, "signedIdentity": {"type": "matchRepository"}}
    good = payload(digest, f"{name}:1")
    as_cosign = payload(digest, name)

    def refused(word: str) -> None:
        with pytest.raises(NotPermitted) as told:
            pull(store, reference)
        assert word in told.value.why
        nothing_left(store)

    policy("docker.io", wanted)
    refused("rejects it")
    policy(name, wanted)
    refused("no signature")
    put_signatures(registry, repository, digest, [(good, sign(stranger, good))])
    refused("none of the keys")
    put_signatures(registry, repository, digest, [(good + b" ", sign(key, good))])
    refused("none of the keys")
    other = payload("sha256:" + "b" * 64, f"{name}:1")
    put_signatures(registry, repository, digest, [(other, sign(key, other))])
    refused("is for sha256:bbb")
    put_signatures(registry, repository, digest, [(as_cosign, sign(key, as_cosign))])
    refused("does not let stand for it")  # cosign names no tag: matchRepoDigestOrExact wants one
    policy(name, by_name)
    pull(store, reference)
    store.remove(reference)
    policy(registry, wanted)
    put_signatures(registry, repository, digest, [(good, sign(stranger, good)), (good, sign(key, good))])
    assert pull(store, reference).names == (reference,)
    store.remove(reference)
    both = {"type": "sigstoreSigned", "keyData": base64.b64encode(public2).decode()}
    policy(registry, wanted, both)  # all requirements must be met
    refused("none of the keys")
    put_signatures(registry, repository, digest, [(good, sign(edwards, good)), (good, sign(key, good))])
    pull(store, reference)
    pinned = f"{name}@{digest}"
    assert pull(store, pinned).digests == (pinned,)
    policy(registry, {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x"})
    with pytest.raises(Unsupported):
        pull(store, reference)


def test_a_signature_of_an_index_is_one_of_all_in_it(
    store: ImageStore, registry: str, signed: tuple[str, str, str], policy: Callable[..., None], tmp_path: Path
) -> None:
    repository, reference, digest = signed
    (tmp_path / "keys").mkdir()
    key, public = make_key(tmp_path / "keys", *EC)
    kind = "application/vnd.oci.image.manifest.v1+json"
    asked = urllib.request.Request(f"http://{registry}/v2/{repository}/manifests/1", headers={"Accept": kind})
    with urllib.request.urlopen(asked) as answer:
        size = len(answer.read())
    machine = "arm64" if os.uname().machine == "aarch64" else "amd64"
    entry = {"mediaType": kind, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": machine}}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    top = put_manifest(registry, repository, "1", index)
    data = payload(top, reference)
    policy(registry, {"type": "sigstoreSigned", "keyData": base64.b64encode(public).decode()})
    with pytest.raises(NotPermitted):
        pull(store, reference)
    put_signatures(registry, repository, top, [(data, sign(key, data))])
    assert pull(store, reference).digests[0].endswith(top)


def test_images_from_files_follow_it_too(store: ImageStore, layout: Path, policy: Callable[..., None]) -> None:
    policy("docker.io", {"type": "insecureAcceptAnything"})  # and the default is reject
    with pytest.raises(NotPermitted) as told:
        load(store, str(layout))
    assert "(oci)" in told.value.why
    nothing_left(store)


# --- image verify


@pytest.mark.parametrize("form", ["directory", "erofs"])
def test_every_byte_again(store: ImageStore, registry: str, layout: Path, form: str) -> None:
    store.form = form
    image = pull(store, push(layout, registry, "test/verify:1"))
    (good,) = verify(store, [image])
    assert [check.part for check in good.checks] == ["configuration", "manifest", "layer", "layer"]
    assert good.result == "proven", good
    place = f"{store.layers}/{image.layers[0][7:]}"
    if form == "erofs":
        with open(f"{place}.erofs", "r+b") as file:
            file.seek(60_000)
            byte = file.read(1)
            file.seek(60_000)
            file.write(bytes([byte[0] ^ 1]))
    else:
        with open(f"{place}/bin/sh", "r+b") as file:
            file.seek(1000)
            file.write(b"another program")
    (bad,) = verify(store, [image])
    assert [check.result for check in bad.checks] == ["proven", "proven", "damaged", "proven"]
    (store_blob,) = [f"{store.root}/blobs/sha256/{image.manifest[7:]}"]
    with open(store_blob, "ab") as file:
        file.write(b" ")
    assert [check.result for check in verify(store, [image])[0].checks[:2]] == ["proven", "damaged"]
    if form == "directory":
        os.unlink(f"{store.layers}/{image.layers[1][7:]}.split")
        assert verify(store, [image])[0].checks[3].result == "plausible"
    store.remove(image.id, force=True)


def test_verify_by_command(clean: Nano, registry: str, layout: Path) -> None:
    reference = push(layout, registry, "test/verify:2")
    clean("pull", "-q", reference)
    try:
        done = clean("image", "verify", reference)
        assert reference in done.out and "proven" in done.out and "damaged" not in done.out
        assert "Signatures: " in done.out
        assert json.loads(clean("image", "verify", "--format", "json", reference).out)["Result"] == "proven"
        (blob,) = [
            f"{clean.root}/images/blobs/sha256/{check['digest'][7:]}"
            for check in json.loads(clean("image", "verify", "--format", "json", reference).out)["Checks"]
            if check["part"] == "manifest"
        ]
        before = Path(blob).read_bytes()
        Path(blob).write_bytes(before + b"x")
        done = clean("image", "verify", "-q", check=False)
        assert (done.code, done.out) == (1, f"{reference}\n")
        Path(blob).write_bytes(before)
    finally:
        clean("rmi", reference)


# --- login: a registry with a password, TLS and its own authority; and one with a token server


def hashed(secret: bytes) -> str:
    """bcrypt, as htpasswd has it."""
    try:
        crypt = ctypes.CDLL("libcrypt.so.1").crypt
    except OSError:
        pytest.skip("this host has no libcrypt")
    crypt.restype = ctypes.c_char_p
    found = (crypt(secret, b"$2b$04$abcdefghijklmnopqrstuu") or b"*").decode()
    if not found.startswith("$2b$"):
        pytest.skip("this host's libcrypt has no bcrypt")
    return found.replace("$2b$", "$2y$")


def serve(place: Path, **more: Any) -> tuple[str, subprocess.Popen[bytes]]:
    program = shutil.which("docker-registry") or shutil.which("docker-registry", path=str(TOOLS))
    if not program:
        pytest.skip("docker-registry is not there: ./check setup gets it")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    config = {
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(place / "data")}},
        **more, "http": {"addr": address, **more.get("http", {})},
    }  # fmt: skip
    (place / "config.yml").write_text(json.dumps(config))
    server = subprocess.Popen(
        [program, "serve", str(place / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(250):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                break
        time.sleep(0.02)
    return address, server


def certificate(place: Path) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there")
    cert, key = place / "server.crt", place / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(cert), "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_login_with_a_password_over_tls(clean: Nano, layout: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "htpasswd").write_text(f"me:{hashed(b'secret')}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    address, server = serve(tmp_path, auth=auth, http={"tls": {"certificate": str(cert), "key": str(key)}})
    home = tmp_path / "home"
    own = home / ".config/containers/certs.d" / address
    own.mkdir(parents=True)
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "DOCKER_CONFIG": "", "REGISTRY_AUTH_FILE": ""}
    try:
        strict = "--tls-verify"
        done = clean("login", strict, "-u", "me", "--password-stdin", address, input=b"secret\n", env=env, check=False)
        assert done.code == 1 and "certificate" in done.err.lower()
        shutil.copy(cert, own / "ca.crt")
        done = clean("login", "-u", "me", "--password-stdin", address, input=b"wrong\n", env=env, check=False)
        assert done.code == 1 and "denies access" in done.err
        assert not (home / ".docker").exists()
        done = clean("login", "-u", "me", "--password-stdin", address, input=b"secret\n", env=env)
        assert done.out == "Login Succeeded\n"
        assert "stored unencrypted in" in done.err
        file = home / ".docker/config.json"
        assert json.loads(file.read_text())["auths"][address] == {"auth": base64.b64encode(b"me:secret").decode()}
        assert file.stat().st_mode & 0o777 == 0o600
        assert "existing credentials" in clean("login", address, env=env).err
        assert clean("login", "--get-login", address, env=env).out == "me\n"
        reference = f"{address}/private:1"
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-creds=me:secret", f"--dest-cert-dir={own}"]
        subprocess.run([*copy, f"oci:{layout}", f"docker://{reference}"], check=True)
        assert clean("pull", reference, env=env).out == f"{reference}\n"
        clean("rmi", reference)
        with clean.pty("login", "-u", "me", address, env=env) as terminal:
            terminal.expect("Password: ")
            terminal.send("secret\n")
            terminal.expect("Login Succeeded")
            assert terminal.wait() == 0
            assert "secret" not in terminal.seen  # no echo
            assert terminal.settings()[3] == terminal.before[3]
        assert clean("logout", address, env=env).out == f"Removing login credentials for {address}\n"
        assert clean("logout", address, env=env).out == f"Not logged in to {address}\n"
        done = clean("pull", reference, env=env, check=False)
        assert done.code == 1 and f"login {address}" in done.err
        assert clean("pull", "-q", "--creds", "me:secret", reference, env=env).code == 0
        clean("rmi", reference)
        for words, word in (
            (["-p", "x"], "using --password via the cli"), (["--password-stdin"], "must provide --username"),
            (["-u", "me", "-p", "x", "--password-stdin"], "mutually exclusive"), ([], "non tty"),
        ):  # fmt: skip
            done = clean("login", *words, address, env=env, check=False)
            assert done.code != 0 and word in done.err.lower(), done
    finally:
        server.terminate()
        server.wait(10)


class TokenServer(ThreadingHTTPServer):
    """Gives tokens for a registry as docker's token specification has it: JSON Web Tokens, signed with ES256."""

    daemon_threads = True

    def __init__(self, place: Path, lives: int) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.cert, self.key = certificate(place)
        self.lives, self.place, self.service = lives, place, "registry"
        self.asked: list[str] = []
        self.realm = f"http://127.0.0.1:{self.server_address[1]}/token"
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def token(self, user: str, scopes: list[str]) -> str:
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        der = subprocess.run(
            ["openssl", "x509", "-in", str(self.cert), "-outform", "DER"], check=True, capture_output=True
        ).stdout
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {"iss": "test", "sub": user, "aud": self.service, "exp": now + self.lives, "nbf": now - 5,
                  "iat": now, "jti": os.urandom(8).hex(), "access": access}  # fmt: skip
        text = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        file = self.place / f"{threading.get_ident()}.txt"
        file.write_text(text)
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key), str(file)], check=True, capture_output=True
        ).stdout
        numbers, at = b"", 2  # DER: SEQUENCE of two INTEGERs; a token has them as 32 bytes each
        for _ in range(2):
            size = signature[at + 1]
            numbers += signature[at + 2 : at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + size
        return f"{text}.{_b64(numbers)}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        from urllib.parse import parse_qs, urlsplit

        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(self.path)
        right = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode()
        answer = {"token": self.server.token("me", query.get("scope", [])), "expires_in": self.server.lives}
        if "offline_token" in query:
            answer["refresh_token"] = "long-lived"
        self._answer(200 if right else 401, answer if right else {"details": "who are you"})

    def do_POST(self) -> None:
        from urllib.parse import parse_qs

        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked.append(f"POST {form}")
        right = form.get("refresh_token") == ["long-lived"]
        scopes = form.get("scope", [""])[0].split()
        answer = {"access_token": self.server.token("me", scopes), "expires_in": self.server.lives}
        self._answer(200 if right else 401, answer if right else {"details": "unknown token"})

    def _answer(self, status: int, fields: dict[str, Any]) -> None:
        data = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[str, TokenServer]]:
    (tmp_path / "tokens").mkdir()
    tokens = TokenServer(tmp_path / "tokens", 60)
    auth = {
        "token": {"realm": tokens.realm, "service": "registry", "issuer": "test", "rootcertbundle": str(tokens.cert)}
    }
    address, server = serve(tmp_path, auth=auth)
    yield address, tokens
    server.terminate()
    server.wait(10)
    tokens.end()


def test_login_with_a_token_server(clean: Nano, tokens: tuple[str, TokenServer], layout: Path, tmp_path: Path) -> None:
    address, server = tokens
    env = {"HOME": str(tmp_path / "home"), "DOCKER_CONFIG": "", "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    login = ("login", "-u", "me", "--password-stdin", address)
    done = clean(*login, input=b"wrong", env=env, check=False)
    assert done.code == 1 and "who are you" in done.err
    clean(*login, input=b"secret", env=env)
    kept = json.loads((tmp_path / "auth.json").read_text())["auths"][address]
    assert kept["identitytoken"] == "long-lived"  # the password itself is not kept
    assert b"secret" not in base64.b64decode(kept["auth"])
    reference = f"{address}/team/app:1"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:secret"]
    subprocess.run([*copy, f"oci:{layout}", f"docker://{reference}"], check=True)
    server.asked.clear()
    clean("pull", "-q", reference, env=env)
    assert len(server.asked) == 1 and "repository:team/app:pull" in server.asked[0]
    clean("push", "-q", reference, env=env)
    assert "repository:team/app:pull,push" in server.asked[-1].replace("push,pull", "pull,push")
    clean("rmi", reference)


def test_a_token_that_runs_out_in_the_middle(
    store: ImageStore, tokens: tuple[str, TokenServer], layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry's own clock says so: 401 in the middle of a pull, and a new token, once."""
    from nanocontainer.image.auth import Credentials
    from nanocontainer.image.registry import Access, Registry

    address, server = tokens
    reference = f"{address}/team/app:2"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:secret"]
    subprocess.run([*copy, f"oci:{layout}", f"docker://{reference}"], check=True)
    server.asked.clear()
    server.lives = -70  # beyond the leeway that the registry allows: every token is old when it comes
    with pytest.raises(NotPermitted):
        pull(store, reference, access=Access(credentials=Credentials("me", "secret")))
    assert len(server.asked) == 2
    server.asked.clear()
    real = Registry.blob

    def blob(self: Registry, *args: Any) -> Any:
        self._token = self._token and self._token.replace(header="Bearer x.y.z")
        return real(self, *args)

    server.lives = 60
    monkeypatch.setattr(Registry, "blob", blob)
    pull(store, reference, access=Access(credentials=Credentials("me", "secret")))
    assert 2 <= len(server.asked) <= 4
    with pytest.raises(NanoError):
        pull(store, reference, access=Access(credentials=Credentials("me", "no")))
