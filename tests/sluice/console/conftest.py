from __future__ import annotations

from pathlib import Path

import pytest

from gateway.policies import Policies
from gateway.resources import Resources
from sluice.store.client import Store
from tests.sluice.console.deployment import parts_on, policies_in


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    return policies_in(tmp_path)


@pytest.fixture
def parts(store: Store, policies: Policies) -> Resources:
    return parts_on(store, policies)
