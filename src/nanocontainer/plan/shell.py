"""The list as a script: what a shell and the usual programs make of the plan, for who wants to see it done by hand.

Every step gives its lines (Step.shell) and what takes them back (Step.undone); here they are put together. A shell
cannot do all things in the plan's order, and `Step.part` says where a step's lines go instead:

    host, inside   as its side: the script itself, or the part that runs in the new namespaces (a file, "inside")
    born           words of the chain of programs that leads inside: unshare, setsid, nsenter
    call           words for the system calls that no program makes: keyctl, seccomp; perl can
    privileges     options of the one setpriv
    exec, last     the command, and what the shell does that becomes it
    pivot          done from the host, while that shell waits

The last is the knack of it. pivot_root(2) changes the root of every process of the mount namespace that has the old
one. When the host's files are gone, so are setpriv and umount; so the first process gives up its rights before, as a
shell that needs no program any more, and waits. Then the host's part enters its mount namespace with nsenter, exchanges
the root under its feet, and lets it go on.

Cleaning up: beside each line that leaves something stands `undo '...'`, noted before it is done, as a journal is; a
trap runs these backwards however the script ends.
"""

from __future__ import annotations

from textwrap import indent, wrap

from ..record import Record
from . import shelltexts
from .step import NEWLINE, end_of, path_word, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .plan import Plan
    from .step import Step

WIDTH = 110


class Setting(Record):
    """Where a script works.

    title: what it makes, in words; notes: what else its reader must know. id: its own, in the names of all that it
    makes on the host. directory: its own, absent before and after. layer: the image's top layer, whose owner and mode
    the container's own directory gets, or those themselves (mode, owner, group).
    volumes: directories that must be there.
    """

    title: str
    notes: tuple[str, ...]
    id: str
    directory: str
    layer: str | tuple[int, int, int]
    volumes: tuple[str, ...] = ()


def as_script(plan: Plan, setting: Setting) -> str:
    """A POSIX shell script that makes the container of this plan, waits for it, and exits with its exit code."""
    parts = _Parts(plan, setting)
    host, born = parts.of("host", "host"), parts.of("born")
    inside = parts.of("inside", "inside")
    body = "\n\n".join(
        (
            _settings(setting),
            *([shelltexts.CALLS] if parts.kinds("call") or plan.find("AllowDevices") >= 0 else []),
            *host,
            _document(_inside(parts, inside)),
            "\n".join((*born, _birth(parts))),
            shelltexts.WAIT_READY,
            *parts.of("pivot"),
            shelltexts.END,
        )
    )
    return f"{_head(plan, setting, body)}\n{_functions(body, shelltexts.HOST_FUNCTIONS)}\n{body}\n"


class _Parts:
    """The steps' lines, sorted to the parts of the script that they go to."""

    def __init__(self, plan: Plan, setting: Setting) -> None:
        self.plan, self.setting = plan, setting
        self.terminal = plan.find("OpenTerminal") >= 0
        cgroup = plan.find("MakeCgroup")
        self.cgroup: str = getattr(plan.steps[cgroup], "path", "")
        # What the host prepares for the root file system waits until there is a mount namespace to do it in.
        late = [step for step in plan if step.side == "host" and step.part == "inside"]
        first = next(index for index, step in enumerate(plan) if type(step).__name__ == "AttachRootfs")
        numbers = {id(step): number for number, step in enumerate(plan, 1)}
        rest = [step for step in plan.steps[:first] if step not in late]
        self.steps = [(numbers[id(step)], step) for step in (*rest, *late, *plan.steps[first:])]

    def kinds(self, *parts: str) -> list[tuple[int, Step]]:
        return [(number, step) for number, step in self.steps if (step.part or step.side) in parts]

    def of(self, *parts: str) -> list[str]:
        """The paragraphs of some parts: a step's sentence, what undoes it, its lines. Words of chains: sentences."""
        found = []
        for number, step in self.kinds(*parts):
            lines = [_sentence(number, step)]
            if parts[0] in ("host", "inside", "pivot"):
                lines += self.lines(step.asked())
                lines += [f"undo {quote(line)}" for line in self.lines(step.undone())]
                lines += self.lines(step.shell())
            found.append("\n".join(lines))
        return found

    def words(self, *parts: str) -> list[str]:
        """The words of a chain of programs, a step a line."""
        return [
            line
            for _, step in self.kinds(*parts)
            if not (self.terminal and type(step).__name__ == "NewSession")
            for line in step.shell().split("\n")
        ]

    def lines(self, text: str) -> list[str]:
        """Lines in which the script's own directories have their names."""
        named = [line.replace(self.setting.directory, "$dir") for line in text.split("\n") if text]
        return [line if line.startswith("cgroup=") else line.replace(self.cgroup, "$cgroup") for line in named]


def _sentence(number: int, step: Step) -> str:
    text = " ".join((step.__doc__ or "").strip().split("\n\n")[0].split())
    return _comment(f"{number}. {type(step).__name__}: {text}")


def _comment(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in text)
    return "\n".join(wrap(shown, WIDTH, initial_indent="# ", subsequent_indent="#    "))


def _head(plan: Plan, setting: Setting, body: str) -> str:
    tools = " ".join(name for name in shelltexts.TOOLS if _used(name, body))
    needs = "Needs root, Linux 5.14 with cgroup v2 (or both versions), sh (dash), util-linux 2.38, coreutils, awk"
    needs += ", iproute2" if _used("ip", body) else ""
    needs += ", nftables" if _used("nft", body) else ""
    needs += "; and perl for what no program does (seccomp, device rules, keyring): it says what is left out without."
    notes = "\n#\n".join(_comment(note) for note in (needs, *setting.notes))
    return shelltexts.HEAD.format(
        title=_comment(setting.title), steps=len(plan), notes=notes, tools=tools,
        newline=shelltexts.NEWLINE if NEWLINE in body else "",
        interrupt=": # the terminal tells the command itself" if "tty -s" in body else "exit 130",
    )  # fmt: skip


def _used(name: str, text: str) -> bool:
    """Whether a command is there: at the beginning of a line, behind a blank, or in $(name ...) and 'name ...'."""
    return any(f"{before}{name} " in text for before in ("\n", " ", "(", "'"))


def _functions(body: str, table: dict[str, str]) -> str:
    """Those of the table that are used."""
    used: list[str] = []
    text = body
    for name in reversed(table):
        if _used(name, text):
            used.insert(0, table[name])
            text += table[name]
    return "\n".join(used)


def _settings(setting: Setting) -> str:
    parent = setting.directory.rpartition("/")[0]
    lines = [
        f"id={setting.id} # in all names of what this script makes; another one makes another container",
        f'dir={path_word(parent)}/"$id" # files of this container, gone at its end',
        'rootfs="$dir/rootfs"',
        '[ ! -e "$dir" ] || die "$dir exists: is this script running already? If not, remove it"',
        "undo " + quote(f'rm -rf --one-file-system "$dir"; rmdir {path_word(parent)} 2>/dev/null'),
        'mkdir -p "$dir/rootfs" "$dir/upper" "$dir/work"',
        *_like(setting.layer),
        'mkfifo -m 600 "$dir/go"',
    ]
    volumes = [volume.replace(setting.directory, "$dir") for volume in map(path_word, setting.volumes)]
    if volumes:
        lines += ["", "# Volumes and directories of the host, where they are missing; they stay"]
        lines += [f"[ -e {volume} ] || mkdir -p {volume}" for volume in volumes]
    return "\n".join(lines)


def _like(layer: str | tuple[int, int, int]) -> list[str]:
    if isinstance(layer, str):
        return [f'ch{what} --reference={path_word(layer)} "$dir/upper"' for what in ("mod", "own")]
    mode, uid, gid = layer
    return [f'chmod {mode:o} "$dir/upper"', f'chown {uid}:{gid} "$dir/upper"']


def _inside(parts: _Parts, paragraphs: list[str]) -> str:
    handed = [*parts.of("call"), *parts.of("privileges"), *parts.of("last"), *parts.of("exec")]
    body = "\n\n".join((*paragraphs, "\n".join(handed), _becoming(parts)))
    return f"{_functions(body, shelltexts.INSIDE_FUNCTIONS)}\n{body}"


def _document(inside: str) -> str:
    return shelltexts.WRITE_INSIDE.format(inside=inside, end=end_of(inside, "INSIDE"))


def _birth(parts: _Parts) -> str:
    words = [*parts.words("born"), 'sh -eu "$dir/inside"']
    return shelltexts.BIRTH.format(chain=_chain(words, "        "))


def _becoming(parts: _Parts) -> str:
    """The chain of programs of which the last becomes the command."""
    calls, options = parts.words("call"), parts.words("privileges")
    (_, command) = parts.kinds("exec")[0]
    env = command.shell().split("\n")[:-1]
    reaper = [step for _, step in parts.kinds("last") if type(step).__name__ == "StartReaper"]
    last = [line for _, step in parts.kinds("last") if step not in reaper for line in step.shell().split("\n")]
    end = reaper[0].shell().split("\n") if reaper else ['exec "$@" 7<&- 8>&- 9>&-']
    again = [f"export {quote(item)}" for item in _env(command) if item.partition("=")[0] in ("PWD", "OLDPWD")]
    if any(NEWLINE in line for line in (*last, *again)):
        last = [shelltexts.NEWLINE_WITHOUT_MARGIN, *last]
    text = "\n".join((shelltexts.AWAIT, *last, "unset PWD OLDPWD # the shell's own", *again, *end))
    return shelltexts.BECOME.format(
        chain=_chain([
            "call" if calls else "exec",
            *(f"    {word}" for word in calls),
            "setpriv",
            *(f"    {word}" for word in options),
            env[0],
            *(f"    {item}" for item in env[1:]),
            f"/proc/self/fd/7 -c {_single(text)} sh {' '.join(quote(word) for word in _args(command))}",
        ], "")
    )  # fmt: skip


def _single(text: str) -> str:
    """Lines in single quotes, to be read: with a backslash outside for each that is in them."""
    return "'\n" + indent(text, "    ").replace("'", "'\\''") + "'"


def _chain(words: Iterable[str], margin: str) -> str:
    return f" \\\n{margin}".join(words)


def _env(command: Any) -> tuple[str, ...]:
    found: tuple[str, ...] = command.env
    return found


def _args(command: Any) -> tuple[str, ...]:
    found: tuple[str, ...] = command.args
    return found


def lost(env: Iterable[str]) -> list[str]:
    """The names of an environment that no shell passes on: they are no names for it."""
    names = [item.partition("=")[0] for item in env]
    plain = "_abcdefghijklmnopqrstuvwxyz"
    return [
        name
        for name in names
        if not name or name[0].isdigit() or not set(name.lower()) <= set(plain + "0123456789") or not name.isascii()
    ]
