"""Why a server cannot be used, in words with what helps. Pure."""

from __future__ import annotations

import ssl

_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h."""
_UNKNOWN_ISSUER = {18, 19, 20, 21}
"""Signed by itself, by an unknown root, or by somebody whose certificate is not there."""

RIGHTS = "give its user the rights that docs/store.md lists (ACL LOG there says which one it lacks)"


def of_connecting(error: OSError | UnicodeError) -> str:
    """Of what opening a connection raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}; {_certificate(error.verify_code)}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {(error.reason or str(error)).replace('_', ' ').lower()}; {_NO_TLS}"
    return str(error)


def of_late_tls(where: str, timeout: float) -> str:
    """A server without TLS waits for the rest of what it takes for a command."""
    return f"no TLS with {where} within {timeout:g} s; {_NO_TLS}"


def of_login(reply: str) -> str:
    """Of what a server said to AUTH, CLIENT SETNAME, SELECT or ROLE."""
    match reply.partition(" ")[0]:
        case "WRONGPASS":
            return f"{reply.rstrip('.')}: correct user and password in store.url"
        case "NOAUTH":
            return f"{reply.rstrip('.')}: {_LOGIN}"
        case "NOPERM":
            return f"{reply.rstrip('.')}: {RIGHTS}"
    return reply


def of_command(reply: str) -> str:
    """Of an error that a command got."""
    if reply.startswith("NOAUTH"):
        return f"{reply.rstrip('.')}: {_LOGIN}"
    return f"{reply.rstrip('.')}: {RIGHTS}" if any(said in reply for said in _DENIED) else reply


_DENIED = ("NOPERM ", "ERR ACL failure in script: ", "ERR The user executing the script can't ")
"""To a command, and to one in a script, of Valkey and of Redis 7.0."""
_LOGIN = "write both into store.url, redis://user:password@host (its characters percent-encoded)"
_NO_TLS = "where it speaks none, write redis:// instead of rediss://"


def _certificate(code: int) -> str:
    if code in _OTHER_NAME:
        return "write a host into store.url that it is for, or put that one among its subjectAltName"
    if code in _UNKNOWN_ISSUER:
        return "name its authority in store.url (?ssl_ca_certs=/path/to/ca.pem)"
    return "put a valid one in its place"
