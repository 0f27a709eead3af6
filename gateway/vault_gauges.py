"""What the page of metrics says of the vault, as this process has last seen it (`sessions.profiles.summary`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from prometheus_client.core import HistogramMetricFamily

from sessions.profiles.summary import AGES, VaultSummary
from sessions.profiles.troubles import KINDS, Trouble

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sluice_vault_up": ("Whether the place of the vault's chunks answers, and is the right one.", ()),
    "sluice_vault_sessions": (
        "Sessions of which a login is kept, and deleted ones that are not erased yet.",
        ("state",),
    ),
    "sluice_vault_generations": ("Generations of profiles that are kept.", ()),
    "sluice_vault_profile_bytes": ("Size of the newest profiles, as they are on a disk.", ()),
    "sluice_vault_stored_bytes": ("Bytes that were written for all generations that are kept.", ()),
    "sluice_vault_expected_bytes": ("Bytes that they may come to need.", ()),
    "sluice_vault_late_sessions": ("Connected sessions that were not saved for three times sessions.vault.every.", ()),
    "sluice_vault_old_key_generations": ("Generations that an older key of sessions.vault.key has sealed.", ()),
    "sluice_vault_unknown_key_generations": ("Generations sealed by a key that is not in sessions.vault.key.", ()),
    "sluice_vault_troubles": ("Sessions whose profile could not be saved or restored, by what went wrong.", ("what",)),
}
AGE = "sluice_vault_snapshot_age_seconds"


def values(summary: VaultSummary | None, troubles: Sequence[Trouble]) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """By name, with the values of its labels."""
    if summary is None:
        return {}
    by_kind = Counter(trouble.kind for trouble in troubles)
    return {
        "sluice_vault_up": [((), float(summary.away is None and summary.misplaced is None))],
        "sluice_vault_sessions": [(("kept",), summary.sessions), (("deleted",), summary.deleted)],
        "sluice_vault_generations": [((), summary.generations)],
        "sluice_vault_profile_bytes": [((), summary.size)],
        "sluice_vault_stored_bytes": [((), summary.stored)],
        "sluice_vault_expected_bytes": [((), summary.needs)],
        "sluice_vault_late_sessions": [((), summary.late_total)],
        "sluice_vault_old_key_generations": [((), summary.old_key)],
        "sluice_vault_unknown_key_generations": [((), sum(one.generations for one in summary.unnamed))],
        "sluice_vault_troubles": [((kind,), by_kind[kind]) for kind in KINDS],
    }


def ages(summary: VaultSummary | None) -> HistogramMetricFamily:
    """How old the newest snapshot of each session is, now. No counter: it goes up and down."""
    family = HistogramMetricFamily(AGE, "How old the newest snapshots of sessions are now.")
    if summary is not None:
        buckets, below = list[tuple[str, float]](), 0
        for bound, count in zip((*map(str, AGES), "+Inf"), summary.ages, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric([], buckets, summary.total_age)
    return family
