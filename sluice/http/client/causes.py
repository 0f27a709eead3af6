"""Why a connection could not be made, in words for a log."""

from __future__ import annotations

import os
import socket
import ssl


def in_words(error: OSError | UnicodeError) -> str:
    """Of what opening a connection raised."""
    if isinstance(error, UnicodeError):
        return "not a host name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.') or error}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"its name is not resolved: {str(error.strerror or error).lower()}"
    if error.errno:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).lower() or "it was closed while it was being opened"
