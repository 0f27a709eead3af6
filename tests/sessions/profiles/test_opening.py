"""A vault is where sessions.vault says, and is opened without asking whether that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sessions.profiles.contents import ContentsAway
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import Bucket, Folder, Place, VaultPolicy
from sessions.profiles.vault import Restored, Saved
from sluice.config.model import Secret
from sluice.store.client import Store
from tests.sessions.profiles.making import OLD, SECRET, profile

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "knows")
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="vault")
        yield Bucket("vault", "here/logins", endpoint, "us-east-1")
    server.stop()


def policy(place: Place, *keys: bytes, generations: int = 3) -> VaultPolicy:
    return VaultPolicy(place, tuple(Secret(key) for key in keys or (SECRET,)), generations)


async def saved(opened: VaultPolicy, store: Store, folder: Path) -> Saved:
    vault = open_vault(opened, store)
    fence = (await vault.generations.claim("s1")).fence
    found = await vault.save("s1", fence, folder, Origin())
    assert isinstance(found, Saved)
    return found


async def test_profiles_lie_in_the_store(store: Store, tmp_path: Path) -> None:
    await saved(policy("store"), store, profile(tmp_path / "source"))
    found = await open_vault(policy("store"), store).restore("s1", tmp_path / "target")
    assert isinstance(found, Restored)


async def test_profiles_lie_in_a_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    await saved(policy(Folder(tmp_path / "vault")), store, profile(tmp_path / "source"))
    assert list((tmp_path / "vault" / "s1" / "1").iterdir())
    found = await open_vault(policy(Folder(tmp_path / "vault")), store).restore("s1", tmp_path / "target")
    assert isinstance(found, Restored)


async def test_profiles_lie_in_a_bucket(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    await saved(policy(bucket), store, profile(tmp_path / "source"))
    client = boto3.client("s3", endpoint_url=bucket.endpoint, region_name="us-east-1")
    names = [one["Key"] for one in client.list_objects_v2(Bucket="vault")["Contents"]]
    assert names
    assert all(name.startswith("here/logins/s1/1/") for name in names)
    found = await open_vault(policy(bucket), store).restore("s1", tmp_path / "target")
    assert isinstance(found, Restored)


async def test_a_bucket_that_is_not_there_is_said_to_be_away(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    nowhere = Bucket("nowhere", "", bucket.endpoint, bucket.region)
    with pytest.raises(ContentsAway, match="the vault in s3://nowhere cannot be written: NoSuchBucket"):
        await saved(policy(nowhere), store, profile(tmp_path / "source"))


async def test_a_folder_that_is_not_there_is_not_made(store: Store, tmp_path: Path) -> None:
    """It may be one that is not mounted."""
    place = Folder(tmp_path / "vault")
    source, vault = profile(tmp_path / "source"), open_vault(policy(place), store)
    fence = (await vault.generations.claim("s1")).fence
    with pytest.raises(ContentsAway) as caught:
        await vault.save("s1", fence, source, Origin())
    assert str(caught.value) == (
        f"the vault's folder {place.path} is not there: make it (mkdir -m 700 {place.path}), or mount it"
    )
    assert not place.path.exists()
    place.path.mkdir()
    assert isinstance(await vault.save("s1", fence, source, Origin()), Saved)


async def test_the_first_key_seals_and_all_of_them_open(store: Store, tmp_path: Path) -> None:
    await saved(policy("store", OLD), store, profile(tmp_path / "source"))
    both = open_vault(policy("store", SECRET, OLD), store)
    assert isinstance(await both.restore("s1", tmp_path / "target"), Restored)
    await saved(policy("store", SECRET, OLD), store, profile(tmp_path / "source"))
    assert isinstance(await open_vault(policy("store", SECRET), store).restore("s1", tmp_path / "again"), Restored)


async def test_as_many_generations_are_kept_as_the_policy_says(store: Store, tmp_path: Path) -> None:
    for seed in range(4):
        await saved(policy("store", generations=2), store, profile(tmp_path / str(seed), seed=seed))
    known = await open_vault(policy("store"), store).generations.of("s1")
    assert known is not None
    assert [one.number for one in known.generations] == [4, 3]
