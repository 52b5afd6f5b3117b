"""Distorted objects: a chunk whose jets, tracks or vertices are varied as section `systematics` of the card says.

Only columns of the chunk change (`Chunk.varied`); selections, features and networks then run on it as on any other.
Random numbers are functions of the seed, the event's identity and the object's place in it, so that they depend
neither on chunks nor on the order of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze import jet_energy, tracking
from pfnano_tag.analyze.draws import Draws
from pfnano_tag.card.systematics import Systematic
from pfnano_tag.errors import MissingBranch
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.layouts import Contents
from pfnano_tag.nano.reader import Chunk

LINKED = ("candidates", "btvnano")
"""Layouts in which inputs are made from candidates and vertices."""


@dataclass(frozen=True)
class Distortion:
    """How a kind of variation is made.

    Parameters
    ----------
    columns : callable
        Gives the columns that change, from the card's entry, the chunk, random numbers, and the branches that the
        job reads.
    branches : callable
        Gives the branches that it reads, of the card's entry and the branches of a file.
    of_constituents : bool
        Whether it needs candidates and vertices, not only jets.
    """

    columns: Callable[[Any, Chunk, Draws, frozenset[str]], Mapping[str, Jagged | NDArray[Any]]]
    branches: Callable[[Any, frozenset[str]], tuple[str, ...]]
    of_constituents: bool


DISTORTIONS: dict[str, Distortion] = {
    "jet_energy_scale": Distortion(jet_energy.scale, jet_energy.scale_branches, False),
    "jet_energy_resolution": Distortion(jet_energy.resolution, jet_energy.resolution_branches, False),
    "impact_parameter_resolution": Distortion(tracking.smeared, tracking.impact_branches, True),
    "impact_parameter_bias": Distortion(tracking.biased, tracking.impact_branches, True),
    "tracking_efficiency": Distortion(tracking.lost_tracks, tracking.track_branches, True),
    "vertex_efficiency": Distortion(tracking.lost_vertices, tracking.vertex_branches, True),
}
"""By the name that the card gives as `kind`."""


def distortion_branches(name: str, systematic: Systematic, contents: Contents) -> tuple[str, ...]:
    """Return the branches that a variation reads of a file.

    Raises
    ------
    MissingBranch
        When the file lacks one, or has no candidates and vertices to be varied.
    """
    distortion = DISTORTIONS[systematic.kind]
    if distortion.of_constituents and contents.layout not in LINKED:
        raise MissingBranch(
            f"{contents.path}: systematics.{name} ({systematic.kind}) varies tracks or vertices, which layout "
            f"{contents.layout} has only as finished inputs; use files with candidates, or leave it out"
        )
    needed = distortion.branches(systematic, contents.branches)
    missing = [branch for branch in needed if branch not in contents.branches]
    if missing:
        raise MissingBranch(
            f"{contents.path}: systematics.{name} ({systematic.kind}) needs branches that the file lacks: "
            + ", ".join(missing)
        )
    return needed


def distorted(
    name: str,
    systematic: Systematic,
    chunk: Chunk,
    hashes: NDArray[np.uint64],
    seed: int,
    read: Iterable[str],
) -> Chunk:
    """Return a chunk with varied objects.

    Parameters
    ----------
    name : str
        Of the variation; with the seed it decides on the random numbers.
    systematic : Systematic
        Of the card.
    chunk : Chunk
        Nominal.
    hashes : ndarray of uint64 [events]
        Identity of the events.
    seed : int
        Of the study.
    read : iterable of str
        Branches that the job reads: of collections that get shorter, these are made.
    """
    distortion = DISTORTIONS[systematic.kind]
    chunk.load(distortion.branches(systematic, chunk.branches))
    with np.errstate(all="ignore"):  # what is not finite in the file stays so
        return chunk.varied(distortion.columns(systematic, chunk, Draws(hashes, seed, name), frozenset(read)))
