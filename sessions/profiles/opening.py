"""The one place in which a vault is made of what `sessions.vault` says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta

from obstore.store import LocalStore, S3Store

from sessions.profiles.contents import Contents, ContentsAway, InObjects, InStore
from sessions.profiles.observed import ObservedVault
from sessions.profiles.policies import Bucket, Folder, VaultPolicy
from sessions.profiles.vault import Vault
from sluice.store.client import Store

_CONNECT, _ANSWER, _RETRIES = timedelta(seconds=5), timedelta(seconds=30), timedelta(seconds=60)


def open_vault(policy: VaultPolicy, store: Store) -> Vault:
    """Asks for nothing: whether its place is there is seen when it is used."""
    return ObservedVault(store, contents_of(policy, store), policy.secrets, policy.generations)


def contents_of(policy: VaultPolicy, store: Store) -> Contents:
    match policy.place:
        case Folder():
            return InFolder(policy.place)
        case Bucket():
            return InObjects(_bucket(policy.place))
    return InStore(store)


class InFolder:
    """A folder that a person makes or mounts, so it is not made here: what is not mounted must not look like an empty
    vault, and fill the disk below it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._objects: InObjects | None = None

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await (await self._there()).put(session, of, name, sealed)

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        return await (await self._there()).get(session, of, name)

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        return await (await self._there()).missing(session, chunks)

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        await (await self._there()).erase(session, chunks)

    async def _there(self) -> InObjects:
        path = self._folder.path
        if not await asyncio.to_thread(path.is_dir):
            raise ContentsAway(f"the vault's folder {path} is not there: make it (mkdir -m 700 {path}), or mount it")
        if self._objects is None:
            self._objects = InObjects(LocalStore(path))
        return self._objects


def _bucket(bucket: Bucket) -> S3Store:
    """Credentials come from the usual variables (AWS_ACCESS_KEY_ID, …), or from the machine's role."""
    given = {"endpoint": bucket.endpoint, "region": bucket.region}
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        client_options={
            "connect_timeout": _CONNECT,
            "timeout": _ANSWER,
            "allow_http": bucket.endpoint.startswith("http:"),
        },
        retry_config={"max_retries": 3, "retry_timeout": _RETRIES},
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )
