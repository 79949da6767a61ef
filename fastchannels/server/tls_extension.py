"""What an application may know of the TLS of its connection (ASGI TLS extension 0.2)."""

from __future__ import annotations

import re
import ssl
import weakref
from typing import Any, Final

_VERSIONS: Final = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
#: Attribute types of RFC 4514 section 3, and those of RFC 2985 and 4519 that certificates often have.
_ATTRIBUTES: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.S)

_own: weakref.WeakKeyDictionary[ssl.SSLContext, str] = weakref.WeakKeyDictionary()
_suites: weakref.WeakKeyDictionary[ssl.SSLContext, dict[str, int]] = weakref.WeakKeyDictionary()


def remember_certificate(context: ssl.SSLContext, path: str) -> None:
    """``context`` shows the first certificate of the file at ``path``, which it does not tell itself."""
    with open(path, encoding="latin-1") as file:
        found = _PEM.search(file.read())
    if found is not None:
        _own[context] = found[0]


def tls_extension(tls: ssl.SSLObject) -> dict[str, Any]:
    """``scope["extensions"]["tls"]`` of a connection whose handshake is done."""
    context = tls.context
    suites = _suites.get(context)
    if suites is None:
        suites = {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
        _suites[context] = suites
    cipher = tls.cipher()
    shown = tls.getpeercert()
    return {
        "server_cert": _own.get(context),
        "client_cert_chain": _chain(tls),
        "client_cert_name": distinguished_name(shown["subject"]) if shown else None,  # type: ignore[arg-type]
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(tls.version() or ""),
        "cipher_suite": suites.get(cipher[0]) if cipher else None,
    }


def _chain(tls: ssl.SSLObject) -> list[str]:
    """The client's certificate first; before Python 3.13 it is the only one that can be had."""
    first = tls.getpeercert(binary_form=True)
    if first is None:
        # Not asked further: Python 3.13 fails where a certificate was wanted and none came.
        return []
    chain = tls.get_unverified_chain() if hasattr(tls, "get_unverified_chain") else [first]
    return [ssl.DER_cert_to_PEM_cert(der) for der in chain]


def distinguished_name(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """``subject`` as ``ssl`` gives it, as RFC 4514 writes it: the last part first."""
    parts = ("+".join(f"{_ATTRIBUTES.get(name, name)}={_escape(value)}" for name, value in part) for part in subject)
    return ",".join(reversed([*parts]))


def _escape(value: str) -> str:
    """RFC 4514 section 2.4."""
    value = re.sub(r'([\\",+;<>])', r"\\\1", value).replace("\0", r"\00")
    if value.startswith(("#", " ")):
        value = "\\" + value
    if value.endswith(" ") and value != "\\ ":
        value = value[:-1] + "\\ "
    return value
