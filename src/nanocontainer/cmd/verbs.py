"""Which words the command line knows, and where each lives: data only, so that a verb pays for no other verb.

A verb is (module, name of its flags.Command, section of the help, one line of help). Groups are the long forms
(`container run`); a group's word is a verb's name, or a verb of its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Verb = tuple[str, str, str, str]

SECTIONS = ("Common", "See-through", "Container", "Image", "System")

VERBS: dict[str, Verb] = {
    "run": ("run", "RUN", "Common", "Create and run a new container from an image"),
    "exec": ("exec", "EXEC", "Common", "Execute a command in a running container"),
    "ps": ("ps", "PS", "Common", "List containers"),
    "logs": ("logs", "LOGS", "Common", "Fetch the logs of a container"),
    "pull": ("images", "PULL", "Common", "Download an image from a registry"),
    "images": ("images", "IMAGES", "Common", "List images"),
    "create": ("run", "CREATE", "Container", "Create a new container without starting it"),
    "start": ("start", "START", "Container", "Start one or more stopped containers"),
    "attach": ("start", "ATTACH", "Container", "Attach the terminal to a running container"),
    "stop": ("containers", "STOP", "Container", "Stop one or more running containers"),
    "restart": ("containers", "RESTART", "Container", "Restart one or more containers"),
    "kill": ("containers", "KILL", "Container", "Kill one or more running containers"),
    "pause": ("containers", "PAUSE", "Container", "Pause all processes within one or more containers"),
    "unpause": ("containers", "UNPAUSE", "Container", "Unpause all processes within one or more containers"),
    "wait": ("containers", "WAIT", "Container", "Block until containers stop, then print their exit codes"),
    "rm": ("containers", "RM", "Container", "Remove one or more containers"),
    "port": ("ports", "PORT", "Container", "Show published ports of a container, add and remove them live"),
    "rmi": ("images", "RMI", "Image", "Remove one or more images"),
    "login": ("login", "LOGIN", "Image", "Log in to a registry"),
    "logout": ("login", "LOGOUT", "Image", "Log out of a registry"),
    "tag": ("images", "TAG", "Image", "Give an image another name"),
    "history": ("history", "HISTORY", "Image", "Show how an image was made"),
    "push": ("push", "PUSH", "Image", "Send an image to a registry"),
    "save": ("imagefiles", "SAVE", "Image", "Save images to a tar archive or to stdout"),
    "load": ("imagefiles", "LOAD", "Image", "Load images from a tar archive or from stdin"),
    "import": ("imagefiles", "IMPORT", "Image", "Make an image of a tar archive of a root file system"),
    "commit": ("imagefiles", "COMMIT", "Image", "Make an image of what a container has changed"),
    "export": ("export", "EXPORT", "Container", "Write a container's files as a tar, or (--script) how it is made"),
    "inspect": ("inspect", "INSPECT", "See-through", "Show all that is known of containers and images, as JSON"),
    "anatomy": ("anatomy", "ANATOMY", "See-through", "Show what a container is made of, as the kernel has it now"),
    "compare": ("compare", "COMPARE", "See-through", "Compare the isolation of two containers, or with the host"),
    "why": ("why", "WHY", "See-through", "Say why a container ended, and what it was denied and by what"),
    "trace": ("trace", "TRACE", "See-through", "Show where the time of a start goes"),
    "learn": ("learn", "LEARN", "See-through", "Learn how a container comes to be, in lessons that really run"),
    "version": ("system", "VERSION", "System", "Show the version"),
    "info": ("system", "INFO", "System", "Show what the engine and this machine can do"),
    "doctor": ("doctor", "DOCTOR", "System", "Check this machine, and what crashes have left"),
    "completion": ("complete", "COMPLETION", "System", "Print the completion script of a shell"),
}

# What the help names beside the verbs: a way to use one, its section, its line.
WAYS: dict[str, tuple[str, str]] = {
    "run --explain": ("See-through", "Show the steps of a start, and run none (=short, =html, ...)"),
    "run --step": ("See-through", "Stop before each step of a start, and look at both sides"),
    "run --why": ("See-through", "Record what the kernel refuses, and say why at the end"),
    "run --without": ("See-through", "Leave a step of a start out, and see what that opens"),
    "image layers": ("See-through", "Show what each layer of an image does (also image files, diff, tree)"),
    "VERB --explain": ("See-through", "The same of create, start, exec, stop, restart, kill and rm"),
}

# Words that are in no list of the help.
HIDDEN: dict[str, Verb] = {
    "log": VERBS["logs"],
    "__complete": ("complete", "COMPLETE", "", ""),
}

# Words of docker and podman that we do not have yet: whoever types one shall not be sent to look for a typing error.
LATER = frozenset(
    "build builder buildx compose context cp diff events kube manifest "
    "play pod rename search secret stats swarm top unshare update volume".split()
) | {"system events", "system prune"}

_NETWORK: dict[str, str | Verb] = {
    "connect": ("connect", "CONNECT", "", "Connect a container to a network, while it runs too"),
    "disconnect": ("connect", "DISCONNECT", "", "Disconnect a container from a network, while it runs too"),
    "create": ("networks", "CREATE", "", "Create a network"),
    "inspect": ("networks", "INSPECT", "", "Show all that is known of networks, as JSON"),
    "ls": ("networks", "LS", "", "List networks"),
    "list": ("networks", "LS", "", "List networks"),
    "prune": ("networks", "PRUNE", "", "Remove unused networks"),
    "reload": ("networks", "RELOAD", "", "Restore the firewall rules of networks"),
    "rm": ("networks", "RM", "", "Remove one or more networks"),
    "remove": ("networks", "RM", "", "Remove one or more networks"),
}
_CONVERT: Verb = ("convert", "CONVERT", "", "Give the layers of images another form on the disk")
_IMAGE_INSPECT: Verb = ("inspect", "IMAGE_INSPECT", "", "Show all that is known of images, as JSON")
_UNMOUNT: Verb = ("imagefiles", "UNMOUNT", "", "Undo image mount")
_DF: Verb = ("df", "DF", "", "Show where the space went")
_CONTAINER_INSPECT: Verb = ("inspect", "CONTAINER_INSPECT", "", "Show all that is known of containers, as JSON")

GROUPS: dict[str, tuple[str, dict[str, str | Verb]]] = {
    "container": (
        "Manage containers",
        {
            **{
                verb: verb
                for verb in ("attach", "commit", "create", "exec", "export", "kill", "logs", "pause", "port")
            },
            **{verb: verb for verb in ("restart", "rm", "run", "start", "stop", "unpause", "wait")},
            "inspect": _CONTAINER_INSPECT,
            "ls": "ps",
            "list": "ps",
            "ps": "ps",
            "remove": "rm",
            "prune": ("containers", "PRUNE", "", "Remove all stopped containers"),
        },
    ),
    "image": (
        "Manage images",
        {
            "diff": ("imagelook", "DIFF", "", "Compare the files of two images"),
            "files": ("imagelook", "FILES", "", "List an image's files, and which layer each comes from"),
            "history": "history",
            "layers": ("imagelook", "LAYERS", "", "Show what each layer adds, changes and deletes"),
            "mount": ("imagefiles", "MOUNT", "", "Show an image's files at a place of this host"),
            "unmount": _UNMOUNT,
            "umount": _UNMOUNT,
            "tree": ("imagelook", "TREE", "", "Show which images stand on the same layers"),
            "import": "import",
            "inspect": _IMAGE_INSPECT,
            "load": "load",
            "ls": "images",
            "list": "images",
            "prune": ("images", "PRUNE", "", "Remove unused images"),
            "pull": "pull",
            "push": "push",
            "rm": "rmi",
            "remove": "rmi",
            "save": "save",
            "tag": "tag",
            "verify": ("verify", "VERIFY", "", "Hold every byte of images against its digest again"),
        },
    ),
    "egress": (
        "Say what a container may reach",
        {
            "ls": ("egress", "LS", "", "Show what a container may reach, and what it was refused"),
            "list": ("egress", "LS", "", "Show what a container may reach, and what it was refused"),
            "add": ("egress", "ADD", "", "Let a container reach more, while it runs too"),
            "rm": ("egress", "RM", "", "Let a container reach less, while it runs too"),
        },
    ),
    "network": ("Manage networks", _NETWORK),
    "system": ("Look at the engine", {"convert": _CONVERT, "df": _DF, "doctor": "doctor", "info": "info"}),
}


def find(words: list[str]) -> tuple[str, Verb, list[str]] | None:
    """The verb that a command line starts with: (its words, the verb, what follows), or None where there is none."""
    if not words:
        return None
    first = words[0]
    verb = VERBS.get(first) or HIDDEN.get(first)
    if verb:
        return first, verb, words[1:]
    if first in GROUPS and len(words) > 1:
        target = GROUPS[first][1].get(words[1])
        if target is not None:
            return f"{first} {words[1]}", VERBS[target] if isinstance(target, str) else target, words[2:]
    return None


def aliases(verb: Verb) -> list[str]:
    """Every way to say this verb, the shortest first."""
    said = [name for table in (VERBS, HIDDEN) for name, other in table.items() if other == verb]
    for group, (_, words) in GROUPS.items():
        for word, target in words.items():
            if target == verb or (isinstance(target, str) and VERBS[target] == verb):
                said.append(f"{group} {word}")
    return said
