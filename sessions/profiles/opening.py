"""The one place in which a vault is made of what `sessions.vault` says."""

from __future__ import annotations

from datetime import timedelta

from obstore.store import S3Store

from sessions.profiles.bucket import InBucket
from sessions.profiles.contents import Contents, InStore
from sessions.profiles.folder import InFolder
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
            return InFolder(policy.place.path)
        case Bucket():
            return InBucket(_bucket(policy.place), f"the vault in {policy.place}")
    return InStore(store)


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
