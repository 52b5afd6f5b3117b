"""Variable by variable: merge, write as TH1D (pairs: TH2D), compare, and note the picture (pairs: neither)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uproot
from numpy.typing import NDArray

from pfnano_tag.analyze.result import NO_REPLICA, NOMINAL, Category, Variable
from pfnano_tag.card.command import progress
from pfnano_tag.card.output import write_whole
from pfnano_tag.compare.agreement import Agreement, Sample, agreement, equal_yield_starts, populated_starts
from pfnano_tag.compare.blinding import (
    SCORES,
    Mask,
    Windows,
    hidden_bins,
    hidden_ranges,
    refuse_idle_windows,
    without,
)
from pfnano_tag.compare.distances import Distance, distances, seed_of
from pfnano_tag.compare.histograms import plain
from pfnano_tag.compare.merging import Merger, Rows
from pfnano_tag.compare.normalization import Normalisation
from pfnano_tag.compare.parts import Part, parts_of
from pfnano_tag.compare.shifts import sources_of
from pfnano_tag.compare.stacks import Picture, Words, agreement_words, filled, picture
from pfnano_tag.compare.verdicts import Subject

DIRECTORY_BYTES = 4096
"""Room for the list of a directory: directories that move as they grow double the time of large comparisons."""

Exporter = Callable[[Variable, Rows, Rows], object]
"""Gets each variable with simulation and data, merged and normalised to luminosity."""


@dataclass(frozen=True)
class Asked:
    """What the card asks of the comparison.

    Parameters
    ----------
    bins : int
        Bins of equal simulated yield asked for.
    to_data : bool
        Simulation is scaled to the data's yield.
    toys : int
        Toys for the p-values of distances.
    seed : int
        The study's.
    by_dataset : bool
        Simulation is split into datasets, not flavours.
    blind : mapping
        Windows (low, high) by variable in which data are not looked at.
    """

    bins: int
    to_data: bool
    toys: int = 0
    seed: int = 1
    by_dataset: bool = False
    blind: Windows = field(default_factory=dict)


@dataclass
class Findings:
    """What the comparison finds, variable by variable.

    Parameters
    ----------
    discriminants, others : dict
        Agreement by subject, in bins of equal simulated yield (discriminants), or in the plot's bins.
    shapes : dict
        Agreement of discriminants with simulation scaled to data, whatever the card's normalisation.
    with_systematics : dict
        As `discriminants` and `others`, with the covariance of the systematic sources; only where there are any.
    distances : dict
        Distances of the shapes, by subject and name.
    units : dict
        Unit of the subject's axis; empty for a logit.
    sources : dict
        Systematic sources of the whole axis: name to its variations.
    yields, undefined : dict
        (data, simulation) by subject: jets, and jets without a score.
    blinded : dict
        Ranges of the axis in which data were not looked at, by variable with one axis.
    pictures : list
        To be drawn.
    """

    discriminants: dict[Subject, Agreement | None] = field(default_factory=dict)
    others: dict[Subject, Agreement | None] = field(default_factory=dict)
    shapes: dict[Subject, Agreement | None] = field(default_factory=dict)
    with_systematics: dict[Subject, Agreement] = field(default_factory=dict)
    distances: dict[Subject, dict[str, Distance]] = field(default_factory=dict)
    units: dict[Subject, str] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)
    yields: dict[Subject, tuple[float, float]] = field(default_factory=dict)
    undefined: dict[Subject, tuple[float, float]] = field(default_factory=dict)
    blinded: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    pictures: list[tuple[Subject, Picture]] = field(default_factory=list)


def compare_all(
    merger: Merger,
    normalisation: Normalisation,
    words: Words,
    asked: Asked,
    folder: Path,
    export: Exporter | None = None,
) -> Findings:
    """Compare all variables, of which one at a time is in memory.

    Parameters
    ----------
    merger : Merger
        Open.
    normalisation : Normalisation
        Scales of the datasets.
    words : Words
        Common to all pictures.
    asked : Asked
        By the card.
    folder : Path
        Gets `histograms.root`.
    export : callable or None
        Sees each variable too.

    Raises
    ------
    CardError
        When a window of blinding hides nothing.
    """
    refuse_idle_windows(asked.blind, merger.variables.values())
    findings = Findings()
    # Agreements first: they stand in the captions of the discriminants.
    names = sorted(merger.variables, key=lambda name: merger.variables[name].kind != "agreement")
    with (
        write_whole(folder / "histograms.root") as temporary,
        uproot.recreate(temporary, initial_directory_bytes=DIRECTORY_BYTES) as file,
    ):
        for name in progress(names, total=len(names), description="comparing", unit="variables"):
            variable = merger.variables[name]
            hidden = hidden_bins(variable, asked.blind)
            simulation = merger.merged(name, normalisation.simulation, asked.by_dataset)
            data = without(merger.merged(name, normalisation.data), hidden)
            file.update(
                {
                    _histogram_key(name, category): plain(variable, *content)
                    for category, content in [*simulation.items(), *data.items()]
                    if category.replica == NO_REPLICA
                }
            )
            _note_axis(variable, simulation, hidden, findings)
            if variable.kind == "agreement":
                _compare_discriminant(variable, simulation, data, hidden, asked, findings)
            elif variable.kind != "pair":
                _compare_plot(variable, simulation, data, hidden, (asked, words, folder), findings)
            if export is not None and variable.kind != "pair":
                export(variable, simulation, data)
    return findings


def _histogram_key(name: str, category: Category) -> str:
    varied = "" if category.systematic == NOMINAL else f"__{category.systematic}"
    return f"{category.region}/{name}/{category.model}/{category.variant}/{category.flavour}{varied}"


def _note_axis(variable: Variable, simulation: Rows, hidden: Mask, findings: Findings) -> None:
    for source in sources_of(category.systematic for category in simulation):
        findings.sources[source.name] = [name for name in (source.up, source.down) if name is not None]
    if hidden.any() and variable.kind != "pair":  # of cells there are no ranges; the windows of the axes are noted
        findings.blinded[variable.name] = hidden_ranges(variable, hidden)


def _compare_discriminant(
    variable: Variable, simulation: Rows, data: Rows, hidden: Mask, asked: Asked, findings: Findings
) -> None:
    """Compare a discriminant in bins of equal simulated yield, made for each model and variant."""
    for part in parts_of(simulation, data):
        subject = Subject(part.region, variable.quantity, part.model, part.variant)
        if not part.simulation or not part.data:
            findings.discriminants[subject] = findings.shapes[subject] = None
            continue
        seen, expected = part.samples(hidden)
        by_data = agreement_of(seen, expected, True, asked.bins)
        chosen = by_data if asked.to_data else agreement_of(seen, expected, False, asked.bins)
        findings.discriminants[subject], findings.shapes[subject] = chosen, by_data
        findings.yields[subject] = part.yields(hidden)
        shifts = _shifts_outside(part, hidden, asked)
        _measure(subject, (seen, expected, shifts), chosen, variable, asked, findings)


def agreement_of(data: Sample, simulation: Sample, to_data: bool, bins: int | None) -> Agreement | None:
    """Compare in bins of equal simulated yield, or (`bins` None) in the plot's bins, merged where too empty.

    Parameters
    ----------
    data, simulation : Sample
        With flow.
    to_data : bool
        Simulation is scaled to the data's yield.
    bins : int or None
        Bins of equal yield asked for.
    """
    expected, observed = float(simulation.values.sum()), float(data.values.sum())
    scale = observed / expected if to_data and expected > 0 else 1.0
    starts = populated_starts(simulation, scale) if bins is None else equal_yield_starts(simulation, bins, scale)
    return agreement(data, simulation, starts, to_data)


def _shifts_outside(part: Part, hidden: Mask, asked: Asked) -> NDArray[np.float64] | None:
    """Return the systematic shifts, as normalised as simulation is, with nothing in the hidden bins."""
    shifts = part.shifts(part.scales(hidden) if asked.to_data else {})
    return None if shifts is None else np.where(hidden, 0.0, shifts)


def _measure(
    subject: Subject,
    content: tuple[Sample, Sample, NDArray[np.float64] | None],
    one: Agreement | None,
    variable: Variable,
    asked: Asked,
    findings: Findings,
) -> None:
    """Note the agreement with systematic uncertainties and the distances of data, simulation (with its shifts)."""
    data, simulation, shifts = content
    findings.units[subject] = variable.unit
    if one is not None and shifts is not None:
        varied = agreement(data, simulation, one.starts, asked.to_data, shifts)
        if varied is not None:
            findings.with_systematics[subject] = varied
    starts = np.zeros(1, dtype=np.int64) if one is None else one.starts
    width = (variable.high - variable.low) / variable.bins
    seed = seed_of(asked.seed, subject.key)
    findings.distances[subject] = distances(data, simulation, starts, width, asked.toys, seed)


def _compare_plot(
    variable: Variable,
    simulation_rows: Rows,
    data_rows: Rows,
    hidden: Mask,
    how: tuple[Asked, Words, Path],
    findings: Findings,
) -> None:
    """Compare a variable in its own bins, and note its picture."""
    asked, words, folder = how
    for part in parts_of(simulation_rows, data_rows):
        if not filled(part.simulation, part.data):
            continue
        subject = Subject(part.region, variable.name, part.model, part.variant)
        data, simulation = part.samples(hidden)
        counted = hidden
        if variable.kind in SCORES:
            findings.undefined[subject] = float(data.values[0]), float(simulation.values[0])
            counted = hidden.copy()
            counted[0] = True  # jets without a score
            data, simulation = part.samples(counted)
        if variable.kind == "discriminant":
            one = findings.discriminants.get(subject)
        else:
            one = agreement_of(data, simulation, asked.to_data, None)
            findings.others[subject] = one
            findings.yields[subject] = part.yields(counted)
            shifts = _shifts_outside(part, counted, asked)
            _measure(subject, (data, simulation, shifts), one, variable, asked, findings)
        # Attacked inputs and outputs are in histograms.root; pictures of all would be hundreds.
        if variant_is_drawn(variable, part.variant):
            scales = part.scales(counted) if asked.to_data else {}
            numbers = agreement_words(
                one, findings.with_systematics.get(subject), findings.distances.get(subject, {})
            )
            findings.pictures.append((subject, picture(variable, part, words, (hidden, scales), numbers, folder)))


def variant_is_drawn(variable: Variable, variant: str) -> bool:
    """Tell whether a variant of a variable has a picture of its own."""
    return variant == NOMINAL or variable.kind == "discriminant"
