"""policies.yaml: `load` reads it into one immutable snapshot, `Policies`."""

from gateway.policies.alerts import (
    KINDS as KINDS,
    AlertPolicy as AlertPolicy,
    MailServer as MailServer,
    Receiver as Receiver,
    Rule as Rule,
)
from gateway.policies.applicability import (
    ReadingOfPath as ReadingOfPath,
    applies_to_event as applies_to_event,
    can_apply as can_apply,
    needs_only_head as needs_only_head,
    queues_sends as queues_sends,
    reading_of_path as reading_of_path,
    streams as streams,
    takes_sends as takes_sends,
)
from gateway.policies.clients import Clients as Clients
from gateway.policies.hours import Hours as Hours
from gateway.policies.limits import (
    PREFIXES as PREFIXES,
    BodyCost as BodyCost,
    Limit as Limit,
    LimitHeader as LimitHeader,
    Over as Over,
    Prefixes as Prefixes,
    StoreAway as StoreAway,
    Unreadable as Unreadable,
)
from gateway.policies.lists import Address as Address, AddressList as AddressList, ListEntry as ListEntry
from gateway.policies.model import Policies as Policies
from gateway.policies.overrides import OverriddenBy as OverriddenBy, Override as Override, Per as Per
from gateway.policies.read import load as load
from gateway.policies.routes import (
    Action as Action,
    EventSource as EventSource,
    Fixed as Fixed,
    Header as Header,
    JsonPointer as JsonPointer,
    PathSegment as PathSegment,
    Route as Route,
    SessionSource as SessionSource,
    ToRelay as ToRelay,
    ToUpstream as ToUpstream,
    ToWorkers as ToWorkers,
)
from gateway.policies.trust import Trust as Trust
from gateway.policies.upstreams import ConsolePolicy as ConsolePolicy, Health as Health, Upstream as Upstream
