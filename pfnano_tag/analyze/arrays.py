"""Rows of jets for studies of correlations: which columns they have, and their values in a chunk.

One row per jet that some region fills with nominal objects, with the values that the histograms are filled with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.analyze.cuts import Selection
from pfnano_tag.analyze.histogramming import Weights
from pfnano_tag.analyze.result import NO_MODEL, NOMINAL
from pfnano_tag.analyze.selections import has_factor
from pfnano_tag.analyze.systematics import names_of
from pfnano_tag.analyze.variables import Network, input_name
from pfnano_tag.card import Card
from pfnano_tag.errors import CardError, nearest
from pfnano_tag.nano.branch_types import IDENTITY
from pfnano_tag.nano.columns import Index, Jagged, list_of_row, rank_in_list
from pfnano_tag.nano.expressions import collection_of, evaluate
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.reader import Chunk, PFNanoFile
from pfnano_tag.nano.schema import FEATURES

COLUMN = "column."
"""What the names of columns begin with in a chunk's partial result."""
IDENTITY_TYPES = {"run": "uint32", "luminosityBlock": "uint32", "event": "uint64"}
KINEMATIC_BRANCHES = {"jet_pt": "Jet_pt", "jet_eta": "Jet_eta", "jet_phi": "Jet_phi"}


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    name : str
        In the file.
    dtype : str
        Of numpy.
    kind : str
        identity, region (whether it fills the jet), factor (a region's own part of the weight), weight, flavour,
        kinematics, input, stored, expression, output or discriminant.
    quantity : str
        Branch, input, expression, region, systematic variation, node or discriminant behind it.
    model, variant : str
        Of scores.
    """

    name: str
    dtype: str
    kind: str
    quantity: str
    model: str = NO_MODEL
    variant: str = NOMINAL

    def to_json(self) -> dict[str, str]:
        """Return the column as JSON content."""
        return asdict(self)


def own_expressions(card: Card) -> dict[str, str]:
    """Return the card's expressions by the key that they stand at."""
    filled = {name: one.expression for name, one in card.histograms.expressions.items()}
    return {
        **{f"histograms.expressions.{name}": text for name, text in filled.items()},
        **{f"arrays.expressions.{name}": text for name, text in card.arrays.expressions.items()},
    }


def columns_of(
    card: Card, kind: str, networks: Sequence[Network], stored: Iterable[str], source: PFNanoFile
) -> tuple[Column, ...]:
    """Return the columns of a job's rows; none where the card asks for no arrays.

    Parameters
    ----------
    card : Card
        Sections `arrays`, `regions`, `weights`, `histograms`.
    kind : str
        `mc` or `data`.
    networks : sequence of Network
        Networks that are applied.
    stored : iterable of str
        Branches of stored taggers.
    source : PFNanoFile
        The file; all expressions make sense for it.

    Raises
    ------
    CardError
        When a column is not known (with the nearest that are), two have one name, or something has no effect.
    """
    asked = card.arrays
    if asked.format == "none":
        return ()
    always = list(_always(card, kind))
    offered = [
        *(Column(name, "float32", "kinematics", branch) for name, branch in KINEMATIC_BRANCHES.items()),
        *_inputs(networks),
        *(Column(f"stored_{branch}", "float32", "stored", branch) for branch in stored),
        *_expressions(card, source),
        *_scores(card, networks),
    ]
    chosen = _chosen(asked.columns, always, offered)
    attacked = [column for column in chosen if column.model != NO_MODEL]
    if networks and asked.variants and not attacked:
        raise CardError("arrays.variants: no effect, as arrays.columns names no score of a network")
    varied = [
        replace(column, name=score_name(column.model, column.quantity, variant), variant=variant)
        for variant in asked.variants
        for column in attacked
    ]
    _check_names([*always, *offered, *varied])
    return (*always, *chosen, *varied)


def score_name(model: str, quantity: str, variant: str = NOMINAL) -> str:
    """Return the column of an output node or a discriminant."""
    return f"{model}_{quantity}" if variant == NOMINAL else f"{model}_{quantity}__{variant}"


def weight_name(systematic: str) -> str:
    """Return the column of the event weight in a systematic variation."""
    return "weight" if systematic == NOMINAL else f"weight__{systematic}"


def _always(card: Card, kind: str) -> Iterator[Column]:
    for name, dtype in IDENTITY_TYPES.items():
        yield Column(name, dtype, "identity", name)
    yield Column("jet", "int32", "identity", "place in the event's jets")
    for name, region in card.regions.items():
        yield Column(f"region_{name}", "bool", "region", name)
        if has_factor(region):
            yield Column(f"factor_{name}", "float64", "factor", name)
    yield Column(weight_name(NOMINAL), "float64", "weight", NOMINAL)
    asked = card.arrays.weight_variations
    for systematic in card.weights.variations:
        if systematic in names_of(card, kind) and (asked == "all" or systematic in asked):
            yield Column(weight_name(systematic), "float64", "weight", systematic)
    yield Column("flavour", "int32", "flavour", "place in info.flavours")


def _inputs(networks: Sequence[Network]) -> Iterator[Column]:
    used = {feature for network in networks for feature in network.inputs}
    for feature in FEATURES:
        if feature in used and feature.startswith("jet/"):
            yield Column(input_name(feature), "float32", "input", feature)


def _expressions(card: Card, source: PFNanoFile) -> Iterator[Column]:
    """Yield the expressions with a value per jet or per event."""
    for key, text in own_expressions(card).items():
        section, _, name = key.rpartition(".")
        collection = collection_of(text, source.chunk(0, 0))
        if collection in (None, "Jet"):
            yield Column(name, "float64", "expression", text)
        elif section.startswith("arrays") or name in card.arrays.columns:
            raise CardError(
                f"{key}: {text!r} has a value per object of {collection}, a row is a jet; make "
                "one value per event of them (sum, count, any, all)"
            )


def _scores(card: Card, networks: Sequence[Network]) -> Iterator[Column]:
    for network in networks:
        for node in network.classes:
            yield Column(score_name(network.name, node), "float32", "output", node, network.name)
        for which in card.histograms.discriminants:
            yield Column(score_name(network.name, which), "float64", "discriminant", which, network.name)


def _check_names(columns: Sequence[Column]) -> None:
    names: dict[str, Column] = {}
    for column in columns:
        other = names.setdefault(column.name, column)
        if other is not column:
            raise CardError(
                f"arrays: two columns would be called {column.name!r}, of {other.kind} {other.quantity!r} and "
                f"{column.kind} {column.quantity!r}: give one of them another name"
            )


def _chosen(asked: Sequence[str], always: Sequence[Column], offered: Sequence[Column]) -> list[Column]:
    """Return the columns that are named or match a pattern, in their own order."""
    known = [column.name for column in (*always, *offered)]
    problems = []
    for pattern in asked:
        if not any(fnmatchcase(name, pattern) for name in known):
            hint = nearest(pattern, known)
            words = f"nearest: {', '.join(hint)}" if hint else f"there are {', '.join(known)}"
            problems.append(f"arrays.columns: {pattern!r} is no column of this job; {words}")
    if problems:
        raise CardError("\n".join(problems))
    return [column for column in offered if any(fnmatchcase(column.name, pattern) for pattern in asked)]


class Rows:
    """The rows of one chunk, column by column; of no columns it holds nothing.

    Parameters
    ----------
    columns : sequence of Column
        From `columns_of`.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = {column.name: column for column in columns}
        self._values: dict[str, NDArray[Any]] = {}

    def of(self, kind: str) -> list[Column]:
        """Return the columns of a kind."""
        return [column for column in self.columns.values() if column.kind == kind]

    def put(self, name: str, values: NDArray[Any]) -> None:
        """Keep the values [jets] of a column, if it was chosen."""
        if name in self.columns:
            self._values[name] = np.asarray(values).astype(self.columns[name].dtype)

    def partial(self) -> dict[str, NDArray[Any]]:
        """Return the part of the chunk's partial result.

        Raises
        ------
        KeyError
            When some columns have values and others have none.
        """
        if not self._values:
            return {COLUMN + name: np.zeros(0, column.dtype) for name, column in self.columns.items()}
        return {COLUMN + name: self._values[name] for name in self.columns}


def take_jets(
    rows: Rows, chunk: Chunk, selections: Mapping[str, Selection], weights: Weights, row: Index, flavour: Index
) -> None:
    """Take what is known of jets before networks run.

    Parameters
    ----------
    rows : Rows
        Where to.
    chunk : Chunk
        Events.
    selections : mapping of Selection
        By region.
    weights : mapping of ndarray of float64 [events]
        By systematic variation, without the regions' own factors.
    row : ndarray of int64 [jets]
        Rows of the chunk's flat collection: jets that some region fills.
    flavour : ndarray of int64 [jets]
        Place on the flavour axis.
    """
    if not rows.columns:
        return
    offsets = chunk["Jet_pt"].offsets
    event = list_of_row(offsets)[row]
    for name in IDENTITY:
        rows.put(name, chunk[name][event])
    rows.put("jet", rank_in_list(offsets)[row])
    rows.put("flavour", flavour)
    for region, selection in selections.items():
        rows.put(f"region_{region}", selection.jets[row])
        factor = np.ones(len(row)) if selection.factor is None else selection.factor[event]
        rows.put(f"factor_{region}", factor)
    for systematic, weight in weights.items():
        rows.put(weight_name(systematic), weight[event])
    for column in (*rows.of("kinematics"), *rows.of("stored")):
        rows.put(column.name, chunk[column.quantity].values[row])
    for column in rows.of("expression"):
        found = evaluate(column.quantity, chunk)
        rows.put(column.name, found.values[row] if isinstance(found, Jagged) else found[event])


def take_inputs(rows: Rows, table: JetTable) -> None:
    """Take inputs of networks, one per jet; a placeholder becomes NaN, as it is in no histogram."""
    for column in rows.of("input"):
        values = table.column(column.quantity)
        rows.put(column.name, np.where(table.default_mask(column.quantity), np.nan, values))
