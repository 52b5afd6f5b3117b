"""Truth targets of jets and charged candidates, made from a file's generator branches (`nano.targets`).

`charged/origin`, class by class of `ORIGINS`:

=========  ===========================================================================================================
class      a charged candidate
=========  ===========================================================================================================
pileup     from another collision: kept for files that tell it; none of those that can be read does
other      from a tau or a strange hadron, or without a particle of the simulated collision: what the detector
           simulation made (decays of strange hadrons, interactions with material), fakes, pile-up
primary    from the primary vertex: all others that match, resonances and strong decays of heavy hadrons included
from_b     from the weak decay of a b hadron, not by way of charm
from_bc    from the weak decay of a c hadron that came from a b hadron
from_c     from the weak decay of a c hadron that did not
=========  ===========================================================================================================

Heavy hadrons go before the rest: what a tau from a b hadron decays to is `from_b`. `charged/vertex` numbers the decay
vertices of an event: 0 is the primary vertex, others have 1 + the index in `GenPart` of the last b, c or long-lived
strange hadron or tau that decayed weakly on the way. `jet/pt_ratio` is the generator jet's pT over the jet's.

GenCands holds the constituents of generator jets above 20 GeV alone. Candidates of jets that none of these matches
have `NO_TRUTH`. So does the vertex of a candidate without a particle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.nano.ancestry import Decays, decays
from pfnano_tag.nano.columns import Index, Jagged, list_of_row, outside_lists
from pfnano_tag.nano.matching import Particles, matched
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.selection import aligned, integers
from pfnano_tag.nano.targets import NO_TRUTH, ORIGINS

_OTHER, _PRIMARY, _FROM_B, _FROM_BC, _FROM_C = range(1, len(ORIGINS))


@dataclass(frozen=True)
class CandidateTruth:
    """Truth of all candidates of a chunk.

    Parameters
    ----------
    generated : ndarray of int64 [candidates]
        Row of the particle in `GenCands`; -1: none.
    origin, vertex : ndarray of int32 [candidates]
        As in the module's docstring, wherever the candidate is.
    """

    generated: Index
    origin: NDArray[np.int32]
    vertex: NDArray[np.int32]


def candidate_truth(chunk: Chunk) -> CandidateTruth:
    """Return the truth of all candidates of a chunk; neutral ones have no particle.

    Raises
    ------
    BadChunk
        When branches contradict each other.
    """
    generated = matched(particles_of(chunk, "PFCands"), particles_of(chunk, "GenCands"))
    origin, vertex = _of_generated(chunk)
    none = generated < 0
    charge = chunk["PFCands_charge"].values
    unmatched = np.where(charge == 0, NO_TRUTH, _OTHER).astype(np.int32)
    if not len(origin):
        return CandidateTruth(generated, unmatched, np.full(len(none), NO_TRUTH, dtype=np.int32))
    return CandidateTruth(
        generated,
        np.where(none, unmatched, origin[generated]).astype(np.int32),
        np.where(none, NO_TRUTH, vertex[generated]).astype(np.int32),
    )


def has_truth(chunk: Chunk, row: Index, event: Index) -> NDArray[np.bool_]:
    """Return which jets match a generator jet whose constituents are in `GenCands`.

    Parameters
    ----------
    chunk : Chunk
        Events.
    row, event : ndarray of int64 [jets]
        Rows in the chunk's flat jet collection, and their events.

    Raises
    ------
    BadChunk
        When branches contradict each other.
    """
    links: Jagged = chunk["GenJetCands_jetIdx"]
    _same_events(chunk, "GenJetCands_jetIdx", links)
    index = integers(chunk, "GenJetCands_jetIdx", links, slice(None)).astype(np.int64)
    wanted = integers(chunk, "Jet_genJetIdx", chunk["Jet_pt"], row).astype(np.int64)
    room = 1 + max(int(index.max(initial=0)), int(wanted.max(initial=0)))
    stored = np.unique((list_of_row(links.offsets) * room + index)[index >= 0])
    return (wanted >= 0) & np.isin(event * room + wanted, stored)


def pt_ratio(chunk: Chunk, row: Index, event: Index) -> NDArray[np.float32]:
    """Return pT of the generator jet over pT of the jet; NaN where none matches.

    Parameters
    ----------
    chunk, row, event
        As for `has_truth`.

    Raises
    ------
    BadChunk
        When an index points outside the event's generator jets.
    """
    generated: Jagged = chunk["GenJet_pt"]
    _same_events(chunk, "GenJet_pt", generated)
    index = integers(chunk, "Jet_genJetIdx", chunk["Jet_pt"], row).astype(np.int64)
    there = np.flatnonzero(index >= 0)
    _inside(chunk, "Jet_genJetIdx", index[there], event[there], generated, "generator jets")
    ratio = np.full(len(row), np.nan, dtype=np.float32)
    pt = generated.values[generated.offsets[event[there]] + index[there]]
    ratio[there] = pt / chunk["Jet_pt"].values[row[there]]
    return ratio


def particles_of(chunk: Chunk, collection: str) -> Particles:
    """Return the particles of a collection, `PFCands` or `GenCands`."""
    pt: Jagged = chunk[f"{collection}_pt"]
    _same_events(chunk, f"{collection}_pt", pt)
    charge, eta, phi = (aligned(chunk, f"{collection}_{name}", pt) for name in ("charge", "eta", "phi"))
    return Particles(list_of_row(pt.offsets), charge, pt.values, eta, phi)


def _of_generated(chunk: Chunk) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return class and vertex of all particles in `GenCands`."""
    parts: Jagged = chunk["GenPart_pdgId"]
    _same_events(chunk, "GenPart_pdgId", parts)
    mothers = integers(chunk, "GenPart_genPartIdxMother", parts, slice(None))
    above = decays(parts.values, mothers, parts.offsets)
    like: Jagged = chunk["GenCands_pt"]
    mother = integers(chunk, "GenCands_genPartMotherIdx", like, slice(None)).astype(np.int64)
    event = list_of_row(like.offsets)
    known = np.flatnonzero(mother >= 0)
    _inside(chunk, "GenCands_genPartMotherIdx", mother[known], event[known], parts, "generated particles")
    origin, vertex = np.full(len(mother), _PRIMARY), np.zeros(len(mother), dtype=np.int64)
    first = parts.offsets[event[known]]
    row = first + mother[known]
    origin[known] = _classes(above)[row]
    vertex[known] = np.where(above.vertex[row] < 0, 0, 1 + above.vertex[row] - first)
    return origin, vertex


def _classes(above: Decays) -> NDArray[np.int64]:
    return np.select(
        [above.b & above.c, above.b, above.c, above.other], [_FROM_BC, _FROM_B, _FROM_C, _OTHER], default=_PRIMARY
    )


def _same_events(chunk: Chunk, name: str, column: Any) -> None:
    if not isinstance(column, Jagged):
        raise chunk.bad(f"{name} has one value per event, expected lists")
    if len(column) != chunk.num_events:
        raise chunk.bad(f"{name} has {len(column)} entries, the chunk has {chunk.num_events}")


def _inside(chunk: Chunk, name: str, index: Index, event: Index, of: Jagged, what: str) -> None:
    """Complain about indices outside their event."""
    outside = outside_lists(index, of.counts[event])
    if outside is not None:
        where = int(outside[0])
        raise chunk.bad(
            f"{name} is {index[where]} in entry {chunk.start + event[where]}, which has {of.counts[event[where]]} "
            f"{what} ({len(outside)} such indices)"
        )
