"""Event weights of a chunk, and which events enter at all.

Simulation: genWeight times the card's branches and factors, nominal and varied; cross section, luminosity and sums
of weights are applied by `compare`. Events with a weight, nominal or varied, that is not finite are dropped and
counted. Of a dataset that networks were trained on only the test split enters. Data: weight 1 in certified
luminosity sections, for events that no other primary dataset has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.factors import ReadyFactor, varied_weights
from pfnano_tag.analyze.primary_datasets import fired, trigger_branches
from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card import Card
from pfnano_tag.card.datasets import Dataset
from pfnano_tag.errors import CardError
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.prepare.splitting import IDENTITY, SPLITS, event_hash, split_of

Mask = NDArray[np.bool_]
Sections = NDArray[np.int64]
_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class LumiMask:
    """Certified luminosity sections.

    Parameters
    ----------
    first, last : ndarray of int64 [ranges]
        Ends, both included, of disjoint ranges of section keys (`section_keys`), rising.
    """

    first: Sections
    last: Sections

    def contains(self, keys: Sections) -> Mask:
        """Return which sections are certified."""
        if len(self.first) == 0:
            return np.zeros(len(keys), dtype=np.bool_)
        place = np.searchsorted(self.first, keys, side="right") - 1
        return (place >= 0) & (keys <= self.last[np.maximum(place, 0)])


@dataclass(frozen=True)
class EventWeights:
    """Which events of a chunk enter, with which weight, and the chunk's sums.

    Parameters
    ----------
    used : ndarray of bool [events]
        Events that are looked at.
    weights : dict of ndarray of float64 [events]
        By systematic variation, `nominal` first; 0 where an event is not used.
    hashes : ndarray of uint64 [events]
        Identity of the events.
    sections : ndarray of int64
        Distinct luminosity sections of the events used (data), as keys.
    sums : dict of float
        Contributions to `result.SUMS`.
    """

    used: Mask
    weights: dict[str, NDArray[np.float64]]
    hashes: NDArray[np.uint64]
    sections: Sections
    sums: dict[str, float]


def weight_branches(
    card: Card, dataset: Dataset, factors: Mapping[str, ReadyFactor], branches: frozenset[str], path: str
) -> tuple[str, ...]:
    """Return the branches that weights, event identity and overlap removal are made from.

    Parameters
    ----------
    card, dataset, factors
        As for `event_weights`.
    branches, path : frozenset of str, str
        Branches of the file, and the file.

    Raises
    ------
    MissingBranch
        When the file lacks trigger paths of a dataset of data.
    """
    if dataset.kind == "data":
        return (*IDENTITY, *trigger_branches(dataset, branches, path))
    of_factors = [branch for factor in factors.values() for branch in factor.branches]
    return (*IDENTITY, "genWeight", *card.weights.branches, *of_factors)


def read_lumi_mask(path: str) -> LumiMask:
    """Read a certification file: JSON, run -> list of [first, last] luminosity sections.

    Raises
    ------
    CardError
        When the file can't be read or has another form.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        ranges = [(int(run), *_range(run, pair)) for run, pairs in content.items() for pair in pairs]
    except OSError as error:
        raise CardError(f"{path}: the lumi mask can't be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CardError(f'{path}: not a lumi mask, expected {{"run": [[first, last], ...]}}: {error}') from error
    table = np.array(sorted(ranges), dtype=np.int64).reshape(-1, 3)
    first, last = section_keys(table[:, 0], table[:, 1]), section_keys(table[:, 0], table[:, 2])
    # ranges that meet or overlap become one: `contains` looks at the nearest range alone
    reached = np.maximum.accumulate(last)
    begins = np.concatenate([[True], first[1:] > reached[:-1] + 1])[: len(first)]
    ends = np.concatenate([begins[1:], [True]])[: len(first)]
    return LumiMask(first[begins], reached[ends])


def _range(run: str, pair: Any) -> tuple[int, int]:
    """Return the ends of one range of luminosity sections; `ValueError` where it is none."""
    whole = isinstance(pair, list) and len(pair) == 2 and all(type(end) is int and end >= 0 for end in pair)
    if not whole or pair[0] > pair[1]:
        raise ValueError(f"run {run}: {pair!r} is no range of two whole numbers that don't fall")
    return pair[0], pair[1]


def section_keys(run: NDArray[np.integer[Any]], section: NDArray[np.integer[Any]]) -> Sections:
    """Return one number per luminosity section: run in the upper, section in the lower 32 bits."""
    return (np.asarray(run).astype(np.int64) << 32) | np.asarray(section).astype(np.int64)


def sections_by_run(keys: Iterable[int] | Sections) -> dict[str, list[int]]:
    """Return section keys as {run: [sections]}, sorted, as JSON wants it."""
    found: dict[str, list[int]] = {}
    for key in np.unique(np.asarray(list(keys), dtype=np.int64)).tolist():
        found.setdefault(str(key >> 32), []).append(key & 0xFFFFFFFF)
    return found


def event_weights(
    chunk: Chunk,
    card: Card,
    dataset: Dataset,
    factors: Mapping[str, ReadyFactor],
    test_only: bool,
    mask: LumiMask | None,
    vetoed: Sections,
) -> EventWeights:
    """Return weights of a chunk's events.

    Parameters
    ----------
    chunk : Chunk
        Events.
    card : Card
        Sections `weights` and `splitting`.
    dataset : Dataset
        Which dataset the file belongs to.
    factors : mapping of ReadyFactor
        From `ready_factors`.
    test_only : bool
        Whether only the test split enters.
    mask : LumiMask or None
        Certified sections of data; None: all.
    vetoed : ndarray of int64
        Sections that lost events in another chunk and are dropped whole (data).
    """
    chunk.load(weight_branches(card, dataset, factors, chunk.branches, chunk.file.path))
    hashes = event_hash(dataset.name, *(chunk[name] for name in IDENTITY))
    if dataset.kind == "data":
        return _data(chunk, dataset, hashes, mask, vetoed)
    generator, weight = chunk["genWeight"].astype(np.float64), _without_factors(chunk, card)
    found = {name: factor.evaluate(chunk) for name, factor in factors.items()}
    weights = varied_weights(weight, {name: values for name, (values, _) in found.items()}, card.weights.variations)
    finite = np.all([np.isfinite(one) for one in weights.values()], axis=0)
    used = finite & (split_of(hashes, card.splitting.fractions) == _TEST) if test_only else finite
    sums = {
        "entries_processed": float(chunk.num_events),
        "entries_used": float(np.count_nonzero(used)),
        "entries_bad_weight": float(np.count_nonzero(~finite)),
        "corrections_clamped": float(sum(clamped for _, clamped in found.values())),
        "sumw_processed": float(finite_sum(generator)),
        "sumw_used": float(finite_sum(generator[used])),
    }
    weights = {name: np.where(used, one, 0.0) for name, one in weights.items()}
    return EventWeights(used, weights, hashes, np.zeros(0, dtype=np.int64), sums)


def _without_factors(chunk: Chunk, card: Card) -> NDArray[np.float64]:
    weight = chunk["genWeight"].astype(np.float64)
    for name in card.weights.branches:
        weight = weight * chunk[name].astype(np.float64)
    return weight


def weight_of_varied(
    varied: Chunk, chunk: Chunk, card: Card, factors: Mapping[str, ReadyFactor], nominal: EventWeights
) -> NDArray[np.float64]:
    """Return the weight of events whose objects are varied: factors of such objects are worked out anew.

    Parameters
    ----------
    varied, chunk : Chunk
        From `distortions.distorted`, and what it was made of.
    card, factors
        As for `event_weights`.
    nominal : EventWeights
        Of the same events as they are.

    Returns
    -------
    ndarray of float64 [events]
        0 where an event is not used, or has a factor that is not finite any more.
    """
    if all(varied[name] is chunk[name] for factor in factors.values() for name in factor.branches):
        return nominal.weights[NOMINAL]
    values = {name: factor.evaluate(varied)[0] for name, factor in factors.items()}
    weight = varied_weights(_without_factors(varied, card), values, ())[NOMINAL]
    return np.where(nominal.used & np.isfinite(weight), weight, 0.0)


def _data(
    chunk: Chunk, dataset: Dataset, hashes: NDArray[np.uint64], mask: LumiMask | None, vetoed: Sections
) -> EventWeights:
    keys = section_keys(chunk["run"], chunk["luminosityBlock"])
    certified = np.ones(len(keys), dtype=np.bool_) if mask is None else mask.contains(keys)
    processed = certified & ~np.isin(keys, vetoed)
    triggers = fired(dataset, chunk)
    used = processed & triggers.own & ~triggers.vetoed
    sums = {
        "entries_processed": float(chunk.num_events),
        "entries_used": float(np.count_nonzero(used)),
        "entries_uncertified": float(np.count_nonzero(~certified)),
        "entries_not_fired": float(np.count_nonzero(processed & ~triggers.own)),
        "entries_of_others": float(np.count_nonzero(processed & triggers.own & triggers.vetoed)),
    }
    # A section whose events all belong to another dataset was processed all the same.
    return EventWeights(used, {NOMINAL: used.astype(np.float64)}, hashes, np.unique(keys[processed]), sums)


def finite_sum(values: NDArray[np.floating[Any]]) -> float:
    """Return the sum of the finite values."""
    return float(np.sum(values[np.isfinite(values)], dtype=np.float64))


def effective_sums(sums: Mapping[str, float], runs: float | None, empty: float = 1.0) -> dict[str, float]:
    """Return sums with what the histograms of simulation are to be divided by.

    `runs_sumw` (all events of the file where the file has no usable one) times the weight fraction of the events
    used; the fraction of entries where the weights of lost chunks can't be read (`sumw_entries` not finite).

    Parameters
    ----------
    sums : mapping
        By the names in `result.SUMS`.
    runs : float or None
        Sum of generator weights of the tree `Runs`.
    empty : float
        Fraction of the events that enters by rule, for a file whose events were all skimmed away.
    """
    total, known = dict(sums), np.isfinite(sums["sumw_entries"])
    fraction = sums["entries_processed"] / sums["entries"] if sums["entries"] else 1.0
    if not known:
        total["sumw_entries"] = sums["sumw_processed"] / fraction if fraction else 0.0
    total["runs_sumw"] = total["sumw_entries"] if runs is None or not np.isfinite(runs) else runs
    if sums["entries"] == 0:
        total["sumw_effective"] = total["runs_sumw"] * empty
    elif total["sumw_entries"]:
        total["sumw_effective"] = total["runs_sumw"] * sums["sumw_used"] / total["sumw_entries"]
    else:
        total["sumw_effective"] = 0.0
    return total
