"""Reading ELF files: what a program needs to run in a root file system of its own (elf(5), ld.so(8)).

Instead of running ldd, which runs the program's own loader and is not everywhere: the names of the needed libraries
stand in the dynamic section, and where to look for them is known.
"""

from __future__ import annotations

import glob
import os

from ..record import Record

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


class Program(Record):
    """machine: class and architecture, comparable only. interpreter: the loader's path, empty: statically linked."""

    machine: tuple[int, int]
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()  # RPATH and RUNPATH


def read_program(path: str) -> Program | None:
    """A program or library; None where the file is something else, or broken."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return _parse(data, os.path.dirname(path)) if data[:4] == b"\x7fELF" else None
    except (OSError, IndexError, ValueError):
        return None


def program_in(data: bytes, directory: str) -> Program | None:
    """As read_program(), of a file's content. directory: what $ORIGIN means."""
    try:
        return _parse(data, directory) if data[:4] == b"\x7fELF" else None
    except (IndexError, ValueError):
        return None


def libraries(path: str) -> list[str] | None:
    """Paths of the loader and of all libraries that a program needs, in a fixed order. None where one is missing."""
    program = read_program(path)
    if program is None:
        return None
    found: dict[str, str] = {}
    if program.interpreter:
        found[os.path.basename(program.interpreter)] = program.interpreter
    todo = [program]
    while todo:
        one = todo.pop()
        for name in one.needed:
            if name in found:
                continue
            place = _locate(name, (*one.search, *program.search), program.machine)
            if place is None:
                return None
            found[name] = place
            library = read_program(place)
            if library is not None:
                todo.append(library)
    return list(found.values())


def _locate(name: str, search: tuple[str, ...], machine: tuple[int, int]) -> str | None:
    if "/" in name:
        return name if os.path.exists(name) else None
    for directory in (*search, *_directories()):
        place = f"{directory}/{name}"
        library = read_program(place) if os.path.exists(place) else None
        if library is not None and library.machine == machine:
            return place
    return None


def _directories() -> list[str]:
    """Where glibc's and musl's loaders look: their configuration, then the built-in places."""
    found: list[str] = []
    for file in sorted(glob.glob("/etc/ld-musl-*.path")):
        with open(file, encoding="utf-8", errors="replace") as opened:
            found += opened.read().replace(":", "\n").split()
    for file in ["/etc/ld.so.conf", *sorted(glob.glob("/etc/ld.so.conf.d/*.conf"))]:
        try:
            with open(file, encoding="utf-8", errors="replace") as opened:
                found += [line.strip() for line in opened if line.startswith("/")]
        except OSError:
            continue
    triplets = sorted(glob.glob("/lib/*-linux-gnu*") + glob.glob("/usr/lib/*-linux-gnu*"))
    return [*triplets, *found, "/lib64", "/usr/lib64", "/lib", "/usr/local/lib", "/usr/lib"]


def _parse(data: bytes, origin: str) -> Program:
    wide, order = data[4] == 2, "little" if data[5] == 1 else "big"
    word = 8 if wide else 4

    def number(at: int, size: int) -> int:
        if at + size > len(data):
            raise ValueError("the file ends too early")
        return int.from_bytes(data[at : at + size], "little" if order == "little" else "big")

    def text(at: int) -> str:
        return os.fsdecode(data[at : data.index(b"\0", at)])

    table = number(32 if wide else 28, word)
    step, count = number(54 if wide else 42, 2), number(56 if wide else 44, 2)
    loads: list[tuple[int, int, int]] = []  # address, offset, size
    interpreter, dynamic = "", (0, 0)
    for head in range(table, table + step * count, step):
        kind = number(head, 4)
        offset, address = number(head + (8 if wide else 4), word), number(head + (16 if wide else 8), word)
        size = number(head + (32 if wide else 16), word)
        if kind == _PT_LOAD:
            loads.append((address, offset, size))
        elif kind == _PT_INTERP:
            interpreter = text(offset)
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, size)
    entries = []
    for at in range(dynamic[0], sum(dynamic), 2 * word):
        tag, value = number(at, word), number(at + word, word)
        if tag == 0:
            break
        entries.append((tag, value))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    base = next(
        (strings - address + offset for address, offset, size in loads if address <= strings < address + size), 0
    )
    names = {
        tag: [text(base + value) for one, value in entries if one == tag]
        for tag in (_DT_NEEDED, _DT_RPATH, _DT_RUNPATH)
    }
    search = [part for paths in names[_DT_RPATH] + names[_DT_RUNPATH] for part in paths.split(":") if part]
    places = tuple(part.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for part in search)
    return Program((data[4], number(18, 2)), interpreter, tuple(names[_DT_NEEDED]), places)
