"""The vault: how long it takes to save a profile and to restore it, and what that costs.

    .venv/bin/python benchmarks/vault.py
    .venv/bin/python benchmarks/vault.py --sizes 1 20 --places store --json raw.json
    .venv/bin/python benchmarks/vault.py --beside FOLDER

Profiles of 1, 20 and 300 MB, half of them random (media keys, blobs) and half JSON as WhatsApp-Web keeps it, are saved
into the embedded store, a folder and a real S3 server (moto) on this machine; then once more with 1 % changed; then
restored. Each is a process of its own, so its peak of memory is its own, too: VmHWM less what it had after a profile of
a few bytes. CPU is that of the process alone, not of the store or the S3 server.

`--beside` measures the same profiles as RemoteAuth of whatsapp-web.js and the store wwebjs-aws-s3 handle them: copy the
two trees, zip, upload; download, unzip. In that folder this was run before:

    npm install wwebjs-aws-s3@1.0.2 @aws-sdk/client-s3 archiver@7 unzipper@0.12

wwebjs-mongo needs a MongoDB and is not measured.

The bar: a profile of 20 MB is saved within a second, and restored within a second. If it is missed the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3
from measured import Figure, tell
from moto.server import ThreadedMotoServer
from redis import Redis
from redis.exceptions import RedisError

from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import Bucket, Folder, Place, VaultPolicy
from sessions.profiles.vault import Restored, Saved, Vault
from sluice.config.model import Secret
from sluice.store import embedded
from sluice.store.client import Store

_MB = 1_000_000
_LEVELDB = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb"
_TABLE = 2 * _MB  # a file of LevelDB, at most
_BAR = 1.0  # second, for 20 MB
_AT_MOST = 270.0  # seconds for all of it
_BESIDE = Path(__file__).parent / "comparing" / "aws_s3_store.mjs"


@dataclass(frozen=True, slots=True)
class Row:
    by: str
    place: str
    size_mb: float
    what: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    stored_mb: float

    @property
    def meets_bar(self) -> bool:
        return self.by != "sluice" or self.size_mb != 20 or self.seconds <= _BAR


def make_profile(folder: Path, size: int) -> None:
    """About so many bytes."""
    chance, number = random.Random(size), 5
    leveldb = folder / _LEVELDB
    leveldb.mkdir(parents=True)
    (leveldb / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    (leveldb / "MANIFEST-000001").write_bytes(chance.randbytes(300))
    (folder / "Default" / "Local Storage" / "leveldb").mkdir(parents=True)
    (folder / "Default" / "Local Storage" / "leveldb" / "000003.log").write_bytes(b"last-wid-md" * 400)
    (folder / "Default" / "Cookies").write_bytes(chance.randbytes(20_480))
    while size > 0:
        some = min(size, _TABLE)
        texts = (b'{"id":"%x","t":%d,"ack":3,"type":"chat"}' % (chance.getrandbits(96), i) for i in range(some // 100))
        text = b"".join(texts)[: some // 2]
        (leveldb / f"{number:06}.ldb").write_bytes(text + chance.randbytes(some - len(text)))
        size, number = size - some, number + 1


def change(folder: Path) -> None:
    """One file in a hundred, or one; a browser writes new tables and leaves the others."""
    tables = sorted((folder / _LEVELDB).glob("*.ldb"))
    for table in tables[:: max(1, len(tables))][: max(1, len(tables) // 100)]:
        table.write_bytes(random.Random(2).randbytes(min(table.stat().st_size, max(10_000, _TABLE // 5))))


def peak() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / _MB


async def measured(url: str, place: Place, folder: Path, size: int) -> list[Row]:
    """In a process of its own."""
    store = Store(url, timeout=60.0)
    policy = VaultPolicy(place, (Secret(b"a secret of a benchmark, of 32 bytes"),))
    vault, source = open_vault(policy, store), folder / f"source{size}"
    make_profile(folder / "tiny", 1000)
    await saved(vault, "tiny", folder / "tiny")
    before, rows, name = peak(), [], f"s{size}"

    def row(what: str, began: tuple[float, float], stored: float) -> None:
        seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        rows.append(Row("sluice", said(place), size / _MB, what, seconds, cpu, peak() - before, stored / _MB))

    for what in ("save", "save, 1 % changed"):
        began = time.perf_counter(), time.process_time()
        found = await saved(vault, name, source)
        row(what, began, found.written)
        change(source)
    began = time.perf_counter(), time.process_time()
    assert isinstance(await vault.restore(name, folder / f"target-{size}-{said(place)}"), Restored)
    row("restore", began, 0)
    await vault.erase(name)
    await store.close()
    return rows


async def saved(vault: Vault, session: str, source: Path) -> Saved:
    fence = (await vault.generations.claim(session)).fence
    found = await vault.save(session, fence, source, Origin())
    assert isinstance(found, Saved), found
    return found


def said(place: Place) -> str:
    return "store" if place == "store" else "folder" if isinstance(place, Folder) else "s3"


@contextmanager
def a_store(folder: Path) -> Iterator[str]:
    embedded.make_folders(folder)
    process = subprocess.Popen(embedded.command(folder, "second"), stdout=subprocess.DEVNULL)
    try:
        with Redis.from_url(embedded.url(folder)) as client:
            deadline = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    break
                except (RedisError, OSError):
                    assert time.monotonic() < deadline, "the store did not start"
                    time.sleep(0.02)
        yield embedded.url(folder)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def a_bucket() -> Iterator[Bucket]:
    os.environ.update(AWS_ACCESS_KEY_ID="somebody", AWS_SECRET_ACCESS_KEY="knows")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="vault")
    try:
        yield Bucket("vault", "logins", endpoint, "us-east-1")
    finally:
        server.stop()


def place_of(text: str) -> Place:
    if text == "store":
        return "store"
    return Folder(Path(text)) if text.startswith("/") else Bucket(**json.loads(text))


def in_a_process(url: str, place: str, folder: Path, size: int) -> list[Row]:
    command = [sys.executable, __file__, "--one", url, place, str(folder), str(size)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_AT_MOST)
    return [Row(**row) for row in json.loads(found.stdout)]


def beside(modules: Path, bucket: Bucket, folder: Path, size: int, patience: float) -> list[Row]:
    """RemoteAuth and wwebjs-aws-s3; nothing, where that takes too long."""
    command = ["node", str(_BESIDE), str(modules), bucket.endpoint, bucket.name, str(folder), f"source{size}"]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        print(f"wwebjs-aws-s3 had not done with {size / _MB:g} MB within {patience:.0f} s", file=sys.stderr)
        return []
    return [Row("wwebjs-aws-s3", "s3", size / _MB, **row) for row in json.loads(found.stdout)]


def all_rows(options: argparse.Namespace) -> Iterator[Row]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp") as name, a_bucket() as bucket:
        folder = Path(name)
        (folder / "vault").mkdir()
        places = {"store": "store", "folder": str(folder / "vault"), "s3": json.dumps(asdict(bucket))}
        with a_store(folder / "data") as url:
            for size in [round(one * _MB) for one in options.sizes]:
                for place in options.places:
                    if time.monotonic() - began > _AT_MOST:
                        raise SystemExit("it took too long: the machine is too busy to measure")
                    with tempfile.TemporaryDirectory(dir=folder) as scratch:
                        make_profile(Path(scratch) / f"source{size}", size)
                        yield from in_a_process(url, places[place], Path(scratch), size)
                if options.beside:
                    with tempfile.TemporaryDirectory(dir=folder) as scratch:
                        make_profile(Path(scratch) / f"source{size}", size)
                        patience = max(1.0, _AT_MOST - (time.monotonic() - began))
                        yield from beside(options.beside, bucket, Path(scratch), size, patience)


def main() -> int:
    parser = argparse.ArgumentParser(description="the vault: saves and restores")
    parser.add_argument("--sizes", nargs="+", type=float, default=[1, 20, 300], metavar="MB")
    parser.add_argument("--places", nargs="+", choices=("store", "folder", "s3"), default=["store", "folder", "s3"])
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", help="measure wwebjs-aws-s3 of its node_modules as well"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options.one:
        url, place, folder, size = options.one
        found = asyncio.run(measured(url, place_of(place), Path(folder), int(size)))
        print(json.dumps([asdict(row) for row in found]))
        return 0
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print("| by | place | MB | what | seconds | CPU, s | peak, MB | written, MB |\n|---|---|---|---|---|---|---|---|")
    rows = []
    for row in all_rows(options):
        rows.append(row)
        numbers = f"{row.seconds:.2f} | {row.cpu_seconds:.2f} | {row.peak_mb:.0f} | {row.stored_mb:.1f}"
        print(f"| {row.by} | {row.place} | {row.size_mb:g} | {row.what} | {numbers} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print("wwebjs-mongo needs a MongoDB, and is not measured", file=sys.stderr)
    missed = [row for row in rows if not row.meets_bar]
    for row in missed:
        print(f"missed: {row.what} of 20 MB took {row.seconds:.2f} s in {row.place}", file=sys.stderr)
    tell(_figures(rows))
    return 1 if missed else 0


def _figures(rows: list[Row]) -> Iterator[Figure]:
    for row in rows:
        what = f"{row.what} of {row.size_mb:g} MB, {row.place}{'' if row.by == 'sluice' else f' ({row.by})'}"
        wanted = row.by == "sluice" and row.size_mb == 20
        yield Figure.at_most(what, row.seconds, 1.0, "s") if wanted else Figure(what, row.seconds, "s")


if __name__ == "__main__":
    sys.exit(main())
