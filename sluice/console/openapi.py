"""The OpenAPI 3.1 description of the admin API, made from the dataclasses of the actions."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sluice import __version__
from sluice.console.operations import API, OPERATIONS, Operation
from sluice.http.decode import Bounds, Form, is_required, types_of

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457; `detail` says what is wrong, and what to do.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_REFUSALS = {
    "400": "Something in the request is wrong.",
    "401": "The token is missing or wrong.",
    "403": "The gateway runs without console.token, or console.read asks for what takes console.token.",
    "429": "Too many wrong tokens came from this address (admin.refused).",
    "503": "The store, or what the call needs besides it, does not answer; try again.",
}
_MORE_REFUSALS = {
    "404": "What is named does not exist.",
    "409": "More than one is meant.",
    "413": "The body is too long.",
}


def document() -> dict[str, Any]:
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        path = API + operation.path
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": __version__, "description": "What `sluice` can ask and do, over HTTP."},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.made, "Problem": PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The value of console.token; or of console.read, which changes nothing.",
                }
            },
        },
    }


def _operation(operation: Operation[Any, Any, Any], schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": operation.id, "summary": _summary(operation.run)}
    in_path = operation.path_fields
    rest = [field.name for field in fields(operation.request) if field.name not in in_path]
    in_query = rest if operation.method == "GET" else []
    properties = schemas.properties(operation.request)
    required = schemas.required(operation.request)
    parameters = [(name, "path") for name in in_path] + [(name, "query") for name in in_query]
    if parameters:
        made["parameters"] = [_parameter(name, place, properties[name], name in required) for name, place in parameters]
    if operation.method == "POST":
        body = schemas.object({name: properties[name] for name in rest}, [name for name in rest if name in required])
        body["additionalProperties"] = False
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    answer = {"application/json": {"schema": schemas.of(operation.result)}}
    made["responses"] = {"200": {"description": "Done.", "content": answer}, **_refusals(operation)}
    return made


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    kept = {key: value for key, value in _not_null(schema).items() if key != "description"}
    made = {"name": name, "in": place, "required": required or place == "path", "schema": kept}
    return {**made, "description": schema["description"]} if "description" in schema else made


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query cannot say null: what is left out is null."""
    kind = schema.get("type")
    kept = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    return {**kept, "type": kind[0]} if isinstance(kind, list) else kept


def _refusals(operation: Operation[Any, Any, Any]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    codes = {**_REFUSALS, **_MORE_REFUSALS}
    if not fields(operation.request):
        codes = _REFUSALS
    return {code: {"description": text, "content": content} for code, text in sorted(codes.items())}


class Schemas:
    """JSON schemas of types; those of dataclasses by name, in `made`."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            return _or_null(self.of(next(one for one in arguments if one is not NoneType)))
        if origin is Annotated:
            return {**self.of(arguments[0]), **_constraints(arguments[0], arguments[1:])}
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin is tuple and arguments[-1] is Ellipsis:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is tuple:
            size = len(arguments)  # of one kind: not every tool reads prefixItems
            return {"type": "array", "items": self.of(arguments[0]), "minItems": size, "maxItems": size}
        if origin is Mapping:
            return {"type": "object", **_names(arguments[0]), "additionalProperties": self.of(arguments[1])}
        if kind is datetime:
            return {"type": "string", "format": "date-time"}
        if is_dataclass(kind):
            return self._named(kind)
        return {"type": _PLAIN[kind]} if kind in _PLAIN else {}

    def _named(self, kind: Any) -> dict[str, Any]:
        if kind.__name__ not in self.made:
            self.made[kind.__name__] = {}  # it may hold itself
            every = [field.name for field in fields(kind)]  # an answer leaves nothing out
            self.made[kind.__name__] = self.object(self.properties(kind), every)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}

    def object(self, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        made = {"type": "object", "properties": properties}
        return {**made, "required": required} if required else made

    def closed(self, kind: Any) -> dict[str, Any]:
        """Of a request: what may be left out has a default, and nothing else is known."""
        return {**self.object(self.properties(kind), self.required(kind)), "additionalProperties": False}

    def properties(self, kind: Any) -> dict[str, dict[str, Any]]:
        types, descriptions = types_of(kind), _descriptions(kind)
        made = {}
        for field in fields(kind):
            schema = self.of(types[field.name])
            if field.name in descriptions:
                schema = {**schema, "description": descriptions[field.name]}
            if field.default is not MISSING:
                schema = {**schema, "default": list(field.default) if field.default == () else field.default}
            made[field.name] = schema
        return made

    def required(self, kind: Any) -> list[str]:
        return [field.name for field in fields(kind) if is_required(field)]


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    made = {**schema, "type": [schema["type"], "null"]}
    return {**made, "enum": [*schema["enum"], None]} if "enum" in schema else made


def _names(kind: Any) -> dict[str, Any]:
    """Of a mapping's names, where not every text is one."""
    return {"propertyNames": _constraints(str, get_args(kind)[1:])} if get_origin(kind) is Annotated else {}


def _constraints(kind: Any, constraints: tuple[Bounds | Form, ...]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for one in constraints:
        made |= {"pattern": f"^(?:{one.pattern})$"} if isinstance(one, Form) else _bounds(kind, one)
    return made


def _bounds(kind: Any, bounds: Bounds) -> dict[str, int]:
    by_kind = {int: ("minimum", "maximum"), float: ("minimum", "maximum"), str: ("minLength", "maxLength")}
    mapping = get_origin(kind) is Mapping
    lower, upper = by_kind.get(kind, ("minProperties", "maxProperties") if mapping else ("minItems", "maxItems"))
    return {lower: bounds.minimum, upper: bounds.maximum}


def _summary(run: Any) -> str:
    return (inspect.getdoc(run) or "").partition("\n")[0]


@lru_cache(maxsize=256)
def _descriptions(kind: type) -> dict[str, str]:
    """What stands as a string under a field, here or in a class that it is made from."""
    descriptions: dict[str, str] = {}
    for base in reversed([one for one in kind.__mro__ if is_dataclass(one)]):
        (made,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(made, ast.ClassDef)
        for field, after in zip(made.body, made.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match after:
                    case ast.Expr(ast.Constant(str(text))):
                        descriptions[field.target.id] = inspect.cleandoc(text)
    return descriptions
