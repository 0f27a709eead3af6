"""`sluice schema`: JSON Schema of policies.yaml, by which editors complete and check it."""

from __future__ import annotations

import argparse
import sys

import orjson

from gateway.policies.schema import json_schema


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(_options: argparse.Namespace) -> None:
    sys.stdout.write(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode() + "\n")
