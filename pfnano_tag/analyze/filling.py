"""One chunk of events to histograms: kinematics, stored taggers, inputs, scores, for all networks and variants.

Event-level branches come first; candidates are read only when some event is selected. The jets that some region
selects form one table; each network's inputs are made of it once, whatever the number of variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pfnano_tag.analyze.arrays import Rows, score_name
from pfnano_tag.analyze.cuts import Selection, leading
from pfnano_tag.analyze.histogramming import Histograms, Weights, logit, nominal
from pfnano_tag.analyze.pairs import Axes, flattened
from pfnano_tag.analyze.result import NOMINAL, Array, Variable
from pfnano_tag.analyze.variables import input_name, without_cut_name
from pfnano_tag.attack.registry import make
from pfnano_tag.card import Card
from pfnano_tag.evaluate.bootstrap import replica_weights
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.conversion import to_inputs
from pfnano_tag.infer.discriminants import discriminant
from pfnano_tag.infer.networks import Networks
from pfnano_tag.infer.prediction import Watcher, predict
from pfnano_tag.models.batch import Batch
from pfnano_tag.nano.columns import Index, Jagged, list_of_row
from pfnano_tag.nano.expressions import collection_of, evaluate
from pfnano_tag.nano.jets import JetTable
from pfnano_tag.nano.reader import Chunk
from pfnano_tag.nano.schema import transformed_back
from pfnano_tag.prepare.inputs import InputFeature
from pfnano_tag.prepare.labeling import labels_of, truth_of

Mask = NDArray[np.bool_]
KINEMATIC_BRANCHES = {"jet_pt": "Jet_pt", "jet_eta": "Jet_eta"}


@dataclass(frozen=True)
class ChosenJets:
    """Jets that some region fills.

    Parameters
    ----------
    row : ndarray of int64 [jets]
        Row in the chunk's flat collection.
    flavour : ndarray of int64 [jets]
        Place on the flavour axis.
    weights : dict of dict of ndarray of float64 [jets]
        Of the event, in each region, by systematic variation.
    replicas : ndarray of uint8 [jets, replicas]
        How often the event stands in each bootstrap replica.
    regions : dict of ndarray of bool [jets]
        Which regions fill the jet.
    flavours : int
        Length of the flavour axis.
    kinematics : dict of ndarray [jets]
        `jet_pt` [GeV] and `jet_eta`.
    """

    row: Index
    flavour: Index
    weights: dict[str, dict[str, Array]]
    replicas: NDArray[np.uint8]
    regions: dict[str, Mask]
    flavours: int
    kinematics: dict[str, NDArray[np.floating]]


def choose_jets(
    chunk: Chunk,
    selections: Mapping[str, Selection],
    weights: Weights,
    hashes: NDArray[np.uint64],
    flavour: Index,
    flavours: int,
    replicas: int,
) -> ChosenJets:
    """Return the union of the jets that the regions select.

    Parameters
    ----------
    chunk : Chunk
        Events.
    selections : mapping of Selection
        By region.
    weights : mapping of ndarray of float64 [events]
        By systematic variation.
    hashes : ndarray of uint64 [events]
        Identity of events.
    flavour : ndarray of int64 [jets of the chunk]
        From `flavour_rows`.
    flavours : int
        Length of the flavour axis.
    replicas : int
        Bootstrap replicas; 0 where nothing needs them.
    """
    row = np.flatnonzero(np.any([selection.jets for selection in selections.values()], axis=0))
    event = list_of_row(chunk["Jet_pt"].offsets)[row]
    counts = replica_weights(hashes[event], replicas).T
    regions = {name: selection.jets[row] for name, selection in selections.items()}
    of_jets = {
        name: {systematic: selection.weighted(weight)[event] for systematic, weight in weights.items()}
        for name, selection in selections.items()
    }
    kinematics = {name: chunk[branch].values[row] for name, branch in KINEMATIC_BRANCHES.items()}
    return ChosenJets(row, flavour[row], of_jets, counts, regions, flavours, kinematics)


def flavour_rows(chunk: Chunk, card: Card, kind: str) -> Index:
    """Return the place on the flavour axis of every jet of the chunk; dropped labels are `undefined`, the last."""
    if kind == "data":
        pt: Jagged = chunk["Jet_pt"]
        return np.zeros(len(pt.values), dtype=np.int64)
    labels = labels_of(truth_of(chunk).flavour, card.labels.classes)
    return np.where(labels < 0, len(card.labels.classes), labels)


def fill_events(
    histograms: Histograms,
    chunk: Chunk,
    selections: Mapping[str, Selection],
    weights: Weights,
    flavour: Index,
    flavours: int,
) -> None:
    """Fill quantities of events; an event carries the flavour of its leading filled jet.

    Quantities without the cut on them are filled too; there it is the leading jet that could be filled, and the last
    flavour (`undefined`, or `data`) without one.
    """
    pt: Jagged = chunk["Jet_pt"]
    for region, selection in selections.items():
        events = np.flatnonzero(selection.events)
        first = leading(pt.values, pt.offsets, selection.jets)[events]
        own = {systematic: selection.weighted(weight)[events] for systematic, weight in weights.items()}
        values = {"num_jets": selection.num_jets.astype(np.float64), **selection.event_values}
        for name, quantity in values.items():
            histograms.fill(name, nominal(region), quantity[events], own, flavour[first])
        of_leading = np.append(flavour, flavours - 1)[selection.leading]
        for name, (passed, quantity) in selection.without_cut.items():
            events = np.flatnonzero(passed)
            own = {systematic: selection.weighted(weight)[events] for systematic, weight in weights.items()}
            histograms.fill(without_cut_name(name), nominal(region), quantity[events], own, of_leading[events])


def fill_jets(histograms: Histograms, chunk: Chunk, jets: ChosenJets) -> None:
    """Fill jet kinematics, pairs of them, and the taggers stored in the file."""
    for name, variable in histograms.variables.items():
        if name in jets.kinematics:
            _fill(histograms, name, jets, jets.kinematics[name])
        elif variable.kind == "stored":
            _fill(histograms, name, jets, chunk[variable.quantity].values[jets.row])
        elif variable.kind == "pair" and not _of_scores(variable):
            _fill(histograms, name, jets, flattened(_axes(variable), jets.kinematics))


def _axes(variable: Variable) -> Axes:
    first, second = variable.axes
    return first, second


def _of_scores(variable: Variable) -> bool:
    return any(axis.is_score for axis in variable.axes)


def fill_expressions(
    histograms: Histograms,
    chunk: Chunk,
    selections: Mapping[str, Selection],
    weights: Weights,
    flavour: Index,
    jets: ChosenJets,
) -> None:
    """Fill the card's own variables: values of selected events, of filled jets, or of all objects of selected events.

    Events, and objects of other collections, carry the flavour of the leading filled jet.
    """
    pt: Jagged = chunk["Jet_pt"]
    for variable in (one for one in histograms.variables.values() if one.kind == "expression"):
        found = evaluate(variable.quantity, chunk)
        if isinstance(found, Jagged) and collection_of(variable.quantity, chunk) == "Jet":
            _fill(histograms, variable.name, jets, np.asarray(found.values[jets.row], dtype=np.float64))
            continue
        values = np.asarray(found.values if isinstance(found, Jagged) else found, dtype=np.float64)
        event = list_of_row(found.offsets) if isinstance(found, Jagged) else np.arange(len(values))
        for region, selection in selections.items():
            first = leading(pt.values, pt.offsets, selection.jets)
            rows = np.flatnonzero(selection.events[event])
            events = event[rows]
            own = {systematic: selection.weighted(weight)[events] for systematic, weight in weights.items()}
            histograms.fill(variable.name, nominal(region), values[rows], own, flavour[first[events]])


def fill_inputs(histograms: Histograms, table: JetTable, jets: ChosenJets) -> None:
    """Fill nominal inputs, placeholders left out."""
    for variable in list(histograms.variables.values()):
        if variable.kind != "input":
            continue
        values, kept = table.column(variable.quantity), ~table.default_mask(variable.quantity)
        group = variable.quantity.partition("/")[0]
        owner = np.arange(len(table)) if group == "jet" else list_of_row(table.groups[group].offsets)
        _fill(histograms, variable.name, jets, values[kept], owner[kept])


def fill_scores(
    histograms: Histograms,
    card: Card,
    networks: Networks,
    table: JetTable,
    jets: ChosenJets,
    variants: Sequence[str],
    rows: Rows,
) -> None:
    """Fill outputs and discriminants of all networks and some variants, and the attacked inputs."""
    vectors = any(tagger.module.needs_vectors for tagger in networks.taggers.values())
    specification, flat = None, None
    for name, tagger in networks.taggers.items():
        if flat is None or tagger.inputs != specification:  # networks of one study have the same inputs
            specification, flat = tagger.inputs, to_inputs(table, tagger.inputs, vectors)
        for variant in variants:
            if variant == NOMINAL:
                scores = predict(tagger, flat, card.resources.batch_size)
            else:
                attack = make(card.attacks[variant], tagger.inputs, seed=card.study.seed)
                watch = _watch_inputs(histograms, jets, name, tagger, variant)
                scores = predict(tagger, flat, card.resources.batch_size, attack, watch=watch)
            _fill_scores(histograms, card, name, tagger, variant, scores, jets, rows)


def _fill_scores(
    histograms: Histograms,
    card: Card,
    name: str,
    tagger: Tagger,
    variant: str,
    scores: NDArray[np.float32],
    jets: ChosenJets,
    rows: Rows,
) -> None:
    for index, node in enumerate(tagger.classes):
        rows.put(score_name(name, node, variant), scores[:, index])
        if card.histograms.outputs:
            _fill(histograms, f"output_{node}", jets, scores[:, index], None, name, variant)
    for which in card.histograms.discriminants:
        values = discriminant(which, scores, tagger.classes)
        rows.put(score_name(name, which, variant), values)
        _fill(histograms, which, jets, values, None, name, variant)
        defined = np.flatnonzero(values >= 0)
        fine, agreement = logit(values[defined]), f"agreement_{which}"
        _fill(histograms, agreement, jets, fine, defined, name, variant)
        for region, mask in jets.regions.items():
            if NOMINAL in jets.weights[region]:
                inside = mask[defined]
                owner, place = defined[inside], (region, name, variant)
                weight, counts = jets.weights[region][NOMINAL][owner], jets.replicas[owner]
                histograms.fill_replicas(agreement, place, fine[inside], weight, counts, jets.flavours)
    for variable in histograms.variables.values():
        if _of_scores(variable):
            values = _paired(variable, jets, scores, tagger)
            _fill(histograms, variable.name, jets, values, None, name, variant)


def _paired(variable: Variable, jets: ChosenJets, scores: NDArray[np.float32], tagger: Tagger) -> Array:
    """Return the entries of a pair with a discriminant, on its flattened axis."""
    values: dict[str, NDArray[np.floating]] = dict(jets.kinematics)
    for axis in variable.axes:
        if axis.is_score:
            values[axis.quantity] = discriminant(axis.quantity, scores, tagger.classes)
    return flattened(_axes(variable), values)


def _fill(
    histograms: Histograms,
    variable: str,
    jets: ChosenJets,
    values: NDArray[np.floating],
    owner: Index | None = None,
    model: str | None = None,
    variant: str = NOMINAL,
) -> None:
    """Fill values in all regions; `owner` says which jet each value belongs to (None: one value per jet)."""
    for region, mask in jets.regions.items():
        inside = np.flatnonzero(mask if owner is None else mask[owner])
        jet = inside if owner is None else owner[inside]
        place = nominal(region) if model is None else (region, model, variant)
        weights = {systematic: weight[jet] for systematic, weight in jets.weights[region].items()}
        histograms.fill(variable, place, values[inside], weights, jets.flavour[jet])


def _watch_inputs(histograms: Histograms, jets: ChosenJets, name: str, tagger: Tagger, variant: str) -> Watcher:
    """Return what fills the inputs that a network sees under attack, in their own units."""
    wanted = {v.quantity for v in histograms.variables.values() if v.kind == "input"}
    features = [
        (group, place, feature)
        for group, members in tagger.inputs.groups.items()
        for place, feature in enumerate(members)
        if feature.id in wanted and not feature.protected
    ]

    def watch(indices: Tensor, batch: Batch) -> None:
        owners = indices.numpy()
        for group, place, feature in features:
            values, position = _attacked(batch, group, place, feature)
            _fill(histograms, input_name(feature.id), jets, values, owners[position], name, variant)

    return watch


def _attacked(batch: Batch, group: str, place: int, feature: InputFeature) -> tuple[Array, Index]:
    """Return one feature's values of a batch in its own unit, placeholders left out, and the jets they belong to."""
    if group == "jet":
        real, x = ~batch.jet_default_BF[:, place], batch.jet_BF[:, place]
    else:
        content = batch.groups[group]
        real, x = content.mask_BN & ~content.default_BNF[:, :, place], content.x_BNF[:, :, place]
    position = real.nonzero()[:, 0].numpy()
    scaled = x[real].detach().numpy().astype(np.float64)
    values = transformed_back(scaled * feature.std + feature.mean, feature.transform)
    return np.asarray(values, dtype=np.float64), position
