"""Files of correctionlib, made by hand, and their values worked out one by one without correctionlib."""

from __future__ import annotations

import gzip
import json
import math

PT_EDGES = [10.0, 20.0, 40.0, 60.0]
ETA_EDGES = [0.0, 1.2, 2.4]
SHIFT = {"nominal": 0.0, "systup": 0.02, "systdown": -0.03}


def correction(name, inputs, data):
    return {
        "name": name,
        "version": 1,
        "inputs": [{"name": n, "type": t} for n, t in inputs.items()],
        "output": {"name": "weight", "type": "real"},
        "data": data,
    }


def category(name, content, default=None):
    items = [{"key": key, "value": value} for key, value in content.items()]
    return {"nodetype": "category", "input": name, "content": items, "default": default}


def binning(name, edges, content, flow="error"):
    return {"nodetype": "binning", "input": name, "edges": edges, "content": content, "flow": flow}


def formula(expression, *variables):
    return {"nodetype": "formula", "parser": "TFormula", "expression": expression, "variables": list(variables)}


def _muon_bins(shift):
    """A formula in the first two bins of pT, numbers in the last: two bins of abs(eta) each."""
    soft = [formula(f"{0.9 + shift} + 0.001*x*(1 + y)", "pt", "abseta")] * 4
    return {
        "nodetype": "multibinning",
        "inputs": ["pt", "abseta"],
        "edges": [PT_EDGES, ETA_EDGES],
        "content": [*soft, 1.1 + shift, 1.2 + shift],
        "flow": "error",
    }


MUON = correction(
    "muon_id",
    {"abseta": "real", "pt": "real", "scale_factors": "string"},
    category("scale_factors", {key: _muon_bins(shift) for key, shift in SHIFT.items()}),
)
PILEUP = correction(
    "Collisions17",
    {"NumTrueInteractions": "real", "weights": "string"},
    category(
        "weights",
        {
            key: binning("NumTrueInteractions", {"n": 4, "low": 0.0, "high": 80.0}, content, "clamp")
            for key, content in {"nominal": [0.5, 1.0, 1.5, 2.0], "up": [0.4, 0.9, 1.6, 2.2]}.items()
        },
    ),
)
FLAVOUR = correction(
    "tagging",
    {"flavour": "int", "pt": "real"},
    category("flavour", {5: binning("pt", [20.0, 50.0, "inf"], [0.9, 0.8]), 4: 0.7}),
)
SCALE = correction("scale", {"pt": "real"}, binning("pt", [0.0, 30.0, 1000.0], [1.1, 0.9], "clamp"))
COMPOUND = {
    "name": "both",
    "inputs": [{"name": "pt", "type": "real"}, {"name": "flavour", "type": "int"}],
    "output": {"name": "weight", "type": "real"},
    "inputs_update": ["pt"],
    "input_op": "*",
    "output_op": "*",
    "stack": ["scale", "tagging"],
}


def muon_id(pt, abseta, key="nominal", clamp=False):
    """The value of `muon_id`; None outside of its range."""
    if clamp:
        pt = min(max(pt, PT_EDGES[0]), math.nextafter(PT_EDGES[-1], 0))
        abseta = min(max(abseta, ETA_EDGES[0]), math.nextafter(ETA_EDGES[-1], 0))
    if not (PT_EDGES[0] <= pt < PT_EDGES[-1] and ETA_EDGES[0] <= abseta < ETA_EDGES[-1]):
        return None
    if pt < 40:
        return 0.9 + SHIFT[key] + 0.001 * pt * (1 + abseta)
    return (1.1 if abseta < 1.2 else 1.2) + SHIFT[key]


def write(path, *corrections, compound=()):
    """Write a file, compressed where its name says so; all corrections of this module by default."""
    content = {"schema_version": 2, "corrections": list(corrections) or [MUON, PILEUP, FLAVOUR, SCALE]}
    if compound:
        content["compound_corrections"] = list(compound)
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
