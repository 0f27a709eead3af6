"""JSON Schema of policies.yaml: what editors complete and check by."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.policies.model import Policies
from gateway.policies.read import load
from sluice.config.fields import SETTING
from tests.gateway.policies.schema_check import SCHEMA, problems_by_schema
from tests.gateway.policies.test_bad_files import BAD
from tests.gateway.policies.test_read import DEFAULT

DEMO = DEFAULT.parent / "sluice" / "demo" / "policies.yaml"
MODULES = (
    *("gateway.policies.limits", "gateway.policies.model", "gateway.policies.trust", "gateway.policies.upstreams"),
    *(
        "relay.policies",
        "sessions.policies",
        "sessions.profiles.policies",
        "sessions.worker.policies",
        "sluice.config.common",
    ),
)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema["properties"]
        for one in schema.values():
            yield from objects(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from objects(one)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", [DEFAULT, DEMO], ids=["default", "demo"])
def test_the_files_that_come_with_sluice_are_valid(file: Path) -> None:
    assert problems_by_schema(file.read_text()) == []


def test_every_key_that_a_section_declares_is_in_it() -> None:
    sections = {
        one
        for name in MODULES
        for one in vars(importlib.import_module(name)).values()
        if inspect.isclass(one) and is_dataclass(one) and one.__module__ == name
    }
    known = [set(properties) for properties in objects(SCHEMA)]
    for section in sections:
        declared = {it.metadata[SETTING].name or it.name for it in fields(section) if SETTING in it.metadata}
        assert any(declared <= keys for keys in known), section
    assert sum(SETTING in it.metadata for section in sections for it in fields(section)) > 60


def test_every_key_is_explained() -> None:
    unexplained = {name for keys in objects(SCHEMA) for name, form in keys.items() if not form.get("description")}
    assert unexplained == set()


def test_a_default_is_what_its_key_takes() -> None:
    forms = [form for keys in objects(SCHEMA) for form in keys.values() if "default" in form]
    assert len(forms) > 90
    assert [form for form in forms if not Draft202012Validator(form).is_valid(form["default"])] == []


def written_out(form: dict[str, Any]) -> dict[str, Any]:
    """The keys of a mapping with their defaults, as far as those are told and no name has to be given."""
    found: dict[str, Any] = {}
    for name, inner in form.get("properties", {}).items():
        if "default" in inner:
            found[name] = inner["default"]
        elif inner.get("type") == "object" and not inner.get("required") and (below := written_out(inner)):
            found[name] = below
    return found


def test_a_default_that_is_written_changes_nothing() -> None:
    """Of the sections that are there without being written; a default of another kind would be read otherwise."""
    nothing = policies_of({"version": 1})
    names = ("store", "clients", "relay", "log", "admin", "bodies", "data", "limit_headers")
    defaults = {name: one for name, one in written_out(SCHEMA).items() if name in names}
    defaults["clients"].pop("exempt")  # names lists, which a file has to have
    assert replace(policies_of({"version": 1, **defaults}), revision=nothing.revision) == nothing
    watch = {"sessions": {"watch": written_out(SCHEMA)["sessions"]["watch"], "lease": "15s"}}
    assert replace(policies_of({"version": 1, **watch}), revision=nothing.revision) == nothing


def policies_of(document: dict[str, Any]) -> Policies:
    return load(Path("policies.yaml"), content=yaml.safe_dump(document).encode(), environment={})


def test_keys_are_explained_by_their_own_descriptions() -> None:
    assert SCHEMA["properties"]["store"]["properties"]["timeout"]["description"].startswith("The longest the limiter")


@pytest.mark.parametrize(
    "name",
    [
        "unknown_key", "unknown_key_in_store", "unknown_key_in_route", "unknown_key_in_limit", "unknown_key_in_circuit",
        "unknown_key_in_session", "list_for_mapping", "mapping_for_list", "text_for_list", "list_for_value",
        "mapping_for_value", "nothing_for_value", "version_missing", "version_two", "version_text", "limit_bad_over",
        "limit_bad_mode", "limit_bad_per", "limit_bad_store_away", "limit_without_id_and_rate", "limit_cost_zero",
        "limit_share_without_percent", "duration_without_unit", "duration_wrong_unit", "size_wrong_unit",
        "store_promise",
        "signature_preset", "secret_literal", "secret_missing", "endpoint_without_url", "endpoint_bad_order",
        "endpoint_name", "route_no_action", "route_two_actions", "route_without_path", "route_workers_unknown",
        "route_session_text", "route_session_empty", "override_for_nobody", "override_for_two", "ratio_out_of_range",
        "number_zero", "quoted_number", "list_without_networks", "list_unknown_key", "list_name", "retention_delivered",
        "event_keep_oldest", "limit_headers_unknown", "burst_too_much", "vault_without_key", "vault_key",
        "vault_url_path", "vault_generations_zero", "vault_unknown_key",
    ],
)  # fmt: skip
def test_typical_mistakes_are_found(name: str) -> None:
    assert problems_by_schema((BAD / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "relay: {endpoints: {laravel: {url: http://127.0.0.1:1, retry: {attempts: many}}}}",
            "$.relay.endpoints.laravel.retry.attempts",
        ),
        ("signatures: {a: {secret: env:A, tolerence: 5m}}", "$.signatures.a"),
        ("sessions: {workers: [{url: http://127.0.0.1:1, key: plain}]}", "$.sessions.workers[0].key"),
    ],
)
def test_a_mistake_is_found_at_its_place(text: str, place: str) -> None:
    assert problems_by_schema(f"version: 1\n{text}\n") == [place]
