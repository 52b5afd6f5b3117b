"""The final table: one column per model, performance in simulation above agreement with data, and what follows.

What is not there (no evaluation, no attack results, too few jets) is said below the table, never filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pfnano_tag.analyze.result import NOMINAL
from pfnano_tag.card.card import Card
from pfnano_tag.card.folder import read_results
from pfnano_tag.compare.agreement import Agreement
from pfnano_tag.compare.attacked import HEADER, NOTHING, rows_of_region
from pfnano_tag.compare.verdicts import Agreements, agreement_sentences, simulation_sentence


@dataclass(frozen=True)
class Simulated:
    """What earlier commands found in simulation.

    Parameters
    ----------
    evaluation, attacks : dict or None
        Content of `evaluation/results.json` and `attacks/results.json`; None where they are not there.
    stale : tuple of str
        What was left out since it is of another training.
    """

    evaluation: dict[str, Any] | None
    attacks: dict[str, Any] | None
    stale: tuple[str, ...] = ()

    def of(self, models: Mapping[str, Any]) -> Simulated:
        """Return the results of just these networks: those of another training of a name are left out and named.

        Parameters
        ----------
        models : mapping
            What was analyzed: name -> {`hash`: of the checkpoint, ...}.
        """
        stale: list[str] = []
        kept: list[dict[str, Any] | None] = []
        for where, content in (("evaluation", self.evaluation), ("attacks", self.attacks)):
            if content is None:
                kept.append(None)
                continue
            found = content["models"]
            old = [
                name for name, about in models.items() if name in found and found[name].get("hash") != about["hash"]
            ]
            stale += [f"{where}/results.json is of another training of {name} (run it again)" for name in old]
            kept.append({**content, "models": {n: found[n] for n in found if n not in old}})
        return Simulated(kept[0], kept[1], tuple(stale))


def read_simulated(folder: Path) -> Simulated:
    """Return the results in simulation of a study, as far as they are there.

    Raises
    ------
    StudyError
        When a file is there but can't be read.
    """
    return Simulated(read_results(folder, "evaluation"), read_results(folder, "attacks"))


def final_table(card: Card, agreements: Agreements, results: Mapping[str, Any]) -> str:
    """Return the final table of a study as Markdown.

    Parameters
    ----------
    card : Card
        Order of the models, strengths of the attacks, and the study's folder.
    agreements : mapping
        Of the discriminants.
    results : mapping
        What `stage.run` returns: settings, datasets, and the agreements.
    """
    simulated = read_simulated(card.folder).of(results["models"])
    analyzed = list(dict.fromkeys(subject.model for subject in agreements))
    names = sorted(analyzed, key=lambda name: (name not in card.models, [*card.models, name].index(name)))
    notes = _notes(simulated, results)
    parts = [f"# {results['study']}: simulation and data\n", _completeness(results)]
    epsilons = {name: attack.epsilon for name, attack in card.attacks.items()}
    performance = _simulation_rows(simulated, epsilons)
    regions = list(dict.fromkeys(subject.region for subject in agreements))
    if len(regions) > 1 and performance:  # the same for all of them: said once
        parts.append(f"## All regions\n\n{_table_of(performance, names)}\n")
        performance = []
    for region in regions:
        here = {subject: one for subject, one in agreements.items() if subject.region == region}
        quantities = [*performance, *_agreement_rows(here), *_further_rows(here, results["agreement"])]
        parts.append(f"## Region {region}\n\n{_table_of(quantities, names)}\n")
        attacked = results.get("nominal_against_attacked", {}).get(region)
        if attacked:
            table = markdown(HEADER, rows_of_region(attacked))
            parts.append(f"### Nominal against attacked inputs, region {region}\n\n{table}\n")
    if not names:
        parts.append("No network was analyzed: there are no discriminants to compare.\n")
    elif simulated.evaluation is not None:
        parts.append(simulation_sentence(simulated.evaluation, names) + "\n")
    parts += [sentence + "\n" for sentence in agreement_sentences(agreements)]
    return "\n".join([*parts, *(f"- {note}" for note in notes), ""])


Row = tuple[str, dict[str, str]]
"""Quantity, and cell by model."""


def _table_of(quantities: Iterable[Row], names: Sequence[str]) -> str:
    rows = [[title, *(cells.get(name, NOTHING) for name in names)] for title, cells in quantities]
    return markdown(["", *names], rows)


def _simulation_rows(simulated: Simulated, epsilons: Mapping[str, float]) -> list[Row]:
    rows: list[Row] = []
    if simulated.evaluation is not None:
        models = simulated.evaluation["models"]
        for name in _discriminants(found.get("auc", {}) for found in models.values()):
            cells = {
                model: _auc(found["auc"][name]) for model, found in models.items() if name in found.get("auc", {})
            }
            rows.append((f"AUC {name}", cells))
    if simulated.attacks is not None:
        rows += attacked_rows(simulated.attacks, epsilons)
    return rows


def attacked_rows(attacks: Mapping[str, Any], epsilons: Mapping[str, float]) -> list[Row]:
    """Return AUCs under FGSM, each network attacked through its own gradient (white box).

    Parameters
    ----------
    attacks : mapping
        Content of `attacks/results.json`.
    epsilons : mapping
        Strength of each attack in the card: shown where it was scanned, beside the largest one.
    """
    rows: list[Row] = []
    for attack, about in attacks.get("attacks", {}).items():
        if about["kind"] != "fgsm":
            continue
        strengths = about["strengths"]
        for strength in sorted({epsilons.get(attack), max(strengths)} & set(strengths)):
            curves = {
                model: found["attacks"][attack]["white_box"]["auc"]
                for model, found in attacks["models"].items()
                if "white_box" in found["attacks"].get(attack, {})
            }
            place = strengths.index(strength)
            for name in _discriminants(curves.values()):
                cells = {model: _auc(curve[name][place]) for model, curve in curves.items() if name in curve}
                rows.append((f"AUC {name}, {attack} {strength:g}", cells))
    return rows


def _discriminants(found: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in found for name in one))


def _auc(found: Sequence[float | None]) -> str:
    value, error = found[0], found[1] if len(found) > 1 else None
    if value is None:
        return NOTHING
    return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def _agreement_rows(agreements: Agreements) -> list[Row]:
    """Return chi2/ndf of each discriminant, nominal first, then attacked."""
    rows: list[Row] = []
    variants = sorted(dict.fromkeys(subject.variant for subject in agreements), key=lambda name: name != NOMINAL)
    for variant in variants:
        for variable in dict.fromkeys(subject.variable for subject in agreements):
            cells = {
                subject.model: _reduced(one)
                for subject, one in agreements.items()
                if (subject.variable, subject.variant) == (variable, variant)
            }
            suffix = "" if variant == NOMINAL else f", {variant}"
            rows.append((f"chi2/ndf {variable}{suffix}", cells))
    return rows


def _further_rows(agreements: Agreements, entries: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return, for nominal inputs, chi2/ndf with systematic uncertainties where there are any, and the KS distance."""
    rows: dict[str, dict[str, str]] = {}
    for title, cell in (("chi2/ndf {} with syst. unc.", _with_systematics), ("KS distance {}", _distance)):
        for subject in agreements:
            found = cell(entries.get(subject.key, {})) if subject.variant == NOMINAL else ""
            if found:
                rows.setdefault(title.format(subject.variable), {})[subject.model] = found
    return list(rows.items())


def _with_systematics(entry: Mapping[str, Any]) -> str:
    chi2, bootstrap = entry.get("chi2_with_systematics"), entry.get("bootstrap_with_systematics")
    if chi2 is None:
        return ""
    return f"{chi2 / entry['ndf']:.2f}" + ("" if bootstrap is None else f" ± {bootstrap['error']:.2f}")


def _distance(entry: Mapping[str, Any]) -> str:
    ks = entry.get("distances", {}).get("ks")
    if ks is None:
        return ""
    error = "" if ks["error"] is None else f" ± {ks['error']:.3f}"
    return f"{ks['value']:.3f}{error}" + ("" if ks["p"] is None else f" (p = {ks['p']:.2g})")


def _reduced(one: Agreement | None) -> str:
    if one is None:
        return NOTHING
    return f"{one.reduced.value:.2f}" + ("" if one.reduced.error is None else f" ± {one.reduced.error:.2f}")


def _notes(simulated: Simulated, results: Mapping[str, Any]) -> list[str]:
    """Return what the table is made of, and what is not there."""
    normalised = {
        "luminosity": "the luminosity's normalisation counts",
        "data": "simulation scaled to data: shapes are compared",
    }[results["normalisation"]]
    notes = [
        f"chi2/ndf: bins of equal simulated yield per model, statistics of both sides, {normalised}; errors by "
        "bootstrap over events, the same replicas for all models",
        f"luminosity {results['luminosity']:.4g} /fb",
    ]
    if results.get("nominal_against_attacked"):
        notes.append(
            "attacked inputs: AUC in simulation at the card's strength, with the truth as label; chi2/ndf with the "
            "network's most probable class as label; errors and differences by the same replicas"
        )
    for name, about in results.get("blinded", {}).items():
        if not name.startswith("agreement_"):
            low, high = about["window"]
            notes.append(f"data blinded: {name} in {low:g} to {high:g} (whole bins)")
    notes += [f"left out: {one}" for one in simulated.stale]
    if simulated.evaluation is None:
        notes.append("no AUCs: evaluation/results.json is not there (run `evaluate`)")
    if simulated.attacks is None:
        notes.append("no AUCs under attack: attacks/results.json is not there (run `attack`)")
    if any(entry["chi2"] is None for entry in results["agreement"].values()):
        notes.append(f"{NOTHING}: too few jets to compare, or not evaluated")
    return notes


def _completeness(results: Mapping[str, Any]) -> str:
    """Return, for the top of the table, how much of what was expected is in it, and what is missing."""
    about = f"merged: {results['completeness']['words']}\n"
    if not results["short"]:
        return about.capitalize()
    return "\n".join([f"**Incomplete**, {about}", *(f"- INCOMPLETE: {note}" for note in results["short"]), ""])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns.

    Parameters
    ----------
    header : sequence of str
        Titles.
    rows : sequence of sequences of str
        Cells.
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
