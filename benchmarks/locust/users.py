"""Who sends. Each kind of user has a session of its own and sends at a constant rate, whatever the answers take.

A user waits for its answer before it sends again, as a worker does. When the answer is late the next request is late
too, but it is still due when it was due: its latency counts from then, and what could not be sent at all is told.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any, ClassVar

import bodies
import gevent
import signing
from locust import User, task
from oracle import Outcome, Subject
from policies import seen_as
from run import Run
from wire import Answer, Connection, Unanswered, own_address

WEBHOOKS = "/api/whatsapp/webhooks/webjs"
_STOPPING = 0.5  # seconds that it may take to stop all users; what becomes due meanwhile is not missed
WORKERS_AGENT = "WhatsApp-WebJS-Service/1.0"


class Paced(User):
    """`rate` requests per second (times --pace), each due at its moment."""

    abstract = True
    rate: ClassVar[float]
    passes: ClassVar[frozenset[int]] = frozenset()
    """Statuses beside 2xx that only somebody behind the limits can have answered."""
    source: str | None = None
    """The address to connect from; None: whatever the system chooses."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.run_: Run = environment.load
        self.session, self.workspace = self.run_.new_session()
        self.number = 0
        self._every = 1 / (self.rate * self.run_.pace)
        self._due = 0.0
        self.told_until = 0.0
        """Until when the last refusal said to wait."""

    def on_start(self) -> None:
        self.connection = Connection(self.host, self.source)
        self.address = own_address(self.host, self.source)
        self._due = time.monotonic() + random.random() * self._every  # so that users do not march in step
        gevent.sleep(self._due - time.monotonic())

    def on_stop(self) -> None:
        if self._due:  # else it never began
            late = max(0.0, time.monotonic() - self._due - _STOPPING)
            self.run_.counts.never_sent += int(late / self._every)
            self.connection.close()

    def wait_time(self) -> float:
        self._due += self._every
        return max(0.0, self._due - time.monotonic())

    @task
    def turn(self) -> None:
        self.send()
        self.number += 1

    def send(self) -> None:
        raise NotImplementedError

    def ask(
        self, name: str, method: str, path: str, headers: dict[str, str], body: Any, raw: bytes | None, subject: Subject
    ) -> None:
        """Sends it, has the answer judged, and reports it as `name` with its latency since it was due."""
        sent = time.monotonic()
        asked = self.run_.oracle.sent(subject, body, sent)
        try:
            answer: Answer | Unanswered = self.connection.request(method, path, raw, headers)
        except Unanswered as error:
            answer = error
        except BaseException:  # stopped in the middle
            self.run_.oracle.answered(asked, "unanswered", time.monotonic())
            raise
        now = time.monotonic()
        outcome, refusing = _outcome(answer, self.passes)
        wait = answer.retry_after if isinstance(answer, Answer) and outcome == "refused" else None
        self.told_until = now + (wait or 0.0)
        wrong = self.run_.oracle.answered(asked, outcome, now, refusing, wait)
        trouble = _trouble(answer) if outcome in ("unclear", "unanswered") else ""
        self._count(answer, trouble, sent, now)
        fault = trouble or (wrong or "").partition(",")[0]
        self.environment.events.request.fire(
            request_type=type(self).__name__,
            name=f"{name}, refused" if outcome == "refused" else name,
            response_time=(now - self._due) * 1000,
            response_length=len(answer.body) if isinstance(answer, Answer) else 0,
            exception=AssertionError(fault) if fault else None,
            context=self.context(),
        )

    def _count(self, answer: Answer | Unanswered, trouble: str, sent: float, now: float) -> None:
        counts = self.run_.counts
        counts.since_due.add(now - self._due)
        counts.waited.add(sent - self._due)
        counts.served.add(now - sent)
        if trouble:
            counts.unexpected[trouble] += 1
        if isinstance(answer, Unanswered):
            counts.unanswered += 1
        elif answer.status >= 500:
            counts.failed[answer.status] += 1


class Webhooks(Paced):
    """A session whose worker posts webhooks, signed."""

    abstract = True
    make: ClassVar[Callable[[int], tuple[str, bodies.Data]]]

    def send(self) -> None:
        event, data = type(self).make(self.number)
        self.post(event, data)

    def post(self, event: str, data: bodies.Data) -> None:
        body = {"event": event, "data": {"workspace_id": self.workspace, "session_id": self.session, **data}}
        raw = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": WORKERS_AGENT,
            **signing.headers(self.run_.secret, raw, time.time()),
        }
        subject = Subject(self.address, event, self.session, str(self.workspace), relayed=True)
        self.ask(event, "POST", WEBHOOKS, headers, body, raw, subject)


class Message(Webhooks):
    weight = 4
    rate = 2.0
    make = staticmethod(bodies.message)


class Receipt(Webhooks):
    weight = 4
    rate = 4.0
    make = staticmethod(bodies.receipt)


class Typing(Webhooks):
    weight = 2
    rate = 1.0
    make = staticmethod(bodies.typing)


class Heartbeat(Webhooks):
    rate = 0.5
    make = staticmethod(bodies.heartbeat)


class QrCode(Webhooks):
    rate = 0.5
    make = staticmethod(bodies.qr)


class Lifecycle(Webhooks):
    rate = 0.5
    make = staticmethod(bodies.lifecycle)


class Send(Paced):
    """Laravel asks for messages to be sent.

    Without --send-to it names a session that nobody has: what passes the limits is answered 404, and nothing is sent.
    """

    rate = 1.0
    passes = frozenset({404})

    def on_start(self) -> None:
        super().on_start()
        self.ours = not self.run_.send_to
        if self.run_.send_to:
            self.session = self.run_.send_to[self.run_.next_of("send") % len(self.run_.send_to)]

    def send(self) -> None:
        body = bodies.send(self.session, str(self.workspace), self.number)
        headers = {"Content-Type": "application/json"}
        subject = Subject(self.address, "message_send", self.session, str(self.workspace), ours=self.ours)
        self.ask("message_send", "POST", "/api/messages/send", headers, body, json.dumps(body).encode(), subject)


class Patient(Send):
    """Sends faster than its limit lets it, waits after each refusal as long as it was told, and then has to pass."""

    rate = 3.0

    def wait_time(self) -> float:
        super().wait_time()
        self._due = max(self._due, self.told_until)
        return max(0.0, self._due - time.monotonic())


class NoisySession(Webhooks):
    """One session gone wild, on several connections at once: the limits must hold it, and it alone."""

    fixed_count = 2
    rate = 20.0
    make = staticmethod(bodies.noise)

    def on_start(self) -> None:
        super().on_start()
        self.session, self.workspace = self.run_.noisy


class AttackingAddress(Paced):
    """One address that asks as fast as it may, with a new X-Forwarded-For each time so as to look like many.

    A gateway that believes a stranger's header lets it through, and the oracle sees more pass than its one address may.
    """

    fixed_count = 2
    rate = 50.0
    passes = frozenset({404})

    def on_start(self) -> None:
        self.source = self.run_.attack_from
        super().on_start()

    def send(self) -> None:
        forged = f"198.51.100.{self.number % 250 + 1}"
        address = seen_as(self.address, forged, self.run_.policies.proxies)
        path = f"/api/sessions/{self.session}/status"
        self.ask("attack", "GET", path, {"X-Forwarded-For": forged}, None, None, Subject(address, None, self.session))


def _outcome(answer: Answer | Unanswered, passes: frozenset[int]) -> tuple[Outcome, list[str]]:
    """What an answer says of the limits, and which limits refused."""
    if isinstance(answer, Unanswered):
        return "unanswered", []
    if answer.status == 429:
        return "refused", _refusing(_json(answer))
    if 200 <= answer.status < 300:
        told = _json(answer)
        return ("refused", _refusing(told)) if told.get("status") == "dropped" else ("passed", [])
    return ("passed" if answer.status in passes else "unclear"), []


def _refusing(told: dict[str, Any]) -> list[str]:
    """Their ids: `violated-policies` of a quota-exceeded problem, or the one `limit` of other answers."""
    names = told.get("violated-policies") or ([told["limit"]] if told.get("limit") else [])
    return [str(name) for name in names]


def _trouble(answer: Answer | Unanswered) -> str:
    """In few words, that are the same for the same trouble."""
    if isinstance(answer, Unanswered):
        return str(answer)
    return f"{answer.status} {_json(answer).get('detail', '')}"[:200].strip()


def _json(answer: Answer) -> dict[str, Any]:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
