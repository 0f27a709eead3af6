"""docs/operations.md has every sentence of `status` and every metric, and nothing that is not there."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from gateway import gauges, vault_gauges
from sluice.cli.main import main
from sluice.observe import processes

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text()
SENTENCES = PAGE.partition("\n## What `sluice status` says\n")[2].partition("\n## ")[0]
METRICS = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
GROUPS = {("dead",), ("queue",), ("circuit",), ("limits",), ("policies",), ("sessions",), ("vault",)}
"""Commands that have commands."""
_WORDS = re.compile(r"\w\S* +\w")


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def pieces(sentence: str) -> Iterator[str]:
    """What stands between the placeholders of a sentence of the page, where it is two words at least."""
    for piece in re.split(r"<[^>]*>", sentence):
        if _WORDS.search(piece):
            yield plain(piece).strip(" :;,()")


def written() -> Iterator[tuple[str, str]]:
    """Each stretch of text in the messages with two words at least, and where it stands."""
    for file in sorted((ROOT / "sluice/console/messages").glob("*.py")):
        tree = ast.parse(file.read_text())
        passed_over = set(_docstrings(tree)) | set(_singulars(tree))
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in passed_over else None
            if isinstance(text, str) and _WORDS.search(text):
                yield f"{file.name}:{node.lineno}", text


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr):
            yield id(node.body[0].value)


def _singulars(tree: ast.Module) -> Iterator[int]:
    """The page has the plural of what `some` counts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "some":
            yield id(node.args[1])


def documented_sentences() -> list[str]:
    rows = [line for line in SENTENCES.splitlines() if line.startswith("| `")]
    return [row.split("`")[1] for row in rows]


def registered() -> set[str]:
    """The names of all metrics that any module registers."""
    for top in ("gateway", "relay", "sessions", "sluice"):
        for module in pkgutil.walk_packages([str(ROOT / top)], f"{top}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    families = [family for family in REGISTRY.collect() if family.name.startswith("sluice_")]
    counted = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    return counted | gauges.GAUGES.keys() | {vault_gauges.AGE} | processes.GAUGES.keys()


def test_every_piece_of_a_sentence_is_on_the_page() -> None:
    page = plain(SENTENCES.replace("<", "").replace(">", ""))
    assert [(place, text) for place, text in written() if plain(text).strip(" :;,()") not in page] == []


def test_every_sentence_on_the_page_is_one_that_can_be_said() -> None:
    said = [plain(text) for _, text in written()]
    sentences = documented_sentences()
    assert len(sentences) >= 16
    unsaid = [(piece, one) for one in sentences for piece in pieces(one) if not any(piece in text for text in said)]
    assert unsaid == []


def test_every_command_that_a_sentence_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    named = {found for _, text in written() for found in re.findall(r"\bsluice ((?:[a-z]+ ?)+)", text)}
    commands = {words[:2] if words[:1] in GROUPS else words[:1] for words in (tuple(one.split()) for one in named)}
    assert len(commands) >= 6
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([*command, "--help"])
        assert ended.value.code == 0, command
        capsys.readouterr()


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    rows = [line for line in SENTENCES.splitlines() if line.startswith("| `")]
    assert [row for row in rows if any(len(cell.strip()) < 3 for cell in row.strip("|").split("|")[1:])] == []
    rows = [line for line in METRICS.splitlines() if line.startswith("| `")]
    assert [row for row in rows if len(row.strip("|").split("|")[2].strip()) < 3] == []


def test_every_metric_is_on_the_page_and_every_one_on_the_page_exists() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", METRICS, re.MULTILINE))
    assert documented == registered()


def test_each_rule_for_an_alert_has_a_name_and_only_metrics_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "examples/prometheus/rules.yaml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    known = registered() | {"up"}
    for rule in rules:
        names = re.findall(r"\b(?:sluice|process)_\w+|\bup\b", rule["expr"])
        assert names, rule
        assert {name if name in known else re.sub("_(bucket|sum|count)$", "", name) for name in names} <= known


def test_every_metric_that_the_page_names_exists() -> None:
    named = set(re.findall(r"\b(?:sluice|process)_[a-z_]+", PAGE))
    known = registered()
    assert {re.sub("_(bucket|sum|count)$", "", name) if name not in known else name for name in named} <= known
