"""Labeling: the flavour class of every simulated jet.

Files that carry `Jet_FlavSplit` (PFNano with truth, btvNano) are taken at their word. For others the same logic
(DeepNTuples; PFNano:plugins/DeepJetTableProducer.cc `jet_flavour`; cms-sw/cmssw:PhysicsTools/NanoAOD/plugins/
BTVMCFlavourTableProducer.cc) is redone from NanoAOD's branches: hadronFlavour, partonFlavour, the number of b and c
hadrons, genJetIdx, and neutrinos from b and c hadrons in `GenPart`. What a file can't tell apart merges (bb and lepb
into b, g into uds), and the study says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.labels import FLAVOURS
from pfnano_tag.errors import DataError
from pfnano_tag.nano.ancestry import at_or_above, rows_of_mothers
from pfnano_tag.nano.columns import Index, Jagged, delta_phi, pairs_within
from pfnano_tag.nano.layouts import require_branches
from pfnano_tag.nano.reader import Chunk

DROP = -1
"""Label of a jet that belongs to no class: undefined, pile-up, tau."""

B, BB, LEPB, C, UDS, G = range(len(FLAVOURS))

FLAVSPLIT: dict[int, int] = {
    0: G,
    1: UDS,
    2: UDS,
    400: C,
    410: C,
    411: C,
    500: B,
    510: BB,
    511: BB,
    520: LEPB,
    521: LEPB,
    600: DROP,  # tau; never set by the producer
    999: DROP,  # pile-up
    1000: DROP,  # undefined
}
"""Code of `Jet_FlavSplit` -> flavour (index in `FLAVOURS`) or `DROP`."""

MERGES_INTO = {"bb": "b", "lepb": "b", "g": "uds"}
"""Where the jets of a class go that a card leaves out or a file can't tell."""

NEUTRINO_CONE = 0.4
"""Largest Delta R between a jet and a neutrino from a heavy hadron that makes it leptonic."""

ENOUGH_B_JETS = 20
"""So many jets with one b hadron without a single neutrino from a heavy hadron in the file mean that the file's
`GenPart` lacks them: with a third of such jets leptonic, chance does that once in 3000 files."""

_ALWAYS = ("Jet_hadronFlavour", "Jet_genJetIdx")
_IF_THERE = ("Jet_partonFlavour", "Jet_nBHadrons", "Jet_nCHadrons")
_GENERATOR = ("GenPart_pdgId", "GenPart_status", "GenPart_genPartIdxMother", "GenPart_eta", "GenPart_phi")
_NEUTRINOS = (12, 14, 16)

Flavours = NDArray[np.int8]


@dataclass(frozen=True)
class Truth:
    """Flavours of the jets of a chunk, and what tells whether the file knows leptonic b jets.

    Parameters
    ----------
    flavour : ndarray of int8 [jets]
        Index in `FLAVOURS`, or `DROP`, for every jet of the chunk's flat collection.
    b_jets : int
        Jets with one b hadron (or with hadronFlavour 5 where hadrons aren't counted).
    neutrinos : int
        Stable neutrinos from b or c hadrons in the chunk.
    """

    flavour: Flavours
    b_jets: int
    neutrinos: int


def truth_branches(branches: frozenset[str], path: str) -> tuple[str, ...]:
    """Return the branches that labels are made from in a file.

    Raises
    ------
    MissingBranch
        When the file has neither `Jet_FlavSplit` nor the flavours of NanoAOD.
    """
    if "Jet_FlavSplit" in branches:
        return ("Jet_FlavSplit",)
    require_branches(_ALWAYS, branches, path, "labeling (without Jet_FlavSplit)")
    there = tuple(name for name in _IF_THERE if name in branches)
    generator = ("Jet_eta", "Jet_phi", *_GENERATOR) if branches.issuperset(_GENERATOR) else ()
    return (*_ALWAYS, *there, *generator)


def indistinct_in(branches: frozenset[str]) -> frozenset[str]:
    """Return the classes that a file with these branches can't tell from the one they merge into."""
    if "Jet_FlavSplit" in branches:
        return frozenset()
    told = {
        "bb": "Jet_nBHadrons" in branches,
        "lepb": branches.issuperset(_GENERATOR),
        "g": "Jet_partonFlavour" in branches,  # AK8 jets have none
    }
    return frozenset(name for name, known in told.items() if not known)


def lacks_neutrinos(b_jets: int, neutrinos: int) -> bool:
    """Return whether a file's `GenPart` evidently lacks the neutrinos from heavy hadrons."""
    return b_jets >= ENOUGH_B_JETS and neutrinos == 0


def truth_of(chunk: Chunk) -> Truth:
    """Return the flavours of all jets of a chunk.

    Raises
    ------
    DataError
        When `Jet_FlavSplit` holds a code that is not in the table.
    MissingBranch
        When the file has no truth at all.
    """
    chunk.load(truth_branches(chunk.branches, chunk.file.path))
    if "Jet_FlavSplit" in chunk.branches:
        return Truth(flavours_of_codes(chunk["Jet_FlavSplit"].values, chunk.file.path), 0, 0)
    jets: Jagged = chunk["Jet_hadronFlavour"]
    zeros = np.zeros(len(jets.values), dtype=np.int64)
    n_b = chunk["Jet_nBHadrons"].values if "Jet_nBHadrons" in chunk.branches else None
    n_c = chunk["Jet_nCHadrons"].values if "Jet_nCHadrons" in chunk.branches else zeros
    parton = chunk["Jet_partonFlavour"].values if "Jet_partonFlavour" in chunk.branches else None
    leptonic, neutrinos = _leptonic(chunk) if chunk.branches.issuperset(_GENERATOR) else (zeros > 0, 0)
    flavour = flavours_from_hadrons(jets.values, parton, n_b, n_c, chunk["Jet_genJetIdx"].values, leptonic)
    return Truth(flavour, int(np.count_nonzero((flavour == B) | (flavour == LEPB))), neutrinos)


def flavours_of_codes(codes: NDArray[np.integer[Any]], path: str = "file") -> Flavours:
    """Return the flavours for codes of `Jet_FlavSplit`.

    Parameters
    ----------
    codes : ndarray of int [jets]
        Codes.
    path : str
        The file, for the message.

    Raises
    ------
    DataError
        Naming codes that are not in `FLAVSPLIT`.
    """
    table = np.full(max(FLAVSPLIT) + 1, DROP, dtype=np.int8)
    table[list(FLAVSPLIT)] = list(FLAVSPLIT.values())
    unknown = np.setdiff1d(codes, list(FLAVSPLIT))
    if len(unknown):
        raise DataError(
            f"{path}: Jet_FlavSplit has the codes {unknown.tolist()[:5]}, known are {sorted(FLAVSPLIT)}; "
            "add them to pfnano_tag.prepare.labeling.FLAVSPLIT with the class they belong to"
        )
    return table[codes]


def flavours_from_hadrons(
    hadron_flavour: NDArray[np.integer[Any]],
    parton_flavour: NDArray[np.integer[Any]] | None,
    n_b_hadrons: NDArray[np.integer[Any]] | None,
    n_c_hadrons: NDArray[np.integer[Any]],
    gen_jet: NDArray[np.integer[Any]],
    leptonic: NDArray[np.bool_],
) -> Flavours:
    """Return the flavours from NanoAOD's truth branches, by the logic of `Jet_FlavSplit`.

    Parameters
    ----------
    hadron_flavour : ndarray of int [jets]
        Ghost-matched hadrons: 5, 4 or 0.
    parton_flavour : ndarray of int [jets] or None
        Signed code of the ghost-matched parton; None where the file doesn't know: then light jets are uds.
    n_b_hadrons : ndarray of int [jets] or None
        Number of b hadrons; None where the file doesn't know: then no jet is bb, and none is undefined for the
        lack of a b hadron.
    n_c_hadrons : ndarray of int [jets]
        Number of c hadrons.
    gen_jet : ndarray of int [jets]
        Index of the matched generator jet, negative for none.
    leptonic : ndarray of bool [jets]
        Whether a neutrino from a b or c hadron is within `NEUTRINO_CONE`.

    Returns
    -------
    ndarray of int8 [jets]
    """
    parton = np.ones(len(hadron_flavour), dtype=np.int64) if parton_flavour is None else np.abs(parton_flavour)
    n_b = np.where(hadron_flavour == 5, 1, 0) if n_b_hadrons is None else n_b_hadrons
    is_b, is_c = hadron_flavour == 5, hadron_flavour == 4
    contradictory = np.isin(parton, (4, 5)) | (n_b > 0) | (n_c_hadrons > 0)
    conditions = [
        gen_jet < 0,
        is_b & (n_b > 1),
        is_b & (n_b == 1) & leptonic,
        is_b & (n_b == 1),
        is_c,
        is_b | contradictory,
        parton == 21,
        np.isin(parton, (1, 2, 3)),
    ]
    return np.select(conditions, [DROP, BB, LEPB, B, C, DROP, G, UDS], default=DROP).astype(np.int8)


def from_heavy_hadron(
    pdg_id: NDArray[np.integer[Any]], mother: NDArray[np.integer[Any]], offsets: Index
) -> NDArray[np.bool_]:
    """Return whether a b or c hadron (400-599, 4000-5999) is among a particle's ancestors or the particle itself.

    Parameters
    ----------
    pdg_id, mother : ndarray of int [particles]
        Particle code, and index of the mother within the event (negative or out of range: none).
    offsets : ndarray of int64 [events + 1]
        Particles of each event.
    """
    code = np.abs(pdg_id.astype(np.int64))
    found = ((code >= 400) & (code < 600)) | ((code >= 4000) & (code < 6000))
    return at_or_above(found, rows_of_mothers(mother, offsets))


def _leptonic(chunk: Chunk) -> tuple[NDArray[np.bool_], int]:
    """Return which jets have a neutrino from a heavy hadron inside, and how many such neutrinos there are."""
    particles: Jagged = chunk["GenPart_pdgId"]
    code = np.abs(particles.values)
    stable = np.isin(code, _NEUTRINOS) & (chunk["GenPart_status"].values == 1)
    heavy = from_heavy_hadron(particles.values, chunk["GenPart_genPartIdxMother"].values, particles.offsets)
    rows = np.flatnonzero(stable & heavy)
    offsets = np.searchsorted(rows, particles.offsets).astype(np.int64)
    jets: Jagged = chunk["Jet_eta"]
    jet, neutrino, _ = pairs_within(jets.offsets, offsets)
    d_eta = jets.values[jet] - chunk["GenPart_eta"].values[rows][neutrino]
    d_phi = delta_phi(chunk["Jet_phi"].values[jet], chunk["GenPart_phi"].values[rows][neutrino])
    near = d_eta * d_eta + d_phi * d_phi < NEUTRINO_CONE**2
    leptonic = np.zeros(len(jets.values), dtype=np.bool_)
    leptonic[jet[near]] = True
    return leptonic, len(rows)


def classes_of(card_classes: Sequence[str], indistinct: Collection[str]) -> tuple[str, ...]:
    """Return a study's classes: the card's without those that its files can't tell."""
    return tuple(name for name in card_classes if name not in indistinct)


def labels_of(flavour: Flavours, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class of each jet.

    Parameters
    ----------
    flavour : ndarray of int8 [jets]
        From `truth_of`.
    classes : sequence of str
        The study's classes; bb and lepb go to b, g to uds, where they are not among them.

    Returns
    -------
    ndarray of int64 [jets]
        Index in `classes`, or `DROP`.
    """
    targets = [name if name in classes else MERGES_INTO[name] for name in FLAVOURS]
    table = np.array([*(list(classes).index(name) for name in targets), DROP], dtype=np.int64)
    return table[flavour]  # DROP = -1 picks the last entry
