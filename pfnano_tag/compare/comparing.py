"""Variable by variable: merge, write as TH1D (pairs: TH2D), compare, and note the picture (pairs: neither)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from pfnano_tag.analyze.result import NO_REPLICA, NOMINAL, Category, Variable
from pfnano_tag.card.command import progress
from pfnano_tag.card.output import write_whole
from pfnano_tag.compare.agreement import Agreement, Sample, agreement, equal_yield_starts, populated_starts
from pfnano_tag.compare.histograms import plain
from pfnano_tag.compare.merging import Merger, Rows, rows_of, total
from pfnano_tag.compare.normalization import Normalisation
from pfnano_tag.compare.stacks import SCORES, Picture, Words, filled, picture
from pfnano_tag.compare.verdicts import Subject


@dataclass
class Findings:
    """What the comparison finds, variable by variable.

    Parameters
    ----------
    discriminants, others : dict
        Agreement by subject, in bins of equal simulated yield (discriminants), or in the plot's bins.
    shapes : dict
        Agreement of discriminants with simulation scaled to data, whatever the card's normalisation.
    yields, undefined : dict
        (data, simulation) by subject: jets, and jets without a score.
    pictures : list
        To be drawn.
    """

    discriminants: dict[Subject, Agreement | None] = field(default_factory=dict)
    others: dict[Subject, Agreement | None] = field(default_factory=dict)
    shapes: dict[Subject, Agreement | None] = field(default_factory=dict)
    yields: dict[Subject, tuple[float, float]] = field(default_factory=dict)
    undefined: dict[Subject, tuple[float, float]] = field(default_factory=dict)
    pictures: list[tuple[Subject, Picture]] = field(default_factory=list)


def compare_all(merger: Merger, normalisation: Normalisation, words: Words, bins: int, folder: Path) -> Findings:
    """Compare all variables, of which one at a time is in memory.

    Parameters
    ----------
    merger : Merger
        Open.
    normalisation : Normalisation
        Scales of the datasets.
    words : Words
        Common to all pictures; also whether simulation is scaled to data.
    bins : int
        Bins of equal simulated yield asked for.
    folder : Path
        Gets `histograms.root`.
    """
    findings = Findings()
    # Agreements first: they stand in the captions of the discriminants.
    names = sorted(merger.variables, key=lambda name: merger.variables[name].kind != "agreement")
    with write_whole(folder / "histograms.root") as temporary, uproot.recreate(temporary) as file:
        for name in progress(names, total=len(names), description="merging", unit="variables"):
            variable = merger.variables[name]
            simulation = merger.merged(name, normalisation.simulation)
            data = merger.merged(name, normalisation.data)
            for category, content in [*simulation.items(), *data.items()]:
                if category.replica == NO_REPLICA:
                    file[_histogram_key(name, category)] = plain(variable, *content)
            if variable.kind == "agreement":
                _compare_discriminant(variable, simulation, data, (bins, words.to_data), findings)
            elif variable.kind != "pair":
                _compare_plot(variable, simulation, data, words, findings, folder)
    return findings


def _histogram_key(name: str, category: Category) -> str:
    varied = "" if category.systematic == NOMINAL else f"__{category.systematic}"
    return f"{category.region}/{name}/{category.model}/{category.variant}/{category.flavour}{varied}"


def _parts(simulation: Rows, data: Rows) -> Iterator[tuple[tuple[str, str, str], Rows, Rows]]:
    """Yield (region, model, variant) with their rows, without systematic variations; replicas included."""
    for region, model, variant in dict.fromkeys((c.region, c.model, c.variant) for c in [*simulation, *data]):
        fixed = {"region": region, "model": model, "variant": variant, "systematic": NOMINAL}
        yield (region, model, variant), rows_of(simulation, None, **fixed), rows_of(data, None, **fixed)


def _sample(rows: Rows) -> Sample:
    """Return the sum over flavours, with the replicas where there are any."""
    values, variances = total(rows_of(rows, None, replica=NO_REPLICA))
    replicas: dict[int, list[Any]] = {}
    for category, (replica, _) in rows.items():
        if category.replica != NO_REPLICA:
            replicas.setdefault(category.replica, []).append(replica)
    stacked = np.array([np.sum(replicas[i], axis=0) for i in sorted(replicas)]) if replicas else None
    return Sample(values, variances, stacked)


def _compare_discriminant(
    variable: Variable, simulation_rows: Rows, data_rows: Rows, how: tuple[int, bool], findings: Findings
) -> None:
    """Compare a discriminant in bins of equal simulated yield, made for each model and variant."""
    bins, to_data = how
    for (region, model, variant), mc_rows, real_rows in _parts(simulation_rows, data_rows):
        subject = Subject(region, variable.quantity, model, variant)
        if not mc_rows or not real_rows:
            findings.discriminants[subject] = findings.shapes[subject] = None
            continue
        simulation, data = _sample(mc_rows), _sample(real_rows)
        by_data = agreement_of(data, simulation, True, bins)
        chosen = by_data if to_data else agreement_of(data, simulation, False, bins)
        findings.discriminants[subject], findings.shapes[subject] = chosen, by_data
        findings.yields[subject] = float(data.values.sum()), float(simulation.values.sum())


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


def _compare_plot(
    variable: Variable,
    simulation_rows: Rows,
    data_rows: Rows,
    words: Words,
    findings: Findings,
    folder: Path,
) -> None:
    """Compare a variable in its own bins, and note its picture."""
    for (region, model, variant), mc_rows, real_rows in _parts(simulation_rows, data_rows):
        if not filled(mc_rows, real_rows):
            continue
        subject = Subject(region, variable.name, model, variant)
        simulation, data = _sample(mc_rows), _sample(real_rows)
        if variable.kind in SCORES:
            findings.undefined[subject] = float(data.values[0]), float(simulation.values[0])
            simulation, data = _without_underflow(simulation), _without_underflow(data)
        if variable.kind == "discriminant":
            one = findings.discriminants.get(subject)
        else:
            one = agreement_of(data, simulation, words.to_data, None)
            findings.others[subject] = one
            findings.yields[subject] = float(data.values.sum()), float(simulation.values.sum())
        # Attacked inputs and outputs are in histograms.root; pictures of all would be hundreds.
        if variant == NOMINAL or variable.kind == "discriminant":
            findings.pictures.append((subject, picture(variable, mc_rows, real_rows, words, one, folder)))


def _without_underflow(sample: Sample) -> Sample:
    return Sample(sample.values[1:], sample.variances[1:])
