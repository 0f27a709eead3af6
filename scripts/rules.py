"""Rules of the house that no linter knows: who may import whom, what a Lua script says, what may be compiled."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("sluice/config", "sluice/http", "sluice/store", "sluice/observe", "sluice/process", "sluice/history"),
    ("relay",),
    ("sessions",),
    ("gateway",),
    ("sluice/console",),
    ("sluice/demo", "sluice/backup"),
    ("sluice/cli",),
)
"""Each may import only itself and what stands before it."""
COMPILED = runpy.run_path(str(ROOT / "setup.py"), run_name="rules")["COMPILED"]
COMPILABLE_BASES = {"Protocol", "Generic", "Enum"}
RETIRED = {
    "turn",
    "ahead",
    "told",
    "asked",
    "words",
    "meeting",
    "standing",
    "remembered",
    "deaths",
    "patience",
}
"""Private words that once stood for terms of docs/glossary.md."""
MAX_CLASS = 200
LARGE_CLASSES = {"ServerProtocol", "Cycle"}
"""The server side of a connection and of an exchange: each one state machine, on the hot path."""
OWN_KEYS = {
    "gateway/limits/applicable.py": "addresses, which all have one size",
    "gateway/limits/headers.py": "limits of the policies",
    "gateway/request.py": "pointers of the policies",
    "relay/queue/layout.py": "endpoints of the policies",
    "sluice/config/live.py": "policies files",
    "sluice/config/schema.py": "nothing",
    "sluice/console/openapi.py": "our classes",
    "sluice/console/operations.py": "our functions",
    "sluice/http/client/framing.py": "numbers",
    "sluice/http/decode.py": "our classes",
    "sluice/http/signatures.py": "signatures of the policies",
}
"""Where so many results are kept (lru_cache), and by what: nothing of which strangers choose the size."""
SHARED_LUA = {
    "clock.lua",
    "forms.lua",
    "lately.lua",
    "events.lua",
    "partition.lua",
    "waiting.lua",
    "circuit.lua",
    "prelude.lua",
    "generations.lua",
}


def broken_imports() -> Iterator[str]:
    for rank, layer in enumerate(LAYERS):
        above = [room for later in LAYERS[rank + 1 :] for room in later]
        for room in layer:
            for file in sorted((ROOT / room).rglob("*.py")):
                for line, imported in _imports(file):
                    forbidden = next((one for one in above if (imported + "/").startswith(one + "/")), None)
                    if forbidden:
                        yield f"{file.relative_to(ROOT)}:{line}: {room} must not import {forbidden}"


def _imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.replace(".", "/")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}".replace(".", "/")) for alias in node.names)


def broken_names() -> Iterator[str]:
    """docs/glossary.md: the field's terms, and classes that have one idea."""
    for top in ("gateway", "relay", "sessions", "sluice"):
        for file in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                place = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
                name = _defined(node)
                word = name.strip("_").lower()
                if word in RETIRED or word.startswith(("most_", "longest_", "largest_")):
                    yield f"{place}: {name} is a private word; docs/glossary.md has the term"
                if isinstance(node, ast.ClassDef) and node.name not in LARGE_CLASSES:
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    if lines > MAX_CLASS:
                        yield f"{place}: class {node.name} has {lines} lines, {MAX_CLASS} are the most; split it"


def _defined(node: ast.AST) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            return name
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
    return ""


def broken_caches() -> Iterator[str]:
    """A number of entries is no bound in bytes where strangers choose the keys."""
    for top in ("gateway", "relay", "sessions", "sluice"):
        for file in sorted((ROOT / top).rglob("*.py")):
            name = str(file.relative_to(ROOT))
            if name in OWN_KEYS:
                continue
            for line, imported in _imports(file):
                if imported == "functools/lru_cache":
                    yield f"{name}:{line}: what is foreign lies in a Cache of sluice/process/cache.py"


def broken_scripts() -> Iterator[str]:
    for file in sorted(ROOT.glob("[!.]*/**/lua/*.lua")):
        text, name = file.read_text(), file.relative_to(ROOT)
        legend = text[: text.find("\n\n")].lower()
        for word in ("purpose", "guarantee", "keys", "argv", "return", "twice") if file.name not in SHARED_LUA else ():
            if word not in legend:
                yield f"{name}:1: the legend says nothing of {word!r}"
        if any(f"'{command}'" in text for command in ("KEYS", "SCAN")):
            yield f"{name}: looks for keys instead of declaring them"


def broken_compiled() -> Iterator[str]:
    """docs/decisions/0006: a class that mypyc compiles may crash when it does not compile its base too."""
    for name in COMPILED:
        tree = ast.parse((ROOT / name).read_text())
        compilable = COMPILABLE_BASES | set(_compiled_imports(tree))
        for node in ast.walk(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                said = base.value if isinstance(base, ast.Subscript) else base
                if not isinstance(said, ast.Name) or said.id not in compilable:
                    yield f"{name}:{node.lineno}: a compiled class inherits from nothing that is not compiled"


def _compiled_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{(node.module or '').replace('.', '/')}.py" in COMPILED:
            yield from (alias.name for alias in node.names)


if __name__ == "__main__":
    found = [*broken_imports(), *broken_names(), *broken_caches(), *broken_scripts(), *broken_compiled()]
    sys.stderr.writelines(f"{line}\n" for line in found)
    sys.exit(bool(found))
