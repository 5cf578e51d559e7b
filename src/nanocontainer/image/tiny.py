"""The built-in image `tiny`: a small userland made of this host's own programs, so that a first `run` needs no network.

With a busybox on the host it is that one file, with its applets as hard links; statically linked it needs nothing else.
Without one it is the host's shell and core tools with the libraries they need. The same files give the same image id.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile

from ..errors import Corrupt, InvalidInput, NotFound, Unsupported
from .elf import libraries, read_program
from .install import Blob, Wanted, install
from .manifest import host_platform
from .progress import Progresses
from .reference import parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .model import Image
    from .store import ImageStore

NAME = "docker.io/library/tiny:latest"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOOLS = (
    "sh", "awk", "base64", "basename", "cat", "chgrp", "chmod", "chown", "clear", "cmp", "cp", "cut", "date", "dd",
    "df", "diff", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "free", "getent", "grep",
    "groups", "gzip", "head", "hostname", "id", "ip", "kill", "killall", "ldd", "less", "ln", "ls", "md5sum",
    "mkdir", "mkfifo", "mknod", "mktemp", "more", "mount", "mv", "nc", "nice", "nohup", "nproc", "od", "pgrep",
    "ping", "pkill", "printenv", "printf", "ps", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq",
    "setsid", "sha256sum", "sleep", "sort", "stat", "stty", "sync", "tail", "tar", "tee", "test", "timeout",
    "touch", "tr", "true", "tty", "umount", "uname", "uniq", "unshare", "uptime", "vi", "watch", "wc", "wget",
    "which", "whoami", "xargs", "yes",
)  # fmt: skip
_DIRECTORIES = (
    "bin", "dev", "etc", "home", "lib", "lib64", "mnt", "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
    "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/sbin", "var", "var/log", "var/tmp",
)  # fmt: skip
_MODES = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777, "proc": 0o555, "sys": 0o555}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nmail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'NAME="tiny"\nID=tiny\nPRETTY_NAME="tiny (made of the host\'s own programs)"\n',
    "etc/hostname": "",
    "etc/hosts": "",
    "etc/resolv.conf": "",
}


def is_tiny(name: str) -> bool:
    """Whether a reference from outside means the built-in image."""
    try:
        return str(parse_reference(name)) == NAME
    except InvalidInput:
        return False


def ensure_tiny(store: ImageStore) -> Image:
    """The image `tiny`, made now if it is not there (or damaged). Unsupported where the host has not even a shell."""
    try:
        image = store.find(NAME)
        store.layer_paths(image)
        return image
    except (NotFound, Corrupt):
        pass
    archive, stamp = _archive()
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    blob = Blob(lambda: iter((archive,)), len(archive), name="the built-in image tiny")
    return install(store, [Wanted(_config(diff_id, stamp), [blob], names=[NAME])], Progresses(None))[0]


def _config(diff_id: str, stamp: int) -> bytes:
    import json
    from time import gmtime, strftime

    platform = host_platform()
    created = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(stamp))
    config: dict[str, object] = {
        "architecture": platform.architecture, "os": "linux", "created": created,
        "config": {"Env": [f"PATH={_PATH}"], "Cmd": ["sh"], "WorkingDir": "/"},
        "history": [{"created": created, "created_by": "made of the host's own programs"}],
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }  # fmt: skip
    if platform.variant:
        config["variant"] = platform.variant
    return json.dumps(config, separators=(",", ":"), sort_keys=True).encode()


def _archive() -> tuple[bytes, int]:
    """The layer as a tar, and the time of the newest file in it."""
    files, links = _busybox() or _host_tools()
    stamp = max(int(os.stat(source).st_mtime) for source in files.values())
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        parents = {os.path.dirname(name) for name in (*files, *links)}
        above = {parent[:at] for parent in parents for at, char in enumerate(f"{parent}/") if char == "/"}
        for name in sorted({*_DIRECTORIES, *above} - {""}):
            _add(tar, name, stamp, _MODES.get(name, 0o755), tarfile.DIRTYPE)
        for name, text in _FILES.items():
            _add(tar, name, stamp, 0o644, tarfile.REGTYPE, text.encode())
        for name, source in sorted(files.items()):
            with open(source, "rb") as file:
                _add(tar, name, stamp, 0o755, tarfile.REGTYPE, file.read())
        for name, target in sorted(links.items()):
            _add(tar, name, stamp, 0o755, tarfile.LNKTYPE, link=target)
    return output.getvalue(), stamp


def _add(
    tar: tarfile.TarFile, name: str, stamp: int, mode: int, kind: bytes, data: bytes = b"", link: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, stamp, len(data), link
    tar.addfile(info, io.BytesIO(data))


def _busybox() -> tuple[dict[str, str], dict[str, str]] | None:
    """name in the image -> host file, and hard link -> name; None without a usable busybox."""
    path = shutil.which("busybox", path=f"/bin:/usr/bin:{os.environ.get('PATH', '')}")
    needed = libraries(path) if path else None
    if path is None or needed is None:
        return None
    applets = _applets(path)
    if not {"sh", "ls", "cat"} <= {os.path.basename(applet) for applet in applets}:
        return None
    files = {"bin/busybox": os.path.realpath(path), **_placed(needed)}
    return files, {applet: "bin/busybox" for applet in applets if applet not in files}


def _applets(path: str) -> list[str]:
    """`--list-full` gives their usual places; older or smaller builds have only `--list`, or nothing."""
    for option, prefix in (("--list-full", ""), ("--list", "bin/")):
        try:
            done = subprocess.run([path, option], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return []
        names = [prefix + line.strip().lstrip("/") for line in done.stdout.splitlines() if line.strip()]
        if done.returncode == 0 and names and all(".." not in name for name in names):
            return [name for name in names if "/" in name]  # linuxrc is for the start of a machine
    return []


def _host_tools() -> tuple[dict[str, str], dict[str, str]]:
    """The same from the host's shell and core tools. Scripts are left out: they need who knows what."""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    places: dict[str, str] = {}  # a host file that is already in -> its name
    for tool in _TOOLS:
        path = shutil.which(tool, path=_PATH)
        source = os.path.realpath(path) if path else ""
        if not source:
            continue
        if source in places:
            links[f"bin/{tool}"] = places[source]
            continue
        needed = libraries(source)
        if needed is None or read_program(source) is None:
            continue
        files[f"bin/{tool}"] = source
        places[source] = f"bin/{tool}"
        files.update(_placed(needed))
    if "bin/sh" not in files:
        raise Unsupported("cannot make the built-in image tiny", "this host has no shell", "apt install busybox-static")
    return files, links


def _placed(needed: list[str]) -> dict[str, str]:
    """Where libraries go: the loader to its fixed place, the others beside libc, where every loader looks.

    libnss_files is what an older glibc loads by itself to read /etc/passwd.
    """
    if not needed:
        return {}
    loader, *others = needed
    placed = {loader.lstrip("/"): os.path.realpath(loader)}
    home = next(
        (os.path.dirname(path) for path in others if os.path.basename(path).startswith("libc.")),
        os.path.dirname(loader),
    )
    for path in [*others, f"{home}/libnss_files.so.2"]:
        if os.path.exists(path):
            placed[f"{home.lstrip('/')}/{os.path.basename(path)}"] = os.path.realpath(path)
    return placed
