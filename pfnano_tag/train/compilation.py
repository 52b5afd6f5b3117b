"""Compiling networks with torch.compile, where the card says so."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from pfnano_tag.errors import CardError

COMPILERS = ("g++", "clang++")


def check_compiler(device: torch.device) -> None:
    """Refuse to compile for a processor without a C++ compiler, before anything is read.

    Raises
    ------
    CardError
        When `CXX` names none, and neither g++ nor clang++ is there.
    """
    named = os.environ.get("CXX")
    if device.type != "cpu" or any(map(shutil.which, [named] if named else COMPILERS)):
        return
    found = f"CXX is {named!r}, which is no program" if named else f"found none of {', '.join(COMPILERS)}"
    raise CardError(
        f"training.compile: torch.compile needs a C++ compiler, {found}; install one, or set training.compile=false"
    )


def compile_network(module: nn.Module) -> None:
    """Let torch compile the network's forward and backward passes when they are first used, for any batch size.

    The module stays what it is: its weights keep their names.
    """
    module.compile(dynamic=True)
