"""Names of the weights of our network with several tasks in Salt's. No torch here."""

from __future__ import annotations

import re

FIRST_OF_TASK = {"flavour": 0, "origin": 1, "vertex": 2}
"""Our tasks and their places in Salt's list."""
_BLOCK = {
    "project_in.": "attn.fn.in_proj_",
    "project_out.": "attn.fn.out_proj.",
    "feed.linear_in.": "dense.fn.in_proj.",
    "feed.linear_out.": "dense.fn.out_proj.",
}
_OTHERS = {"registers": "encoder.registers", "project.": "encoder.out_proj.", "pool.gate.": "pool_net.gate_nn."}
HIDDEN = 3
"""Hidden layers of a head; its output is the layer behind them."""


def name_in_salt(name: str) -> str | None:
    """Return what Salt calls one of our weights; None for those of norms, which Salt has none of.

    Parameters
    ----------
    name : str
        Of our weight.
    """
    if re.search(r"(^|\.)norm(_\w+)?\.(weight|bias)$", name):
        return None
    if found := re.match(r"(embed|heads)\.(\w+)\.(first|rest\.\d+|hidden\.\d+|out)\.(weight|bias)$", name):
        part, which, layer, kind = found.groups()
        within = "init_nets.0" if part == "embed" else f"tasks.{FIRST_OF_TASK[which]}"
        return f"{within}.net.net.{_place_of(layer)}.{kind}"
    if found := re.match(r"blocks\.(\d+)\.([\w.]+\.)(weight|bias)$", name):
        return f"encoder.layers.{found[1]}.{_BLOCK[found[2]]}{found[3]}"
    for ours, theirs in _OTHERS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"no weight of Salt is known for {name}")


def _place_of(layer: str) -> int:
    """Return the place of a layer in Salt's sequence of linear layers and activations."""
    if layer == "first":
        return 0
    if layer == "out":
        return 2 * HIDDEN
    kind, number = layer.split(".")
    return int(number) + (kind == "rest")
