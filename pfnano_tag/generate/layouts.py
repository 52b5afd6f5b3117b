"""The layouts in which the same events can be written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pfnano_tag.generate.branches import Types, candidate_types
from pfnano_tag.generate.deepjet import deepjet_content, deepjet_types
from pfnano_tag.generate.ntuple import COUNTERS, jets_content, jets_types
from pfnano_tag.generate.ragged import Array, Table
from pfnano_tag.generate.run3 import btvnano_content, btvnano_types

if TYPE_CHECKING:
    from pfnano_tag.generate.simulation import Chunk

Content = tuple[dict[str, Array], dict[str, Table]]
_JET_TITLE = "ak4 PFJets {} with JECs applied, after basic selection (pt > 15)"
_TITLES = {
    "nPFCands": "interesting particles from AK4 and AK8 jets",
    "nFatJet": "slimmedJetsAK8, i.e. ak8 fat jets for boosted analysis",
    "nGenJet": "slimmedGenJets, i.e. ak4 Jets made with visible genparticles",
    "nGenJetAK8": "slimmedGenJetsAK8, i.e. ak8 Jets made with visible genparticles",
}


@dataclass(frozen=True)
class Layout:
    """How a chunk becomes branches.

    Parameters
    ----------
    types : callable
        (mode, fat_jets) -> types of the branches.
    content : callable
        Chunk -> scalars by name, and a table per collection; more than is stored may be there.
    tree : str
        Name of the tree, `Events` or `tree`.
    counters : dict of str
        Names of counters that are not `n<collection>`.
    unsigned : bool
        Whether counters are uint32 (else int32).
    titles : dict of str
        Titles of branches, as files of CMS have them: the only place that says what kind of jets they are.
    precise : bool
        Whether floats keep all their bits.
    fat_jets : bool
        Whether AK8 jets can be stored.
    """

    types: Callable[[str, bool], Types]
    content: Callable[[Chunk], Content]
    tree: str = "Events"
    counters: dict[str, str] = field(default_factory=dict)
    unsigned: bool = True
    titles: dict[str, str] = field(default_factory=dict)
    precise: bool = False
    fat_jets: bool = False


def _as_it_is(chunk: Chunk) -> Content:
    return chunk.scalars, chunk.tables


_CHS = _TITLES | {"nJet": f"slimmedJets, i.e. {_JET_TITLE.format('CHS')}"}
_PUPPI = _TITLES | {"nJet": f"slimmedJetsPuppi, i.e. {_JET_TITLE.format('Puppi')}"}
LAYOUTS: dict[str, Layout] = {
    "candidates": Layout(candidate_types, _as_it_is, titles=_CHS, fat_jets=True),
    "btvnano": Layout(btvnano_types, btvnano_content, unsigned=False, titles=_PUPPI, fat_jets=True),
    "deepjet": Layout(deepjet_types, deepjet_content, titles=_CHS),
    "jets": Layout(jets_types, jets_content, tree="tree", counters=COUNTERS, precise=True),
}
