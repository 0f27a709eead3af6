"""Reading policies.yaml: each room declares its own section with the parsers that are here."""

from sluice.config.common import (
    LogPolicy as LogPolicy,
    Preset as Preset,
    Promise as Promise,
    Signature as Signature,
    StorePolicy as StorePolicy,
)
from sluice.config.model import Listen as Listen, Rate as Rate, Secret as Secret
from sluice.config.problems import PolicyError as PolicyError, Problem as Problem
from sluice.config.units import Network as Network
