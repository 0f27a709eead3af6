"""What `sluice check` says of a vault that is allowed to be as it is."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.policies.model import Policies
from sessions.profiles.policies import Folder


def vault_warnings(policies: Policies) -> Iterator[str]:
    vault = policies.sessions.vault
    if vault is None:
        return
    if vault.verify is None:
        cure = "write verify: with the name of a signature"
        yield f"sessions.vault: no verify, nor sessions.verify, so /_sluice/vault is closed to workers; {cure}"
    if isinstance(vault.place, Folder) and not vault.place.path.is_dir():
        path = vault.place.path
        yield f"sessions.vault.url: {path} is not there, so nothing can be saved; mkdir -m 700 {path}, or mount it"
    for name, signature in policies.signatures.items():
        shared = {key.reveal() for key in vault.keys} & {secret.reveal() for secret in signature.secrets} - {b""}
        if shared:
            cure = "give the vault a key of its own: openssl rand -hex 32"
            shown = f"is the secret of signatures.{name}, too, so who may sign can read what is stored"
            yield f"sessions.vault.key: {shown}; {cure}"
