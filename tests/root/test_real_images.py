"""Real images live a whole life: pulled from a registry, a package installed, a web server reached, all of it removed.

Packages come from a repository that the test serves itself, over HTTP on the bridge's address: apt and apk do all they
do for any other package, and no test depends on the internet.
"""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .nano import Nano

pytestmark = pytest.mark.timeout(900)  # the first run of all makes the images

DEB = """\
set -e
mkdir -p /work/greet/DEBIAN /work/greet/usr/bin /repo
printf '#!/bin/sh\\necho hello from the package\\n' > /work/greet/usr/bin/greet
chmod 4755 /work/greet/usr/bin/greet
printf 'hello page\\n' > /work/greet/usr/page
chown www-data:www-data /work/greet/usr/page
ln /work/greet/usr/page /work/greet/usr/page-too
cat > /work/greet/DEBIAN/control <<END
Package: greet
Version: 1.0
Architecture: all
Maintainer: Tests <tests@localhost>
Depends: python3
Description: greets
END
printf '#!/bin/sh\\nset -e\\nmknod /usr/null c 1 3\\nuseradd --system greeter\\n' > /work/greet/DEBIAN/postinst
chmod 755 /work/greet/DEBIAN/postinst
dpkg-deb --build /work/greet /repo/greet_1.0_all.deb
cd /repo
{
    dpkg-deb --field greet_1.0_all.deb
    echo Filename: ./greet_1.0_all.deb
    echo Size: $(stat -c %s greet_1.0_all.deb)
    echo SHA256: $(sha256sum greet_1.0_all.deb | cut -d' ' -f1)
} > Packages
"""

APK = """\
set -e
mkdir -p /work/usr/bin
printf '#!/bin/sh\\necho hello from the package\\n' > /work/usr/bin/greet
cat > /work/usr/bin/answer <<'END'
#!/bin/sh
read line
echo "$line" >&2
while read header && [ ${#header} -gt 1 ]; do :; done
printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello page\\n'
END
chmod 4755 /work/usr/bin/greet
chmod 755 /work/usr/bin/answer
cd /repo
apk mkpkg --files /work --info name:greet --info version:1.0-r0 --info arch:noarch --info description:greets \\
    --info license:MIT --output greet-1.0-r0.apk
apk mkndx --allow-untrusted --output Packages.adb greet-1.0-r0.apk
"""


@contextmanager
def served(directory: Path) -> Iterator[int]:
    """A web server on all addresses of the host; its port."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def inspect(nano: Nano, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(nano("inspect", name).out)
    assert len(found) == 1
    return found[0]


def published(nano: Nano, name: str, port: str) -> int:
    return int(inspect(nano, name)["NetworkSettings"]["Ports"][port][0]["HostPort"])


def default_gateway(nano: Nano, name: str) -> str:
    """The host's address on the bridge, as the container's routing table says it."""
    for line in nano("exec", name, "cat", "/proc/net/route").out.splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    raise AssertionError(f"{name} has no default route")


def really_inside(nano: Nano, name: str) -> None:
    """Before a test changes files by exec: it is the container's files that exec sees, not the host's."""
    short = inspect(nano, name)["Id"][:12]
    assert nano("exec", name, "cat", "/etc/hostname").out == f"{short}\n"


def fetch(url: str, within: float = 10) -> bytes:
    """The body; tries again while the server is coming up."""
    deadline = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def logs_with(nano: Nano, name: str, word: str, within: float = 5) -> str:
    deadline = time.monotonic() + within
    while word not in (text := (result := nano("logs", name)).out + result.err):
        assert time.monotonic() < deadline, f"no {word!r} in the log: {text!r}"
        time.sleep(0.05)
    return text


def shell_on_a_terminal(nano: Nano, name: str, command: str, answer: str) -> None:
    with nano.pty("exec", "-it", name, "/bin/sh") as terminal:
        terminal.expect("[#$] ")
        terminal.send("stty size; " + command + "\r")
        terminal.expect("24 80")
        terminal.expect(answer)
        terminal.send("exit 7\r")
        assert terminal.wait() == 7
        assert terminal.settings() == terminal.before


def all_gone(nano: Nano, name: str) -> None:
    assert nano("ps", "-a", "--format", "{{.Names}}").out.split() == []
    missing = nano("inspect", name, check=False)
    assert missing.code == 1


def test_debian(clean: Nano, debian_image: str, pulled: Callable[[str], str], tmp_path: Path) -> None:
    nano, image = clean, pulled(debian_image)
    assert image in nano("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    assert "bookworm" in nano("run", "--rm", image, "cat", "/etc/os-release").out

    repository = tmp_path / "repo"
    repository.mkdir()
    repository.chmod(0o755)
    nano("run", "--rm", "-i", "-v", f"{repository}:/repo", image, "sh", input=DEB.encode())

    script = "while ! [ -e /usr/null ]; do sleep 0.1; done; cp /usr/page index.html; exec python3 -u -m http.server"
    nano("run", "-d", "--name", "web", "-p", "127.0.0.1::8000", "-w", "/srv", image, "sh", "-c", script)
    really_inside(nano, "web")
    gateway = default_gateway(nano, "web")
    with served(repository) as port:
        source = f"deb [trusted=yes] http://{gateway}:{port}/ ./"
        nano("exec", "web", "sh", "-c", f"rm -f /etc/apt/sources.list.d/*; echo '{source}' > /etc/apt/sources.list")
        nano("exec", "web", "apt-get", "-q", "update")
        unasked = ["-e", "DEBIAN_FRONTEND=noninteractive"]
        nano("exec", *unasked, "web", "apt-get", "-q", "install", "-y", "greet", timeout=120)
    assert nano("exec", "web", "greet").out == "hello from the package\n"
    stat = nano("exec", "web", "stat", "-c", "%U %h %F", "/usr/page", "/usr/page-too", "/usr/null").out
    assert stat.splitlines() == ["www-data 2 regular file", "www-data 2 regular file", "root 1 character special file"]
    assert nano("exec", "web", "stat", "-c", "%a", "/usr/bin/greet").out == "4755\n"
    assert nano("exec", "-u", "greeter", "web", "id", "-un").out == "greeter\n"
    assert nano("exec", "web", "python3", "-c", "import json, ssl, sqlite3; print(6 * 7)").out == "42\n"

    assert fetch(f"http://127.0.0.1:{published(nano, 'web', '8000/tcp')}/") == b"hello page\n"
    assert "GET / HTTP/1.1" in logs_with(nano, "web", "GET /")
    shell_on_a_terminal(nano, "web", "cat /etc/debian_version", r"\n12\.")

    nano("stop", "-t", "1", "web")
    state = inspect(nano, "web")["State"]
    assert (state["Status"], state["Running"]) == ("exited", False)
    nano("rm", "web")
    all_gone(nano, "web")


def test_alpine(clean: Nano, alpine_image: str, pulled: Callable[[str], str], tmp_path: Path) -> None:
    nano, image = clean, pulled(alpine_image)
    assert nano("run", "--rm", image, "/bin/sh", "-c", ". /etc/os-release; echo $ID").out == "alpine\n"

    repository = tmp_path / "repo"
    repository.mkdir()
    nano("run", "--rm", "-i", "-v", f"{repository}:/repo", image, "sh", input=APK.encode())

    script = "while ! [ -e /usr/bin/answer ]; do sleep 0.1; done; exec nc -lk -p 80 -e /usr/bin/answer"
    nano("run", "-d", "--name", "web", "-p", "127.0.0.1::80", image, "sh", "-c", script)
    really_inside(nano, "web")
    gateway = default_gateway(nano, "web")
    with served(repository) as port:
        nano("exec", "web", "sh", "-c", "> /etc/apk/repositories; rm -rf /etc/apk/repositories.d")
        url = f"http://{gateway}:{port}/Packages.adb"
        nano("exec", "web", "apk", "add", "--allow-untrusted", "--no-cache", "-X", url, "greet", timeout=120)
    assert nano("exec", "web", "greet").out == "hello from the package\n"
    assert nano("exec", "web", "stat", "-c", "%a", "/usr/bin/greet").out == "4755\n"

    assert fetch(f"http://127.0.0.1:{published(nano, 'web', '80/tcp')}/") == b"hello page\n"
    assert "GET / HTTP/1.1" in logs_with(nano, "web", "GET /")
    shell_on_a_terminal(nano, "web", "cat /etc/alpine-release", r"\n3\.")

    nano("stop", "-t", "0", "web")
    assert inspect(nano, "web")["State"]["Status"] == "exited"
    nano("rm", "web")
    all_gone(nano, "web")


def test_the_image_can_be_removed_and_pulled_again(clean: Nano, alpine_image: str) -> None:
    nano = clean
    nano("pull", alpine_image)
    nano("rmi", alpine_image)
    assert alpine_image not in nano("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    # run pulls what is missing, and says so on stderr only
    result = nano("run", "--rm", alpine_image, "echo", "here", timeout=120)
    assert result.out == "here\n"
    assert "pull" in result.err.lower() or "unable to find" in result.err.lower()


def test_from_another_machine(
    clean: Nano, debian_image: str, pulled: Callable[[str], str], tmp_path: Path
) -> None:
    """A network namespace plays a machine on the host's network: in through a published port, out through NAT."""
    nano, image = clean, pulled(debian_image)

    def run(command: str) -> None:
        subprocess.run(command.split(), check=True)

    run("ip netns add elsewhere")
    try:
        run("ip link add out0 type veth peer name eth0 netns elsewhere")
        run("ip addr add 192.0.2.1/24 dev out0")
        run("ip link set out0 up")
        run("ip -n elsewhere addr add 192.0.2.2/24 dev eth0")
        run("ip -n elsewhere link set eth0 up")
        run("ip -n elsewhere link set lo up")

        web = ["python3", "-u", "-m", "http.server"]
        nano("run", "-d", "--name", "web", "-p", "18080:8000", "-w", "/etc", image, *web)
        elsewhere = ["ip", "netns", "exec", "elsewhere", "/usr/bin/python3"]
        get = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"
        for _ in range(50):
            inbound = subprocess.run(
                [*elsewhere, "-c", get, "http://192.0.2.1:18080/debian_version"], capture_output=True, text=True
            )
            if inbound.returncode == 0:
                break
            time.sleep(0.1)
        assert inbound.stdout.startswith("12."), inbound.stderr
        # who asked: the log has the real address, not the bridge's
        assert "192.0.2.2" in logs_with(nano, "web", "GET /debian_version")

        (tmp_path / "page").write_text("from far away")
        server = subprocess.Popen(
            [*elsewhere, "-u", "-m", "http.server", "9000", "--directory", str(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            for _ in range(50):
                outbound = nano("exec", "web", "python3", "-c", get, "http://192.0.2.2:9000/page", check=False)
                if outbound.code == 0 or "refused" not in outbound.err:
                    break
                time.sleep(0.1)
            assert outbound.out == "from far away", outbound
        finally:
            server.kill()
            assert server.stderr is not None
            said = server.stderr.read().decode()
            server.stderr.close()
            server.wait()
        assert said.startswith("192.0.2.1 "), said  # NAT: the other machine sees the host, it has no way to the bridge
        nano("rm", "-f", "web")
    finally:
        run("ip netns del elsewhere")
        subprocess.run(["ip", "link", "del", "out0"], capture_output=True)
