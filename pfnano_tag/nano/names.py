"""What the branches of a file are called here, whatever the file calls them.

Above the reader all code speaks *canonical names*: those of PFNano's AK4 jets in the Run 2 legacy production. This
module says from which stored branches each canonical one is made: renamed ones of later NanoAOD versions, the AK8
collections (`jets.collection: FatJet`), quantities that a later version left out and that can be recomputed, and the
columns of a plain tree with one entry per jet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.jets import NTUPLE_LABELS, JetTree
from pfnano_tag.errors import CardError, MissingBranch, nearest
from pfnano_tag.nano import jet_id
from pfnano_tag.nano.columns import Jagged
from pfnano_tag.nano.schema import FEATURES

Column = Jagged | NDArray[Any]
Arrays = Mapping[str, Column]
Make = Callable[[Arrays, int, int], Column]


@dataclass(frozen=True)
class Branch:
    """Where a canonical column comes from.

    Parameters
    ----------
    stored : tuple of str
        Branches of the file.
    make : callable or None
        Makes the column from these for an entry range (arrays by stored name, start, stop); None: the one stored
        branch as it is.
    """

    stored: tuple[str, ...]
    make: Make | None = None


Names = dict[str, Branch]

RENAMED = {
    "fixedGridRhoFastjetAll": "Rho_fixedGridRhoFastjetAll",  # v12
    "MET_pt": "PFMET_pt",  # v15
    "MET_phi": "PFMET_phi",
}
"""Canonical name -> name in a later NanoAOD version."""

FAT_JETS = {
    "Jet": "FatJet",
    "JetPFCands": "FatJetPFCands",
    "JetSVs": "FatJetSVs",
    "GenJet": "GenJetAK8",
    "GenJetCands": "GenFatJetCands",
}
"""Canonical collection -> AK8 collection (cms-jet/PFNano: python/addPFCands_cff.py)."""

_AK4_ONLY = ("Muon_jetIdx", "Electron_jetIdx", "Tau_jetIdx", "Photon_jetIdx")
"""Links to AK4 jets: without meaning where `Jet` stands for AK8 jets."""


def event_names(stored: frozenset[str], collection: str) -> Names:
    """Return the canonical names of a tree of events.

    Parameters
    ----------
    stored : frozenset of str
        Branches of the tree.
    collection : str
        Jet collection of the card: `Jet` or `FatJet`.
    """
    names = {name: Branch((name,)) for name in stored}
    if collection == "FatJet":
        names = _fat_jet_names(stored)
    for canonical, later in RENAMED.items():
        if canonical not in names and later in stored:
            names[canonical] = Branch((later,))
    if "Jet_jetId" not in names and names.keys() >= set(jet_id.BRANCHES):
        names["Jet_jetId"] = Branch(tuple(names[name].stored[0] for name in jet_id.BRANCHES), _jet_id)
    return names


def _fat_jet_names(stored: frozenset[str]) -> Names:
    """Return the names with AK8 collections in the place of AK4 ones."""
    names: Names = {}
    replaced = {stored_as: canonical for canonical, stored_as in FAT_JETS.items()}
    for name in stored:
        collection, _, field = name.partition("_")
        if not field and name.startswith("n"):  # a counter
            collection = name[1:]
        if collection in replaced:
            names[replaced[collection].join(name.split(collection, 1))] = Branch((name,))
        elif collection not in FAT_JETS and name not in _AK4_ONLY:
            names[name] = Branch((name,))
    if "FatJet_genJetAK8Idx" in stored:
        names["Jet_genJetIdx"] = Branch(("FatJet_genJetAK8Idx",))
    return names


def _jet_id(arrays: Arrays, start: int, stop: int) -> Column:
    columns: list[Jagged] = []
    for name, column in arrays.items():
        if not isinstance(column, Jagged):
            raise ValueError(f"{name} has one value per event, expected lists")
        if columns and not np.array_equal(column.offsets, columns[0].offsets):
            raise ValueError(f"{name} has other numbers of jets than {next(iter(arrays))}: different lengths")
        columns.append(column)
    return Jagged(jet_id.jet_id(*(column.values for column in columns)), columns[0].offsets)


def tree_names(stored: frozenset[str], tree: JetTree, uuid: str) -> Names:
    """Return the canonical names of a tree with one entry per jet: each entry is an event with one jet.

    Features are found by their identifiers, `charged/ptrel`; so are four-vectors, `charged/px`, and the numbers of
    constituents, `charged/n`.

    Parameters
    ----------
    stored : frozenset of str
        Branches of the tree.
    tree : JetTree
        The card's mapping.
    uuid : str
        Of the file: its part of the events' identity where the tree has none.

    Raises
    ------
    CardError
        When the mapping names a feature or four-vector that there is not.
    MissingBranch
        When the tree has some of the flags of flavours that the card names, but not all; or has flags, and not the
        branch that the card names as the weight.
    """
    own: dict[str, str | None] = {name: feature.branch for name, feature in tree.features.items()}
    known = ntuple_branches() | own
    unknown = [name for name in tree.branches if "/" in name and name not in known and name not in FEATURES]
    if unknown:
        hints = ", ".join(nearest(unknown[0], known)) or "none"
        raise CardError(f"jets.tree.branches: {unknown[0]!r} is no feature or four-vector; nearest: {hints}")
    kinematics = {"jet/pt": "Jet_pt", "jet/eta": "Jet_eta"}  # the inputs are what the cuts are on, unless said
    followed = {ours: tree.branches[name] for ours, name in kinematics.items() if name in tree.branches}
    wanted = known | followed | tree.branches
    names = {
        ours: Branch((theirs,), _one_jet_per_event if ours.startswith("Jet_") else None)
        for ours, theirs in wanted.items()
        if theirs is not None and theirs in stored
    }
    flags = {
        flavour: [flag for flag in some if flag.partition("=")[0] in stored] for flavour, some in tree.labels.items()
    }
    if any(flags.values()):
        _require_named(stored, tree)
        branches = sorted({flag.partition("=")[0] for some in flags.values() for flag in some})
        names["Jet_FlavSplit"] = Branch(tuple(branches), _labels(flags))
    names.setdefault("genWeight", Branch((), lambda arrays, start, stop: np.ones(stop - start, dtype=np.float32)))
    names["nJet"] = Branch((), lambda arrays, start, stop: np.ones(stop - start, dtype=np.uint32))
    if tree.position_identifies:
        names |= _identity_by_position(uuid)
    return names


def _require_named(stored: frozenset[str], tree: JetTree) -> None:
    """Raise where a tree of simulation lacks flags or the weight that the card names: jets would be miscounted."""
    flags = {
        f"jets.tree.labels.{flavour}": flag.partition("=")[0]
        for flavour, some in tree.labels.items()
        for flag in some
        if flag not in NTUPLE_LABELS[flavour]
    }
    weight = tree.branches.get("genWeight")
    named = flags | ({} if weight is None else {"jets.tree.branches.genWeight": weight})
    for key, branch in named.items():
        if branch not in stored:
            hints = ", ".join(nearest(branch, stored)) or "none"
            raise MissingBranch(f"{key}: the tree has no branch {branch!r}; nearest: {hints}")


NTUPLE_EVENT = {
    "Jet_pt": "jet_corr_pt",
    "Jet_eta": "jet_eta",
    "Jet_phi": "jet_phi",
    "Jet_mass": "jet_mass",
    "run": "run_no",
    "luminosityBlock": "lumi_no",
    "event": "event_no",
    "genWeight": "genWeight",
    "charged/n": "n_Cpfcand",
    "neutral/n": "n_Npfcand",
    "sv/n": "n_sv",
}
"""DeepNTuples' names of what is not a feature; its `jet_pt` is the uncorrected one."""
_VECTOR = {"px": "px", "py": "py", "pz": "pz", "energy": "e"}
_PREFIX = {"charged": "Cpfcan", "neutral": "Npfcan", "sv": "sv"}


def ntuple_branches() -> dict[str, str | None]:
    """Return DeepNTuples' names: canonical name, or identifier of a feature or four-vector -> branch."""
    features: dict[str, str | None] = {f.id: f.flat for f in FEATURES.values() if f.flat}
    features["jet/pt"] = NTUPLE_EVENT["Jet_pt"]
    vectors = {
        f"{group}/{ours}": f"{prefix}_{theirs}"
        for group, prefix in _PREFIX.items()
        for ours, theirs in _VECTOR.items()
    }
    return {**NTUPLE_EVENT, **features, **vectors}


def _one_per_jet(arrays: Arrays, name: str) -> NDArray[Any]:
    """Return a column of a tree of jets that must have one value per entry; a list would be taken for a flag."""
    column = arrays[name]
    if isinstance(column, Jagged) or column.ndim != 1:
        raise ValueError(f"{name} holds lists, expected one value per jet (jets.tree)")
    return column


def _one_jet_per_event(arrays: Arrays, start: int, stop: int) -> Column:
    (name,) = arrays
    return Jagged(_one_per_jet(arrays, name), np.arange(stop - start + 1))


CODES = {"b": 500, "bb": 510, "lepb": 520, "c": 400, "uds": 1, "g": 0}
UNDEFINED = 1000
"""Codes of `Jet_FlavSplit` that stand for the classes."""


def _labels(flags: Mapping[str, list[str]]) -> Make:
    def make(arrays: Arrays, start: int, stop: int) -> Column:
        codes = np.full(stop - start, UNDEFINED, dtype=np.int64)
        classes = np.zeros(stop - start, dtype=np.int64)
        for flavour, some in flags.items():
            chosen = np.zeros(stop - start, dtype=np.bool_)
            for flag in some:
                branch, _, value = flag.partition("=")
                column = _one_per_jet(arrays, branch)
                chosen |= (column == float(value)) if value else (column != 0)
            codes[chosen] = CODES[flavour]
            classes += chosen
        if (classes > 1).any():
            entry = start + int(np.flatnonzero(classes > 1)[0])
            raise ValueError(f"the jet in entry {entry} has flags of several flavour classes (jets.tree.labels)")
        return Jagged(codes, np.arange(stop - start + 1))

    return make


def _identity_by_position(uuid: str) -> Names:
    mark = UUID(uuid).int % (1 << 32)
    return {
        "run": Branch((), lambda arrays, start, stop: np.full(stop - start, mark, dtype=np.uint32)),
        "luminosityBlock": Branch((), lambda arrays, start, stop: np.zeros(stop - start, dtype=np.uint32)),
        "event": Branch((), lambda arrays, start, stop: np.arange(start, stop, dtype=np.uint64)),
    }
