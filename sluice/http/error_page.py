"""An error of ours as a small page, for people. It loads nothing from anywhere."""

from __future__ import annotations

from html import escape

from sluice.observe.printable import on_one_line

FIELDS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34em; margin: 15vh auto; padding: 0 1em; color: #222 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181818; color: #ddd }} }}
h1 {{ font-size: 1.5em }}
small {{ opacity: .7 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{detail}</p>
{more}</body>
</html>
"""


def page(status: int, title: str, detail: str, request_id: str, retry_after: str) -> bytes:
    """`retry_after` in seconds; empty: it is not known when another try may go well."""
    more = ""
    if retry_after:
        more += f"<p>Please try again in {_seconds(retry_after)}.</p>\n"
    if request_id:
        more += f"<p><small>Request {_shown(request_id)}</small></p>\n"
    return _PAGE.format(title=f"{status} {_shown(title)}", detail=_shown(detail), more=more).encode()


def _seconds(number: str) -> str:
    return f"{_shown(number)} second{'' if number == '1' else 's'}"


def _shown(text: str) -> str:
    return escape(on_one_line(text))
