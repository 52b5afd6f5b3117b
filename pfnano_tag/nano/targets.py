"""Truth targets beside the class of a jet: what further heads of a network learn from, and what a file must have.

Neutral candidates have none: a calorimeter cluster mixes particles of several origins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

ORIGINS = ("pileup", "other", "primary", "from_b", "from_bc", "from_c")
"""Classes of `charged/origin` in the order of their numbers; see `nano.truth`."""

NO_TRUTH = -1
"""Number of a candidate that the file says nothing of, and of padding."""


@dataclass(frozen=True)
class Target:
    """A truth target.

    Parameters
    ----------
    dtype : type
        How it is kept: whole numbers that are `NO_TRUTH`, or real numbers that are NaN, where nothing is known.
    branches : tuple of str
        Canonical names of the branches that it is made from.
    """

    dtype: type[np.int32] | type[np.float32]
    branches: tuple[str, ...]

    @property
    def unknown(self) -> float:
        """Value where nothing is known."""
        return NO_TRUTH if self.dtype is np.int32 else np.nan


_CANDIDATES = (
    *("PFCands_pt", "PFCands_eta", "PFCands_phi", "PFCands_charge", "JetPFCands_jetIdx", "JetPFCands_pFCandsIdx"),
    *("GenCands_pt", "GenCands_eta", "GenCands_phi", "GenCands_charge", "GenCands_genPartMotherIdx"),
    *("GenPart_pdgId", "GenPart_genPartIdxMother", "GenJetCands_jetIdx", "Jet_genJetIdx"),
)

TARGETS: dict[str, Target] = {
    "charged/origin": Target(np.int32, _CANDIDATES),
    "charged/vertex": Target(np.int32, _CANDIDATES),
    "jet/pt_ratio": Target(np.float32, ("Jet_pt", "Jet_genJetIdx", "GenJet_pt")),
}
"""Target by identifier, `group/name`."""


def group_of(target: str) -> str:
    """Return the group of a target: `jet` or `charged`."""
    return target.partition("/")[0]


def of_group(targets: Iterable[str], group: str) -> tuple[str, ...]:
    """Return the targets that one row of a group has."""
    return tuple(name for name in targets if group_of(name) == group)


def target_branches(targets: Iterable[str]) -> set[str]:
    """Return the branches that targets are made from."""
    return {branch for name in targets for branch in TARGETS[name].branches}


def absent_branches(branches: frozenset[str]) -> tuple[str, ...]:
    """Return the branches that any target is made from and a file with these branches lacks, sorted."""
    return tuple(sorted(target_branches(TARGETS) - branches))


def lacking(target: str, branches: frozenset[str]) -> list[str]:
    """Return the branches of a target that a file with these branches lacks."""
    return [branch for branch in TARGETS[target].branches if branch not in branches]


def unknown_values(target: str, rows: int) -> np.ndarray[Any, Any]:
    """Return a column of a target of which nothing is known."""
    entry = TARGETS[target]
    return np.full(rows, entry.unknown, dtype=entry.dtype)
