"""HTTP to a gateway on this machine, at whatever kind of listener."""

from __future__ import annotations

import ssl

import httpx2

from sluice.cli.errors import CommandError
from sluice.process.addresses import Reached

_WHENEVER = 0x200000  # X509_V_FLAG_NO_CHECK_TIME: one that has ended is told by `status`, which has to get there


def client(at: Reached, timeout: float) -> httpx2.AsyncClient:
    """`timeout` in seconds. Raises CommandError where the certificate cannot be read."""
    # trust_env: a proxy from the environment must see neither the token nor a loopback address.
    verify = _only(at) if at.certificate else True
    transport = httpx2.AsyncHTTPTransport(uds=str(at.socket), verify=verify) if at.socket else None
    return httpx2.AsyncClient(trust_env=False, timeout=timeout, transport=transport, verify=verify)


def _only(at: Reached) -> ssl.SSLContext:
    """Believes in the very certificate of the listener, whoever signed it and for whatever name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _WHENEVER
    try:
        context.load_verify_locations(at.certificate)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandError(f"{at.certificate} cannot be read ({why}), so nobody knows who answers on {at}") from None
    return context
