"""Why a command cannot be run: what execve(2) and the dynamic loader need, looked up in the container's own files.

execve(2) says ENOENT for a missing file, for a missing loader (elf(5), PT_INTERP) and for a missing interpreter of a
script alike, and ENOEXEC for another machine's program. So it is all looked at by hand, in the layers, as the container
would see it (rootfs/strata.py); nothing is mounted or run, and all of it is hostile.
"""

from __future__ import annotations

import os
import stat

from ..image.elf import program_in
from ..kernel.calls import Kernel
from ..kernel.safepath import EXACT
from ..record import Record
from ..rootfs import strata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = 64 << 20  # bytes of a program that are read
_LIBRARIES = 200  # of one program
_MACHINES = {
    62: "x86_64", 3: "i386", 183: "aarch64", 40: "arm", 243: "riscv64", 22: "s390x", 21: "ppc64le", 8: "mips",
    258: "loongarch64",
}  # e_machine of elf(5)
_RUNS = {"x86_64": (62, 3), "aarch64": (183, 40)}  # machine → what its kernel runs
_TRIPLETS = {62: "x86_64-linux-gnu", 3: "i386-linux-gnu", 183: "aarch64-linux-gnu", 40: "arm-linux-gnueabihf"}


class Checkup(Record):
    """What was found of a command. problem: in words, empty where it can be run; hint: what to do; path: its place."""

    problem: str = ""
    hint: str = ""
    path: str = ""


class _Files:
    """The files of a container, as it sees them. mounts: where something of the host's covers them: place → source."""

    def __init__(self, layers: Sequence[str], mounts: dict[str, str]) -> None:
        self.layers, self.mounts = layers, mounts

    def find(self, path: str) -> tuple[str, strata.Finding | None, str]:
        """(the path without links, what is there or None, the directory of the host in which that path is)."""
        for place in sorted(self.mounts, key=len, reverse=True):
            if path == place or path.startswith(f"{place}/"):
                stack: Sequence[str] = [self.mounts[place]]
                trace = strata.trace(stack, path[len(place) :] or "/")
                break
        else:
            stack = self.layers
            trace = strata.trace(stack, path)
        if not trace.exists:
            return trace.resolved, None, ""
        top = next((one for one in trace.findings if one.path == trace.resolved), None)
        return trace.resolved, top, stack[top.layer] if top else ""

    def read(self, path: str, most: int = _MOST) -> bytes:
        """The content of a plain file; b"" where it is something else. Opened without following any link."""
        resolved, found, top = self.find(path)
        if found is None or found.kind != "file":
            return b""
        try:
            root = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                how = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
                fd = Kernel().openat2(root, resolved.lstrip("/"), how, 0, EXACT)
            finally:
                os.close(root)
        except OSError:
            return b""
        with open(fd, "rb") as file:
            return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""

    def exists(self, path: str) -> bool:
        return self.find(path)[1] is not None

    def names(self, directory: str) -> set[str]:
        """The names in a directory, of all layers."""
        resolved, found, _ = self.find(directory)
        names: set[str] = set()
        if found is not None and found.kind == "directory":
            for layer in self.layers:
                try:
                    names.update(os.listdir(f"{layer}{resolved}")[:5000])
                except OSError:
                    continue
        return names


def check_command(
    layers: Sequence[str], args: Sequence[str], env: Sequence[str], cwd: str, machine: str, mounts: dict[str, str]
) -> Checkup:
    """Look at a container's command. layers: directories, top first; mounts: place inside → directory of the host."""
    files = _Files(layers, mounts)
    name = args[0]
    if "/" not in name:
        return _in_path(files, name, env, machine)
    path = name if name.startswith("/") else os.path.normpath(f"{cwd.rstrip('/')}/{name}")
    return _check(files, path, machine)


def _in_path(files: _Files, name: str, env: Sequence[str], machine: str) -> Checkup:
    path = next((item[5:] for item in reversed(env) if item.startswith("PATH=")), "")
    places = [part for part in path.split(":") if part.startswith("/")]
    refused = Checkup()
    for place in places:
        one = _check(files, f"{place}/{name}", machine)
        if one.path and not one.problem:
            return one
        if one.path and not refused.problem:
            refused = one
    if refused.problem:
        return refused
    import difflib

    there = sorted({found for place in places for found in files.names(place)})
    near = difflib.get_close_matches(name, there, 3, 0.6)
    hint = f"it has {' and '.join(near)}: did you mean that?" if near else "install it in the image, or give its path"
    return Checkup(f"there is no {name} in PATH ({path})", hint)


def _check(files: _Files, path: str, machine: str) -> Checkup:
    resolved, found, _ = files.find(path)
    if found is None:
        trace = f" (a link to {resolved}, which is not there)" if resolved != os.path.normpath(path) else ""
        return Checkup(f"there is no file {path}{trace}", "the image may not have it, or a mount may hide it")
    if found.kind != "file":
        return Checkup(f"{path} is a {found.kind}", "name a program", path)
    if not int(found.mode, 8) & 0o111:
        return Checkup(f"{path} is not executable: its mode is {found.mode}", f"chmod +x {path} in the image", path)
    data = files.read(path)
    if data[:2] == b"#!":
        return _script(files, path, data, machine)
    if data[:4] == b"\x7fELF":
        return _program(files, path, data, machine)
    if not data:
        return Checkup(f"{path} is empty", "", path)
    return Checkup(f"{path} is neither a program for Linux (ELF) nor a script that begins with #!",
                   "a shell would run it as a script: give it a first line such as #!/bin/sh", path)  # fmt: skip


def _script(files: _Files, path: str, data: bytes, machine: str) -> Checkup:
    line = data[2:256].split(b"\n")[0]
    words = os.fsdecode(line).split()
    interpreter = words[0] if words else ""
    if line.endswith(b"\r"):
        name = os.fsdecode(line.rstrip(b"\r")).strip()
        return Checkup(f"the first line of {path} ends with a carriage return, as on Windows: the kernel looks for "
                       f"{name!r} with that character behind it", f"sed -i 's/\\r$//' {path}", path)  # fmt: skip
    if not files.exists(interpreter):
        return Checkup(f"{path} is a script for {interpreter}, which the image does not have",
                       f"install {interpreter}, or change the first line", path)  # fmt: skip
    if interpreter.rpartition("/")[2] == "env" and len(words) > 1 and "=" not in words[1]:
        name = words[2] if words[1] == "-S" and len(words) > 2 else words[1]
        places = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
        if not any(files.exists(f"{place}/{name}") for place in places):
            return Checkup(f"{path} is a script for {name}, which the image does not have", f"install {name}", path)
    one = _program(files, interpreter, files.read(interpreter), machine)
    return one.replace(path=path)


def _program(files: _Files, path: str, data: bytes, machine: str) -> Checkup:
    program = program_in(data, os.path.dirname(path))
    number = int.from_bytes(data[18:20], "big" if data[5:6] == b"\2" else "little")
    if machine in _RUNS and data[:4] == b"\x7fELF" and number not in _RUNS[machine]:
        theirs = _MACHINES.get(number, f"machine {number}")
        return Checkup(f"{path} is a program for {theirs}, this host is {machine}",
                       "pull the image for this platform (--platform), or let qemu-user and binfmt_misc run it",
                       path)  # fmt: skip
    if program is None:
        return Checkup("" if data[:4] != b"\x7fELF" else f"{path} is broken: no valid ELF file", "", path)
    if program.interpreter and not files.exists(program.interpreter):
        kind = "musl" if "musl" in program.interpreter else "glibc"
        return Checkup(f"{path} needs the loader {program.interpreter} ({kind}), which the image does not have",
                       "it was built for another distribution: link it statically, or take an image that has it",
                       path)  # fmt: skip
    missing = _missing(files, path, program.needed, program.search, number)
    if missing:
        return Checkup(f"{path} needs {'the libraries' if len(missing) > 1 else 'the library'} {', '.join(missing)}, "
                       "which the image does not have where the loader looks", "install what provides "
                       f"{'them' if len(missing) > 1 else 'it'}", path)  # fmt: skip
    return Checkup(path=path)


def _missing(files: _Files, path: str, needed: Sequence[str], search: Sequence[str], number: int) -> list[str]:
    """The libraries that are found nowhere; those of libraries too."""
    places = [*search, *_configured(files), f"/lib/{_TRIPLETS.get(number)}", f"/usr/lib/{_TRIPLETS.get(number)}",
              "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"]  # fmt: skip
    missing, done, todo = [], set[str](), list(needed)
    while todo and len(done) < _LIBRARIES:
        name = todo.pop(0)
        if name in done:
            continue
        done.add(name)
        where = next((place for place in ([name] if "/" in name else [f"{part}/{name}" for part in places])
                      if place.startswith("/") and files.exists(place)), "")  # fmt: skip
        if not where:
            missing.append(name)
            continue
        library = program_in(files.read(where), os.path.dirname(where))
        if library is not None:
            todo += library.needed
            places += [place for place in library.search if place not in places]
    return missing


def _configured(files: _Files) -> list[str]:
    """Where the configuration of the loaders leads: ld.so.conf(5) of glibc, ld-musl-*.path of musl."""
    found: list[str] = []
    for name in sorted(files.names("/etc")):
        if name.startswith("ld-musl-") and name.endswith(".path"):
            found += os.fsdecode(files.read(f"/etc/{name}", 65536)).replace(":", "\n").split()
    parts = [f"/etc/ld.so.conf.d/{name}" for name in sorted(files.names("/etc/ld.so.conf.d"))[:100]]
    for file in ["/etc/ld.so.conf", *parts]:
        found += [line.strip() for line in os.fsdecode(files.read(file, 65536)).split("\n") if line.startswith("/")]
    return found
