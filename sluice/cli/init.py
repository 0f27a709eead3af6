"""`sluice init`: writes a policies file, the project's own with what differs here put into it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import sluice
from gateway.policies import load
from sluice.cli.errors import CommandError
from sluice.cli.options import POLICIES, value_of
from sluice.config import PolicyError, units, urls
from sluice.config.problems import Malformed, quoted
from sluice.http.addresses import is_literal

T = TypeVar("T")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
HERE = "127.0.0.1"
_HERE = "where the gateway answers; point the workers here, and whoever visits Laravel"
_FOR_LARAVEL = "point Laravel's worker URL here: what the workers do without a key is not for strangers"
_NO_PATH = "what they have no path for, they answer 404"
_EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class _Question:
    option: str
    metavar: str
    asks: str
    read: Callable[[str], str]
    default: str


def _url(text: str) -> str:
    return urls.http_url(text)


def _urls(text: str) -> str:
    return ",".join(urls.http_url(one.strip()) for one in text.split(",") if one.strip())


def _networks(text: str) -> str:
    return ", ".join(str(units.network(one.strip())) for one in text.split(",") if one.strip())


def _variable(text: str) -> str:
    if not VARIABLE.fullmatch(text):
        raise Malformed(f"{quoted(text)} is not the name of a variable", "write WHATSAPP_HMAC_SECRET")
    return text


def _listen(text: str) -> str:
    units.listen(text)
    return text


def _listen_if_any(text: str) -> str:
    return _listen(text) if text else text


LISTEN = _Question("listen", "HOST:PORT", "where Sluice answers", _listen, "127.0.0.1:8080")
LARAVEL = _Question("laravel", "URL", "where Laravel is", _url, "http://127.0.0.1:8000")
LARAVEL_FROM = _Question("laravel-from", "NETWORKS", "the addresses that Laravel calls from", _networks, HERE)
WORKERS = _Question("workers", "URLS", "the workers' URLs, parted by commas, or none", _urls, "")
WORKERS_FROM = _Question("workers-from", "NETWORKS", "the addresses that the workers call from", _networks, HERE)
SECRET = _Question("secret-env", "NAME", "the variable with the secret of webhooks", _variable, "WHATSAPP_HMAC_SECRET")
TOKEN = _Question("token-env", "NAME", "the variable with the token of the console", _variable, "SLUICE_CONSOLE_TOKEN")
WORKERS_LISTEN = _Question(
    "workers-listen", "HOST:PORT", "where Laravel calls the workers, at an address of their own", _listen_if_any, ""
)
QUESTIONS = (LISTEN, WORKERS_LISTEN, LARAVEL, LARAVEL_FROM, WORKERS, WORKERS_FROM, SECRET, TOKEN)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", default=POLICIES, metavar="FILE", help="default: policies.yaml")
    parser.add_argument("--yes", action="store_true", help="ask nothing: take what is given, and the defaults")
    for one in QUESTIONS:
        default = one.default or "none"
        if one in (LARAVEL_FROM, WORKERS_FROM):
            default = f"those in the URL, or {HERE}"
        help_ = f"{one.asks} (default: {default})"
        parser.add_argument(f"--{one.option}", type=value_of(one.read), metavar=one.metavar, help=help_)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    path: Path = options.file
    if path.exists() or path.is_symlink():
        raise CommandError(f"{path} is there already; name another file (sluice init FILE), or remove it")
    if not options.yes and not sys.stdin.isatty():
        raise CommandError("standard input is no terminal to ask on; give --yes, and as options what differs from it")
    answers = _Answers(options)
    text = filled(
        listen=answers.of(LISTEN),
        workers_listen=answers.of(WORKERS_LISTEN),
        laravel=(laravel := answers.of(LARAVEL)),
        laravel_from=answers.of(LARAVEL_FROM, _addresses(laravel)),
        workers=(workers := answers.of(WORKERS)),
        workers_from=answers.of(WORKERS_FROM, _addresses(*filter(None, workers.split(",")))),
        secret=(secret := answers.of(SECRET)),
        token=(token := answers.of(TOKEN)),
    )
    try:
        load(path, need_secrets=False, content=text.encode())
    except PolicyError as error:
        raise CommandError(f"with these answers the file would be wrong: {error}") from None
    _write(path, text)
    sys.stdout.write(_next_steps(path, dict.fromkeys((secret, token))))


class _Answers:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    def of(self, question: _Question, default: str = "") -> str:
        given: str | None = getattr(self._options, question.option.replace("-", "_"))
        if given is not None:
            return given
        default = question.read(default or question.default)
        while not self._options.yes:
            try:
                said = input(f"{question.asks} [{default or 'none'}]: ").strip()
                return question.read(said) if said else default
            except Malformed as malformed:
                sys.stdout.write(f"  {malformed}\n")
            except EOFError:
                raise CommandError("no answer; nothing was written") from None
        return default


def _addresses(*found: str) -> str:
    """Those that stand in the URLs themselves."""
    hosts = [urlsplit(url).hostname or "" for url in found]
    literal = [host for host in hosts if is_literal(host) and host != "localhost"]
    return ", ".join(dict.fromkeys(str(ip_network(host)) for host in literal)) if len(literal) == len(hosts) else ""


def filled(
    *,
    listen: str,
    workers_listen: str = "",
    laravel: str,
    laravel_from: str,
    workers: str,
    workers_from: str,
    secret: str,
    token: str,
) -> str:
    """The project's own file with these values. Without `workers_listen` everybody asks at `listen`."""
    urls_of_workers = [url for url in workers.split(",") if url]
    existing = ", ".join(
        f"{{name: w{at}, url: {_quoted(url)}, prefix: /w/w{at}}}" for at, url in enumerate(urls_of_workers, 1)
    )
    text = shipped()
    asked_at = workers_listen or listen
    if urls_of_workers and units.listen(asked_at).host not in _EVERYWHERE:
        text = text.replace("# advertise: http://127.0.0.1:8080  ", f"advertise: {_quoted(f'http://{asked_at}')}  ")
    if workers_listen:
        text = _with_listeners(text, workers_listen)
    for old, new in (
        ("public: 127.0.0.1:8080", f"public: {_quoted(listen)}")
        if workers_listen
        else ("listen: 127.0.0.1:8080", f"listen: {_quoted(listen)}"),
        ("http://127.0.0.1:8000", _quoted(laravel)),
        ("laravel: [127.0.0.1/32]", f"laravel: [{_list(laravel_from)}]"),
        ("workers: [127.0.0.1/32]", f"workers: [{_list(workers_from)}]"),
        ("workers: []", f"workers: [{existing}]"),
        ("env:WHATSAPP_HMAC_SECRET", f"env:{secret}"),
        ("env:SLUICE_CONSOLE_TOKEN", f"env:{token}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


def _with_listeners(text: str, workers: str) -> str:
    """Names the listeners, and puts each route on its own."""
    begin, end = text.index("listen: 127.0.0.1:8080"), text.index("data: .sluice")
    named = (
        f"listen:\n  public: 127.0.0.1:8080               # {_HERE}\n  workers: {_quoted(workers)}   # {_FOR_LARAVEL}\n"
    )
    text = text[:begin] + named + text[end:]
    text = re.sub(r"^(  - \{path: .*workers: \w+.*?)\}( *#.*)?$", r"\1, on: workers}\2", text, flags=re.MULTILINE)
    text = re.sub(r"^(  - \{path: .*(?:relay|upstream): \w+)\}$", r"\1, on: public}", text, flags=re.MULTILINE)
    last = "  - {path: /**, upstream: laravel"
    assert last in text
    return text.replace(last, f"  - {{path: /**, workers: any, on: workers}}   # / too; {_NO_PATH}\n{last}")


def shipped() -> str:
    """`policies.yaml` of the project: beside the packages in a checkout, in the package of an installed wheel."""
    installed = files("sluice.cli") / "policies.yaml"
    if installed.is_file():
        return installed.read_text()
    return (Path(sluice.__file__).parents[1] / "policies.yaml").read_text()


def _list(networks: str) -> str:
    return ", ".join(_quoted(one) for one in networks.split(", ") if one)


def _quoted(text: str) -> str:
    """As YAML takes it for text, inside of brackets too."""
    return text if re.fullmatch(r"[A-Za-z0-9.:/_-]+", text) and "::" not in text and text[0] != ":" else f'"{text}"'


def _write(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CommandError(f"{path} cannot be written ({why}); name another file: sluice init FILE") from None


def _next_steps(path: Path, variables: dict[str, None]) -> str:
    named = "" if path == POLICIES else f" --policies {path}"
    missing = [name for name in variables if not os.environ.get(name)]
    exports = "".join(f"  export {name}=...\n" for name in missing)
    check = "sluice check" if path == POLICIES else f"sluice check {path}"
    return f"{path} is written; read what it says, and then:\n{exports}  {check}\n  sluice up{named}\n"
