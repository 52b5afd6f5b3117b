"""Where networks run: on the processor, or on a GPU."""

from __future__ import annotations

import torch
from torch import nn

from pfnano_tag.errors import CardError

CPU = torch.device("cpu")


def chosen_device(name: str) -> torch.device:
    """Device of the card.

    Parameters
    ----------
    name : str
        `resources.device`: `cpu`, `cuda`, or `auto` (a GPU where torch finds one).

    Raises
    ------
    CardError
        When a GPU is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise CardError(
            f"resources.device: cuda, but torch {torch.__version__} finds no GPU here; set resources.device=cpu, or "
            "install a CUDA build of torch on a machine with a GPU"
        )
    return torch.device("cuda" if name != "cpu" and there else "cpu")


def device_of(module: nn.Module) -> torch.device:
    """Device of a network: that of its first parameter."""
    return next(module.parameters()).device
