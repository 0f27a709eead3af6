"""Mail by SMTP (RFC 5321), with STARTTLS (RFC 3207) or TLS from the first byte: smtplib, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Sequence
from email.message import EmailMessage

from gateway.alerts.failed import SendFailed
from gateway.policies import MailServer
from sluice.observe.printable import on_one_line

_SHOWN = 200


async def deliver(server: MailServer, message: EmailMessage, to: Sequence[str], timeout: float) -> str:
    """What came back. After `timeout` seconds the connection is cut, whatever its other side does.

    Raises SendFailed.
    """
    loop, talk = asyncio.get_running_loop(), _Talk(server, message, to, timeout)
    done: asyncio.Future[str] = loop.create_future()

    def end(said: str | None, failure: SendFailed | None) -> None:
        if done.cancelled():
            return
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(said or "")

    def run() -> None:
        said, failure = None, None
        try:
            said = talk.run()
        except SendFailed as failed:
            failure = failed
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(end, said, failure)

    # A daemon, so that a server that hangs keeps no process from ending.
    threading.Thread(target=run, name="alerts-smtp", daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            return await done
    except TimeoutError:
        raise SendFailed(f"{talk.shown} did not take it within {timeout:g}s") from None
    finally:
        talk.cut()


class _Talk:
    def __init__(self, server: MailServer, message: EmailMessage, to: Sequence[str], timeout: float) -> None:
        self._server = server
        self._message = message
        self._to = to
        self._timeout = timeout
        self._client: smtplib.SMTP | None = None
        self._cut = False
        self.shown = f"{server.server.host}:{server.port}"

    def run(self) -> str:
        """Raises SendFailed."""
        try:
            with self._connected() as client:
                self._log_in(client)
                refused = client.send_message(self._message, self._server.sender, list(self._to))
        except smtplib.SMTPRecipientsRefused as error:
            raise SendFailed(f"{self.shown} refused {_refusals(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            raise SendFailed(f"{self.shown} answered {error.smtp_code} {_text(error.smtp_error)}") from None
        except smtplib.SMTPException as error:
            raise SendFailed(f"{self.shown}: {on_one_line(str(error))[:_SHOWN]}") from None
        except ssl.SSLError as error:
            raise SendFailed(f"{self.shown} cannot be trusted: {on_one_line(str(error))[:_SHOWN]}") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SendFailed(f"{self.shown} cannot be reached ({on_one_line(why.lower())[:_SHOWN]})") from None
        if refused:
            raise SendFailed(f"{self.shown} refused {_refusals(refused)}, and took it for the others")
        return f"{self.shown} took it"

    def cut(self) -> None:
        self._cut = True
        sock = getattr(self._client, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        host, port = self._server.server.host.strip("[]"), self._server.port
        if self._server.tls == "tls":
            context = ssl.create_default_context()
            self._client = smtplib.SMTP_SSL(host, port, timeout=self._timeout, context=context)
        else:
            self._client = smtplib.SMTP(host, port, timeout=self._timeout)
        if self._cut:
            self._client.close()
            raise SendFailed("it came too late")
        return self._client

    def _log_in(self, client: smtplib.SMTP) -> None:
        if self._server.tls == "starttls":
            client.starttls(context=ssl.create_default_context())
        user, password = self._server.user, self._server.password
        if user is not None and password is not None:
            client.login(user.reveal().decode("utf-8", "replace"), password.reveal().decode("utf-8", "replace"))


def _text(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return on_one_line(text)[:_SHOWN]


def _refusals(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{to}: {code} {_text(said)}" for to, (code, said) in refused.items())[:_SHOWN]
