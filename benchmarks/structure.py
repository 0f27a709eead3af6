"""How large the product is: files, lines, functions, large classes. `structure.py [CHECKOUT [PACKAGE …]]`."""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from pathlib import Path

from measured import Figure, tell

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gateway", "relay", "sessions", "sluice")
LARGE = 200
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(text: str, tree: ast.Module) -> int:
    """Without blank lines, comments and docstrings."""
    docs = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {line for token in tokens if token.type not in _NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    return len(code - docs)


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    files = [file for package in sys.argv[2:] or PACKAGES for file in sorted((root / package).rglob("*.py"))]
    functions, classes = list[tuple[int, str]](), list[tuple[int, str]]()
    lines = code = 0
    for file in files:
        text = file.read_text()
        tree = ast.parse(text)
        lines, code = lines + text.count("\n"), code + code_lines(text, tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                found = classes if isinstance(node, ast.ClassDef) else functions
                found.append((size, f"{file.relative_to(root)}:{node.name}"))
    tell(
        (
            Figure("files", len(files)),
            Figure("lines of code", code),
            Figure("lines", lines),
            Figure("a function, median", statistics.median(one for one, _ in functions), "lines"),
            Figure(f"classes of more than {LARGE} lines", sum(one > LARGE for one, _ in classes)),
        )
    )
    size, name = max(functions)
    sys.stdout.write(f"files            {len(files)}\nlines            {lines:,}, of code {code:,}\n")
    sys.stdout.write(f"functions        median {statistics.median(one for one, _ in functions):g} lines\n")
    sys.stdout.write(f"longest          {size} lines, {name}\n")
    for size, name in sorted(classes, reverse=True):
        if size > LARGE:
            sys.stdout.write(f"class over {LARGE}   {size} lines, {name}\n")


if __name__ == "__main__":
    main()
