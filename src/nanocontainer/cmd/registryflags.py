"""The flags of all verbs that speak to registries: pull, push, login, logout. Podman's names, where docker has none."""

from __future__ import annotations

from ..errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.registry import Access
    from .flags import Given, Table

AUTHFILE = ("authfile", "", "string", "", "File with credentials (default: those of docker and podman)")
TLS: Table = (
    ("cert-dir", "", "string", "", "Directory with certificates for this registry (*.crt, *.cert, *.key)"),
    ("tls-verify", "", "bool", True, "Want TLS and a trusted certificate; =false takes any, and plain http"),
)
FLAGS: Table = (
    AUTHFILE,
    ("creds", "", "string", "", "Credentials for this once: USER or USER:PASSWORD"),
    *TLS,
    ("retry", "", "int", 3, "How often to try again what may pass by itself"),
    ("retry-delay", "", "duration", 0.0, "Pause before trying again (default 300ms, doubled each time)"),
)


def access(given: Given) -> Access:
    """What the flags say. A verb need not have all of them. InvalidInput."""
    from ..image.auth import Credentials
    from ..image.registry import Access

    values = given.values
    credentials = None
    if values.get("creds"):
        user, colon, secret = values["creds"].partition(":")
        if not user:
            raise InvalidInput("invalid --creds", "it has no user name", "--creds USER:PASSWORD")
        if not colon:
            from .login import ask

            secret = ask("Password: ", hidden=True)
        credentials = Credentials(user, secret)
    retries = values.get("retry", 3)
    if retries < 0:
        raise InvalidInput("invalid --retry", "must not be negative")
    return Access(
        authfile=values.get("authfile", ""),
        credentials=credentials,
        verify=values["tls-verify"] if "tls-verify" in given else None,
        certificates=values.get("cert-dir", ""),
        tries=retries + 1,
        pause=values.get("retry-delay", 0.0),
    )
