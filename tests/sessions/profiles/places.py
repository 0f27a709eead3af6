"""Where a vault may lie, as tests have it: the store, a folder, a bucket of a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

from sessions.profiles.contents import Contents
from sessions.profiles.opening import contents_of
from sessions.profiles.policies import Bucket, Folder, Place, VaultPolicy
from sluice.config.model import Secret
from sluice.store.client import Store
from tests.sessions.profiles.making import SECRET


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address. Whoever uses it has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set, to anything."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str) -> Bucket:
    name = f"vault-{uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    return Bucket(name, "here/logins", endpoint, "us-east-1")


def contents_in(place: Place, store: Store) -> Contents:
    """As a process has them whose policies say so."""
    return contents_of(VaultPolicy(place, (Secret(SECRET),)), store)


def a_folder(path: Path) -> Folder:
    path.mkdir()
    return Folder(path)
