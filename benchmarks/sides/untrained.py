"""Networks of a card that learned nothing: checkpoints with weights as they were drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pfnano_tag.card import Card
from pfnano_tag.card.output import write_json
from pfnano_tag.infer.bookkeeping import feature_counts, save_checkpoint
from pfnano_tag.models.registry import build
from pfnano_tag.prepare.inputs import InputSpec


def write_untrained(
    card: Card, inputs: InputSpec, classes: tuple[str, ...], change: Callable[[nn.Module], None] | None = None
) -> dict[str, nn.Module]:
    """Write all networks of a card, each as its best and only epoch; return them by name.

    Parameters
    ----------
    card : Card
        Of the study.
    inputs : InputSpec
        Of all networks.
    classes : tuple of str
        Their outputs.
    change : callable or None
        Done to each network first.
    """
    written = {}
    for seed, (name, model) in enumerate(card.models.items()):
        torch.manual_seed(seed)
        arguments = dict(model.arguments)
        module = build(model.architecture, arguments, feature_counts(inputs), len(classes), classes)
        if change is not None:
            change(module)
        folder = card.folder / "models" / name
        save_checkpoint(folder, name, 1, module, inputs, classes, model.architecture, arguments, {})
        write_json(folder / "best.json", {"epoch": 1})
        written[name] = module
    return written
