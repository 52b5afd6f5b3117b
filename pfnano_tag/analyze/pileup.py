"""Pile-up weights: the distribution of the true number of interactions in data over that in simulation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uproot
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card.weights import PileupFactor, Profile
from pfnano_tag.errors import CardError

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PileupWeights:
    """Weights in bins of the true number of interactions.

    Parameters
    ----------
    edges : ndarray of float64 [bins + 1]
        Of the bins.
    ratios : dict of ndarray of float64 [bins]
        `nominal`, and `up` and `down` where there are.
    """

    edges: Values
    ratios: Mapping[str, Values]

    def of(self, interactions: Values) -> dict[str, Values]:
        """Return the weights of events, by variation.

        Parameters
        ----------
        interactions : ndarray of float64 [events]
            True number of interactions. Outside of the bins the weight is 0, where it isn't finite NaN.
        """
        place = np.searchsorted(self.edges, interactions, side="right")  # 0: below, bins + 1: above
        found = {name: np.concatenate([[0.0], ratio, [0.0]])[place] for name, ratio in self.ratios.items()}
        return {name: np.where(np.isfinite(interactions), values, np.nan) for name, values in found.items()}


def read_pileup(name: str, factor: PileupFactor) -> PileupWeights:
    """Return the pile-up weights that a factor of the card asks for.

    Bins with data and without simulation have weight 0; how much of the data they hold is said.

    Parameters
    ----------
    name : str
        Of the factor.
    factor : PileupFactor
        Of the card.

    Raises
    ------
    CardError
        When a file or histogram can't be read, is no distribution, or the bins differ; all problems at once.
    """
    profiles = {"simulation": factor.simulation, "data": factor.data}
    profiles |= {way: profile for way in factor.directions if (profile := getattr(factor, way)) is not None}
    problems: list[str] = []
    read: dict[str, tuple[Values, Values]] = {}
    for key, profile in profiles.items():
        try:
            read[key] = _distribution(profile)
        except CardError as error:
            problems.append(f"weights.factors.{name}.{key}: {error}")
    if "simulation" in read:
        edges = read["simulation"][1]
        problems += [
            f"weights.factors.{name}.{key}: {profiles[key].file}: {profiles[key].histogram!r} has "
            f"{_bins(other)}, simulation has {_bins(edges)}; both must be the same"
            for key, (_, other) in read.items()
            if other.shape != edges.shape or not np.allclose(other, edges, rtol=1e-6, atol=1e-6)
        ]
    if problems:
        raise CardError("\n".join(problems))
    simulated, edges = read.pop("simulation")
    there = simulated > 0
    ratios = {}
    for key, (values, _) in read.items():
        ratios[NOMINAL if key == "data" else key] = np.divide(
            values, simulated, out=np.zeros_like(values), where=there
        )
        lost = float(values[~there].sum())
        if lost > 0:
            log.warning(
                "weights.factors.%s.%s: %.3g of the data lies in %d bins without simulation; their weight is 0",
                *(name, key, lost, np.count_nonzero(values[~there])),
            )
    return PileupWeights(edges, ratios)


def _distribution(profile: Profile) -> tuple[Values, Values]:
    """Return content, brought to the sum 1, and edges of a histogram."""
    where = f"{profile.file}: {profile.histogram!r}"
    if not Path(profile.file).is_file():
        raise CardError(f"{profile.file}: no such file (seen from {Path.cwd()})")
    try:
        with uproot.open(profile.file) as file:
            if profile.histogram not in file:
                there = [key for key, kind in file.classnames(cycle=False).items() if kind.startswith("TH1")]
                raise CardError(f"{where} is not in the file; histograms: {', '.join(there[:10]) or 'none'}")
            histogram = file[profile.histogram]
            if not str(histogram.classname).startswith("TH1"):
                raise CardError(f"{where} is a {histogram.classname}, expected a histogram of one dimension (TH1)")
            values, edges = histogram.to_numpy()
    except (OSError, ValueError, KeyError, IndexError, AttributeError, uproot.DeserializationError) as error:
        raise CardError(f"{profile.file}: can't be read as a ROOT file: {error}") from error
    values = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise CardError(f"{where} is no distribution: its bins must be >= 0, and not all 0")
    return values / values.sum(), np.asarray(edges, dtype=np.float64)


def _bins(edges: Values) -> str:
    return f"{len(edges) - 1} bins in {edges[0]:g} to {edges[-1]:g}"
