"""TLS of a server: contexts from certificate files, TLS 1.2 and 1.3, forward secrecy only (RFC 9325)."""

from __future__ import annotations

import dataclasses
import os
import ssl
import tempfile
from collections.abc import Sequence
from typing import Final

from fastchannels.exceptions import UsageError
from fastchannels.server.tls_extension import remember_certificate

#: Of TLS 1.2; those of 1.3 are all good.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!eNULL"
_REQUIRED: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class TlsError(UsageError):
    """Certificate files that cannot be used; the message is one line for a person."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """What a context is made of; paths of PEM files."""

    certificate: str
    key: str | None = None  #: in ``certificate`` when None
    password: str | None = None
    chain: str | None = None  #: certificates between ours and a root, when they are not in ``certificate``
    dh_parameters: str | None = None
    client_authorities: str | None = None
    client_certificate: str = "none"  #: "optional", "required"
    ciphers: str | None = None


def tls_context(files: TlsFiles, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """A context for a server that offers ``protocols`` by ALPN, the best first. Raises ``TlsError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could make the server renegotiate for ever, and learn secrets from the length of what is compressed.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(protocols))
    try:
        context.set_ciphers(files.ciphers or _CIPHERS)
    except ssl.SSLError:
        raise TlsError(
            f"TLS: {files.ciphers!r} names no cipher (--ssl-ciphers, as `openssl ciphers` takes it)"
        ) from None
    for path in (files.certificate, files.key, files.chain, files.dh_parameters, files.client_authorities):
        _check_readable(path)
    _load_certificate(context, files)
    if files.dh_parameters is not None:
        try:
            context.load_dh_params(files.dh_parameters)
        except (ssl.SSLError, OSError):
            raise TlsError(f"TLS: {files.dh_parameters} holds no Diffie-Hellman parameters") from None
    if files.client_authorities is not None:
        try:
            context.load_verify_locations(files.client_authorities)
        except (ssl.SSLError, OSError):
            raise TlsError(f"TLS: {files.client_authorities} holds no certificate in PEM") from None
    context.verify_mode = _REQUIRED[files.client_certificate]
    remember_certificate(context, files.certificate)
    return context


def _check_readable(path: str | None) -> None:
    """OpenSSL's own errors do not name the file."""
    if path is None:
        return
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TlsError(f"TLS: {path}: {error.strerror}") from None


def _load_certificate(context: ssl.SSLContext, files: TlsFiles) -> None:
    key = files.key or files.certificate

    def password() -> str:
        if files.password is None:
            # Without this OpenSSL would ask at the terminal.
            raise TlsError(f"TLS: the key in {key} is encrypted: give its password (--ssl-keyfile-password)")
        return files.password

    try:
        if files.chain is None:
            context.load_cert_chain(files.certificate, key, password)
            return
        # OpenSSL takes a chain from one file only. Certificates are public; the key stays where it is.
        with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as joined:
            for path in (files.certificate, files.chain):
                with open(path, "rb") as part:
                    joined.write(part.read() + b"\n")
        try:
            context.load_cert_chain(joined.name, key, password)
        finally:
            os.unlink(joined.name)
    except ssl.SSLError as error:
        raise TlsError(f"TLS: {_why(error, files.certificate, key, files.password)}") from None


def _why(error: ssl.SSLError, certificate: str, key: str, password: str | None) -> str:
    reason = error.reason or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key} is not that of the certificate in {certificate}"
    if reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ", "CIPHERFINAL_ERROR"):
        return f"the password does not open the key in {key}"
    if reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
        return f"the certificate in {certificate} is too weak for OpenSSL: {reason}"
    if password is not None and not reason:
        return f"the password does not open the key in {key}"
    return f"{certificate} and {key} hold no certificate and its key in PEM" + (f" ({reason})" if reason else "")
