"""Certificates of one's own for a registry: certs.d, as docker and podman have it (containers-certs.d(5)).

    <place>/<host:port>/*.crt         authorities that are trusted for this registry, beside the system's
    <place>/<host:port>/*.cert *.key  who we are, for registries that want to know it by TLS

The first place that has a directory for the registry is the only one used: the user's, /etc/containers, /etc/docker.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput, NotPermitted
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

PLACES = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")


class Certificates(Record):
    """Paths of PEM files. authorities: beside the system's. clients: (certificate, key) pairs."""

    authorities: tuple[str, ...] = ()
    clients: tuple[tuple[str, str], ...] = ()


def certificates_of(host: str, directory: str = "") -> Certificates:
    """What is kept for a registry. host: with port. directory: the only place to look (--cert-dir). InvalidInput."""
    places = [directory] if directory else [f"{os.path.expanduser(place)}/{host}" for place in PLACES]
    for place in places:
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError) as error:
            if directory:
                raise InvalidInput(f"cannot use the certificates in {directory}", error.strerror or "") from None
            continue
        except OSError as error:
            raise NotPermitted(f"cannot use the certificates in {place}", error.strerror or "") from None
        return _read(place, names)
    return Certificates()


def _read(place: str, names: list[str]) -> Certificates:
    clients = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            if key not in names:
                hint = "authorities end in .crt, our own certificates in .cert"
                raise InvalidInput(f"cannot use the certificate {place}/{name}", f"its key {key} is missing", hint)
            clients.append((f"{place}/{name}", f"{place}/{key}"))
        elif name.endswith(".key") and name.removesuffix(".key") + ".cert" not in names:
            raise InvalidInput(f"cannot use the key {place}/{name}", "its certificate (.cert) is missing")
    return Certificates(tuple(f"{place}/{name}" for name in names if name.endswith(".crt")), tuple(clients))


def context(certificates: Certificates, *, verify: bool) -> ssl.SSLContext:
    """TLS as the system has it, with these certificates. InvalidInput names the file that is none."""
    import ssl

    made = ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
    made.check_hostname = False  # urllib3 does it itself then; the ssl module's way fails for addresses in urllib3 1.26
    if not verify:
        made.verify_mode = ssl.CERT_NONE
    for file in certificates.authorities:
        try:
            made.load_verify_locations(file)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidInput(f"cannot use the certificate {file}", error.strerror or str(error)) from None
    for certificate, key in certificates.clients:
        try:
            made.load_cert_chain(certificate, key)
        except OSError as error:
            raise InvalidInput(f"cannot use {certificate} with {key}", error.strerror or str(error)) from None
    return made
