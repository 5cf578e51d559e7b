"""Completion: the scripts of the shells, and the hidden __complete that knows what can stand at a place.

`nanocontainer __complete -- WORD... LAST` prints candidates for LAST, one a line. It only reads directories of the
state: no engine is made, nothing is started or changed, and what cannot be read has no candidates.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput
from ..paths import Paths
from . import flags, verbs
from .main import GLOBAL, _load
from .output import out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .main import App

BASH = """\
# bash completion for nanocontainer. To load it:  source <(nanocontainer completion bash)
_nanocontainer() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$' \\t\\n' word before reply file
    local -a words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    # To bash a word ends at = and :, which are part of ours (--pull=always, debian:12): it wants what stands behind.
    before=${word%"${word##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r reply; do
        if [[ $reply == :files ]]; then
            compopt -o filenames
            while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "${word#"$before"}")
        else
            COMPREPLY+=("${reply#"$before"}")
        fi
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2> /dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=,] ]]; then compopt -o nospace; fi
}
complete -F _nanocontainer nanocontainer nanoc
"""
ZSH = """\
#compdef nanocontainer nanoc
# zsh completion for nanocontainer. To load it:  source <(nanocontainer completion zsh)
_nanocontainer() {
    local -a found bare
    found=("${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)}")
    if [[ ${found[1]} == :files ]]; then
        _files
    elif [[ -n ${found[1]} ]]; then
        bare=(${(M)found:#*[=,]})
        found=(${found:#*[=,]})
        (( $#bare )) && compadd -S '' -- "${bare[@]}"
        (( $#found )) && compadd -- "${found[@]}"
    fi
}
compdef _nanocontainer nanocontainer nanoc
"""
FISH = """\
# fish completion for nanocontainer. To load it:  nanocontainer completion fish | source
function __nanocontainer_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete -- $words[2..-1] 2> /dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else if set -q found[1]
        printf '%s\\n' $found
    end
end
complete -c nanocontainer -f -a '(__nanocontainer_complete)'
complete -c nanoc -f -a '(__nanocontainer_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
FILES = ":files"  # the shell shall complete a file name

_FILE_FLAGS = frozenset(("env-file", "label-file", "cidfile", "input", "output", "root", "runroot", "volume", "device"))
_FORMS = ("short", "text", "json", "markdown", "html")
_VALUES: dict[str, tuple[str, ...]] = {  # of a flag; of one verb's flag, where it means something else there
    "anatomy format": ("text", "json", "html"),
    "save format": ("docker-archive", "oci-archive", "oci-dir"),
    "save compress": ("none", "gzip", "zstd"),
    "push compress": ("gzip", "zstd"),
    "anatomy only": (
        "processes", "namespaces", "cgroup", "layers", "mounts", "network", "capabilities", "seccomp", "security",
        "devices",
    ),
    "compare format": ("text", "json", "html"),
    "exec explain": (*_FORMS, "live"),
    "run explain": (*_FORMS, "script", "live"),
    "start explain": (*_FORMS, "live"),
    "trace format": ("table", "svg", "chrome", "json"),
    "attach": ("stdin", "stdout", "stderr"),
    "cgroupns": ("private", "host"),
    "explain": _FORMS,
    "format": ("table", "json"),
    "ipc": ("private", "shareable", "host", "container:"),
    "lang": ("en", "zh"),
    "log-driver": ("json-file", "none"),
    "log-opt": ("max-size=", "max-file="),
    "mount": ("type=bind,", "type=volume,", "type=tmpfs,", "type=image,"),
    "pid": ("host", "container:"),
    "platform": ("linux/amd64", "linux/arm64"),
    "pull": ("always", "missing", "newer", "never"),
    "restart": ("no",),
    "security-opt": ("no-new-privileges", "seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"),
    "signal": ("HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"),
    "stop-signal": ("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"),
    "tail": ("all", "10", "100"),
    "type": ("container", "image"),
    "uts": ("host",),
}


def completion(app: App, given: flags.Given) -> int:
    """`completion SHELL`."""
    shell = given.args[0]
    if shell not in SCRIPTS:
        raise InvalidInput(f"there is no completion for {shell!r}", f"there is one for {', '.join(SCRIPTS)}")
    out(SCRIPTS[shell])
    return 0


def complete(app: App, given: flags.Given) -> int:
    """`__complete -- WORD... LAST`. An error here would only disturb who types: then there are no candidates."""
    words = given.args or [""]
    out("".join(f"{word}\n" for word in candidates(words, _paths(words))))
    return 0


def _paths(words: list[str]) -> Paths:
    """Where to look: as the words that stand before the verb say."""
    given = {word: words[at + 1] for at, word in enumerate(words[:-1])}
    root, run = given.get("--root", ""), given.get("--runroot", "")
    default = Paths.default()
    return Paths(root or default.state, run or default.run)


def candidates(words: list[str], paths: Paths) -> list[str]:
    """What can stand for the last of these words (without the program's name)."""
    last = words[-1]
    before = _without_global_flags(words[:-1])
    if before is None:
        return [FILES]
    found = verbs.find(before)
    if found is None:
        return _starting(_words(before, last), last)
    said, verb, rest = found
    command: flags.Command = getattr(_load(verb[0]), verb[1])
    return _of_command(said, command, rest, last, paths)


def _without_global_flags(words: list[str]) -> list[str] | None:
    """The words from the verb on; None where the next word is the value of a global flag."""
    names = {f"--{row[0]}" for row in GLOBAL if not isinstance(row, str) and row[2] != "bool"}
    at = 0
    while at < len(words) and words[at][:1] == "-":
        at += 2 if words[at] in names else 1
    return None if at > len(words) else words[at:]


def _words(before: list[str], last: str) -> Iterable[str]:
    """Verbs, words of a group, or global flags."""
    if not before:
        return _flag_words(GLOBAL) if last[:1] == "-" else [*verbs.VERBS, *verbs.GROUPS, "help"]
    if before[0] == "help":
        return [*verbs.VERBS, *verbs.GROUPS]
    if len(before) == 1 and before[0] in verbs.GROUPS:
        return verbs.GROUPS[before[0]][1]
    return ()


def _of_command(said: str, command: flags.Command, rest: list[str], last: str, paths: Paths) -> list[str]:
    rows = {row[0]: row for row in command.flags if not isinstance(row, str)}
    letters = {row[1]: row[0] for row in rows.values() if row[1]}
    args: list[str] = []
    wanting = ""  # the flag whose value comes next
    for word in rest:
        if wanting:
            wanting = ""
        elif word[:2] == "--" and len(word) > 2:
            name, equals, _ = word[2:].partition("=")
            wanting = "" if equals or name not in rows or _is_bare(rows[name]) else name
        elif word[:1] == "-" and len(word) > 1:
            wanting = _wanting(word[1:], rows, letters)
        else:
            args.append(word)
            if not command.interspersed:
                break
    if wanting:
        return _value(said, wanting, last, "", paths)
    ended = args and not command.interspersed
    if last[:2] == "--" and "=" in last and not ended:
        name, _, text = last[2:].partition("=")
        return _value(said, name, text, f"--{name}=", paths)
    if last[:1] == "-" and not ended:
        return _starting(_flag_words(command.flags), last)
    group, _, word = said.rpartition(" ")
    return _argument(said if group in ("image", "network", "egress") else word, len(args), last, paths)


def _is_bare(row: flags.Row) -> bool:
    return row[2] in ("bool", "optional")


def _wanting(letters_said: str, rows: dict[str, flags.Row], letters: dict[str, str]) -> str:
    """The flag at the end of -itv that still wants its value, or ""."""
    for index, letter in enumerate(letters_said):
        name = letters.get(letter, "")
        if not name:
            return ""
        if not _is_bare(rows[name]):
            return name if index == len(letters_said) - 1 else ""
    return ""


def _flag_words(table: flags.Table) -> list[str]:
    shown = [row for row in table if not isinstance(row, str) and row[4]]
    return [*(f"--{row[0]}" if _is_bare(row) else f"--{row[0]}=" for row in shown), "--help"]


def _value(said: str, name: str, text: str, before: str, paths: Paths) -> list[str]:
    """Values of a verb's flag. before: what stands in front of them in the same word."""
    if name in ("network", "net"):
        known: Iterable[str] = dict.fromkeys(("bridge", "host", "none", "container:", *_listed(paths.networks)))
        if text.startswith("container:"):
            known = [f"container:{other}" for other in _listed(paths.names)]
    elif name in ("filter",):
        known = ("id=", "label=", "name=", "status=running", "status=exited", "status=created", "ancestor=")
    elif name in ("cap-add", "cap-drop"):
        from ..kernel.caps import NAMES

        known = ("ALL", *(capability.removeprefix("CAP_") for capability in NAMES))
    elif name in ("without", "break-at"):
        from ..plan.omission import OPENINGS

        known = [step for step, opening in OPENINGS.items() if name == "break-at" or not opening.never]
        return [before + step for step in known if step.lower().startswith(text.lower())]
    elif values := _VALUES.get(f"{said} {name}") or _VALUES.get(name):
        known = values
        if text.startswith("container:"):
            known = [f"container:{other}" for other in _listed(paths.names)]
    elif name in _FILE_FLAGS and not before:
        return [FILES]
    else:
        return []
    return [before + word for word in _starting(known, text)]


def _argument(verb: str, number: int, last: str, paths: Paths) -> list[str]:
    """Arguments by verb: containers, images, both, or a file."""
    if verb.startswith("network "):
        networks = dict.fromkeys(("bridge", *_listed(paths.networks)))
        if verb in ("network rm", "network remove", "network inspect"):
            return _starting(networks, last)
        if verb == "network reload":
            return _starting([*networks, *_listed(paths.names)], last)
        if verb in ("network connect", "network disconnect") and number < 2:
            return _starting(_listed(paths.names) if number else networks, last)
        return []
    if verb.startswith("egress "):
        return _starting(_listed(paths.names), last) if number == 0 else []
    if verb == "port":
        return _starting([*(() if number else ("add", "rm")), *_listed(paths.names)], last) if number < 2 else []
    if verb == "completion":
        return _starting(SCRIPTS, last) if number == 0 else []
    if verb == "learn":
        from .lessons.lesson import NAMES

        return _starting([*NAMES, "next", "all"], last) if number == 0 else []
    if verb in ("run", "create", "trace"):
        return _starting(_images(paths), last) if number == 0 else [FILES]
    if verb == "exec":
        return _starting(_listed(paths.names), last) if number == 0 else [FILES]
    if verb == "inspect":
        return _starting([*_listed(paths.names), *_images(paths)], last)
    if verb == "import" or verb in ("image import", "image load"):
        return [FILES] if number == 0 and verb.endswith("import") else []
    if verb == "image files" and number:
        return []
    if verb in ("rmi", "tag", "pull", "push", "save", "history", "images") or verb.startswith("image "):
        return _starting(_images(paths), last)
    if verb in ("anatomy", "attach", "commit", "export", "logs", "log") and number:
        return []
    if verb == "compare":
        return _starting([*_listed(paths.names), "host", "pid:"], last) if number < 2 else []
    if verb in (
        "anatomy",
        "attach",
        "commit",
        "export",
        "kill",
        "log",
        "logs",
        "pause",
        "remove",
        "restart",
        "rm",
        "start",
        "stop",
        "unpause",
        "wait",
        "why",
    ):
        return _starting(_listed(paths.names), last)
    return []


def _images(paths: Paths) -> list[str]:
    """Names of images, short as people write them; images/refs names them in full, with % for a slash."""
    names = []
    for name in _listed(f"{paths.images}/refs"):
        name = name.replace("%", "/").removeprefix("docker.io/").removeprefix("library/")
        if "@" not in name:
            names.append(name)
            names += [name.removesuffix(":latest")] if name.endswith(":latest") else []
    return names


def _listed(path: str) -> list[str]:
    try:
        return [name for name in sorted(os.listdir(path)) if name[:1] != "."]
    except OSError:
        return []


def _starting(known: Iterable[str], start: str) -> list[str]:
    return [word for word in known if word.startswith(start)]


COMPLETION = flags.Command(
    "completion",
    "bash|zsh|fish",
    "Print the completion script of a shell. Verbs, flags, containers and images are completed.",
    (),
    completion,
    least=1,
    most=1,
    examples=(
        ("In this bash", "source <(nanocontainer completion bash)"),
        ("In every fish", "nanocontainer completion fish > ~/.config/fish/completions/nanocontainer.fish"),
    ),
)
COMPLETE = flags.Command("__complete", "WORD...", "Print candidates.", (), complete, interspersed=False)
