"""`login` and `logout`: credentials for a registry, proven with it and kept as docker and podman keep them."""

from __future__ import annotations

import os

from ..errors import InvalidInput, NanoError
from . import registryflags
from .flags import Command, Given
from .output import err, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import App

_HUB = "docker.io"
_LONGEST = 1 << 16  # bytes of a password


def login(app: App, given: Given) -> int:
    """`login [SERVER]`."""
    from ..image.auth import Credentials, find_credentials
    from ..image.keeping import keep
    from ..image.mirrors import origin
    from ..image.reference import Reference
    from ..image.registry import Registry

    host = server(given.args)
    access = registryflags.access(given)
    there = not access.authfile or os.path.exists(access.authfile)  # a new one is made
    existing = find_credentials(host, "", access.authfile) if there else None
    if given["get-login"]:
        if existing is None:
            raise NanoError(f"not logged in to {host}")
        out(f"{existing.user or '<token>'}\n")
        return 0
    user, password = given["username"], given["password"]
    if given["password-stdin"]:
        if "password" in given:
            raise InvalidInput("--password and --password-stdin are mutually exclusive")
        if not user:
            raise InvalidInput("Must provide --username with --password-stdin")
        password = read_secret()
    elif "password" in given:
        err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    if not user and not password and existing:
        shown = f" [Username: {existing.user}]" if existing.user else ""
        err(f"Authenticating with existing credentials...{shown}\n")
        credentials = existing
    else:
        user = user or ask(f"Username{f' ({existing.user})' if existing and existing.user else ''}: ")
        user = user or (existing.user if existing else "")
        password = password or ask("Password: ", hidden=True)
        if not user or not password:
            raise InvalidInput(f"cannot log in to {host}", "user name and password must not be empty")
        credentials = Credentials(user, password)
    place = origin(Reference(host, "x"))
    insecure = place.insecure if place.host == host else None
    access = access.replace(credentials=credentials, state=app.engine.paths.state)
    registry = Registry(host, "", access, insecure=insecure, lasting=True)
    try:
        proven = registry.login()
    finally:
        registry.close()
    file, helper = keep(host, proven, access.authfile)
    if not helper:
        err(
            f"\nWARNING! Your credentials are stored unencrypted in '{file}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n\n"
        )
    out("Login Succeeded\n")
    return 0


def logout(app: App, given: Given) -> int:
    """`logout [SERVER]`, or `logout --all`."""
    from ..image.auth import auth_files, read_auth
    from ..image.keeping import forget

    hosts = [server(given.args)]
    if given["all"]:
        if given.args:
            raise InvalidInput("--all takes no registry")
        auths = [(read_auth(file) or {}).get("auths") for file in auth_files(given["authfile"])]
        keys = [key for table in auths if isinstance(table, dict) for key in table]
        hosts = list(dict.fromkeys(server([key]) for key in keys))
        if not hosts:
            out("Not logged in anywhere\n")
    for host in hosts:
        if forget(host, given["authfile"]):
            out(f"Removing login credentials for {host}\n")
        else:
            out(f"Not logged in to {host}\n")
    return 0


def server(args: list[str]) -> str:
    """The registry that a user names: a host, perhaps as an address as config.json has it; Docker Hub if none."""
    from ..image.reference import parse_reference

    if not args:
        return _HUB
    host = args[0].removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in ("index.docker.io", "registry-1.docker.io"):
        return _HUB
    try:
        if host and parse_reference(f"{host}/x").host == host:
            return host
        why = "it is no host name with a dot or a port, as registry.example.com or localhost:5000"
    except InvalidInput as error:
        why = error.why
    raise InvalidInput(f"invalid registry {args[0]!r:.200}", why)


def ask(prompt: str, *, hidden: bool = False) -> str:
    """A line of the person at the terminal, hidden: without an echo. NanoError where nobody is there."""
    import termios

    if not os.isatty(0):
        hint = "give --username and --password-stdin"
        raise NanoError("Cannot perform an interactive login from a non TTY device", "", hint)
    before = termios.tcgetattr(0)
    if hidden:
        quiet = [*before]
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSAFLUSH, quiet)  # before the prompt: whoever types at once is not shown
    try:
        err(prompt)
        line = os.read(0, _LONGEST)
    finally:
        if hidden:
            termios.tcsetattr(0, termios.TCSAFLUSH, before)
            err("\n")
    return line.decode(errors="replace").rstrip("\r\n")


def read_secret() -> str:
    """A password from stdin, whole, without its last line end. InvalidInput."""
    data = b""
    while part := os.read(0, _LONGEST):
        data += part
        if len(data) > _LONGEST:
            raise InvalidInput("cannot read the password", f"it is longer than {_LONGEST} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput("cannot read the password", "it is not UTF-8") from None


LOGIN = Command(
    "login",
    "[OPTIONS] [SERVER]",
    "Log in to a registry: prove the credentials, and keep them for pull and push. Docker Hub where none is named.",
    (
        ("username", "u", "string", "", "User name"),
        ("password", "p", "string", "", "Password or token (others can see it in ps: better --password-stdin)"),
        ("password-stdin", "", "bool", False, "Take the password from stdin"),
        ("get-login", "", "bool", False, "Only print the user name that is kept"),
        registryflags.AUTHFILE,
        *registryflags.TLS,
    ),
    login,
    most=1,
    examples=(
        ("From a file", "nanocontainer login -u me --password-stdin registry.example.com < token"),
        ("At the terminal", "nanocontainer login localhost:5000"),
    ),
)
LOGOUT = Command(
    "logout",
    "[OPTIONS] [SERVER]",
    "Forget the credentials of a registry. Docker Hub where none is named.",
    (("all", "a", "bool", False, "Forget those of all registries"), registryflags.AUTHFILE),
    logout,
    most=1,
)
