"""Pictures of the robustness: AUC and flips against strength, inputs before and after an attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pfnano_tag.attack.robustness import COMMON_SAMPLE, SETUPS, WHITE_BOX
from pfnano_tag.attack.shifts import InputShifts
from pfnano_tag.nano.schema import FEATURES
from pfnano_tag.plotting import curves, distributions
from pfnano_tag.plotting.colours import MARKERS, model_colours
from pfnano_tag.plotting.curves import Curve
from pfnano_tag.plotting.style import save, with_unit

MOST_PANELS = 12


def draw(folder: Path, text: str, results: Mapping[str, Any], shifts: Mapping[str, InputShifts]) -> None:
    """Draw everything that `attacks/results.json` holds.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    text : str
        What they say of their sample.
    results : mapping
        Content of `results.json`.
    shifts : mapping of InputShifts
        By attack.
    """
    for attack, about in results["attacks"].items():
        for setup in SETUPS if about["needs_gradient"] else (COMMON_SAMPLE,):
            title = _title(attack, setup, about["needs_gradient"], results["source"])
            ending = f"{attack}_{setup}" if about["needs_gradient"] else attack
            for name in results["discriminants"]:
                lines = _lines(results, attack, setup, name)
                drawn = curves.against_strength(lines, f"AUC ({name})", text, "test split", title, chance=0.5)
                save(drawn, folder / f"auc_{name}_{ending}.png")
            lines = _lines(results, attack, setup, None)
            drawn = curves.against_strength(lines, "share of jets with another class", text, "test split", title)
            save(drawn, folder / f"flips_{ending}.png")
        _inputs(folder, text, attack, about, results["source"], shifts[attack])


def _title(attack: str, setup: str, needs_gradient: bool, source: str) -> str:
    if not needs_gradient:
        return f"{attack}: one sample for all networks"
    if setup == WHITE_BOX:
        return f"{attack}, white box: gradient of each network itself"
    return f"{attack}, common sample: gradient of {source} for all"


def _lines(results: Mapping[str, Any], attack: str, setup: str, name: str | None) -> list[Curve]:
    """Return one curve per network: AUC of a discriminant, or (None) the share of flips."""
    colours = model_colours(results["models"])
    found = []
    for i, (model, about) in enumerate(results["models"].items()):
        measured = about["attacks"][attack][setup]
        if name is None:
            values, errors = measured["flips"], None
        else:
            values = [value for value, _ in measured["auc"][name]]
            known = [error for _, error in measured["auc"][name] if error is not None]
            errors = np.array(known) if len(known) == len(values) else None
        strengths = np.array(results["attacks"][attack]["strengths"])
        found.append(
            Curve(model, strengths, np.array(values), errors, colours[model], "-", MARKERS[i % len(MARKERS)])
        )
    return found


def _inputs(folder: Path, text: str, attack: str, about: Mapping[str, Any], source: str, shifts: InputShifts) -> None:
    """Draw the inputs that change most, before and after the attack."""
    moved = [name for name, shift in shifts.shifts.items() if shift.moved]
    chosen = sorted(moved, key=lambda name: -shifts.shifts[name].distance)[:MOST_PANELS]
    if not chosen:
        return
    panels = [
        distributions.panel(
            np.linspace(FEATURES[name].axis[1], FEATURES[name].axis[2], FEATURES[name].axis[0] + 1),
            {
                "nominal": shifts.shifts[name].nominal,
                "attacked": shifts.shifts[name].attacked,
            },
            with_unit(FEATURES[name].label, FEATURES[name].unit),
        )
        for name in chosen
    ]
    drawn = distributions.page(
        panels,
        text,
        f"gradient of {source}" if about["needs_gradient"] else "",
        colours={"nominal": "black", "attacked": "#ed1e02"},
        names={"attacked": f"{attack}, $\\epsilon$ = {about['strengths'][-1]:g}"},
        styles={"attacked": "--"},
    )
    save(drawn, folder / f"inputs_{attack}.png")
