"""Probabilities of a network for flat jets, in batches of similar length.

Shape suffixes: J jets, B jets of a batch, L constituents of a batch's longest jet, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pfnano_tag.errors import CardError
from pfnano_tag.infer.bookkeeping import Outputs, Tagger
from pfnano_tag.infer.regressions import numbers_of, regression_columns
from pfnano_tag.models.batch import Batch, FlatInputs, bucketed, call_all, collate, evaluating
from pfnano_tag.models.device import CPU, device_of

Distortion = Callable[[nn.Module, Batch], Batch]
Watcher = Callable[[Tensor, Batch], None]

ATTACKS_NEED_TORCH = (
    "resources.backend: onnx runs networks forward only, attacks need their gradients; set resources.backend=torch, "
    "or take the variants out (histograms.variants=[])"
)

LARGEST_TOKENS = 2048
"""Constituents that a network of sequences takes at once on a CPU: many, as each batch reads the weights anew; few,
as what a layer makes of them (up to 2 kB each) should stay in a cache."""
LARGEST_TOKENS_OF_GRADIENT = 1024
"""The same for an attack, which keeps what all layers make of them (about 100 kB each)."""
LARGEST_TOKENS_OF_GPU = 65536
"""Constituents that a GPU takes at once, which wants to be filled."""


def predict(
    tagger: Tagger,
    flat: FlatInputs,
    batch_size: int = 512,
    attack: Distortion | None = None,
    label: Tensor | None = None,
    watch: Watcher | None = None,
) -> NDArray[np.float32]:
    """Class probabilities of every jet, in the order of the jets.

    Parameters
    ----------
    tagger : Tagger
        Network with its inputs.
    flat : FlatInputs
        Inputs made by `conversion.to_inputs` with the tagger's input specification.
    batch_size : int
        Most jets at once; long jets come in smaller batches. The result does not depend on it (to 1e-6).
    attack : callable or None
        Distorts each batch first (`attack.registry.make`).
    label : Tensor or None
        int64 (J,), true classes for the attack; without, it takes the most probable class.
    watch : callable or None
        Gets each batch as the network sees it, with the indices of its jets (histograms of attacked inputs).

    Returns
    -------
    ndarray
        float32 (J, K), rows sum to one.

    Raises
    ------
    CardError
        When an attack is asked for of a network that runs in ONNX Runtime.
    """
    if attack is not None and tagger.session is not None:
        raise CardError(ATTACKS_NEED_TORCH)
    out = torch.empty(len(flat), len(tagger.classes))
    device = device_of(tagger.module)
    with evaluating(tagger.module):
        for indices in inference_batches(tagger.module, flat, batch_size, gradient=attack is not None):
            batch = collate(flat, indices, label).to(device)
            if attack is not None:
                batch = attack(tagger.module, batch)
            if watch is not None:
                watch(indices, batch.to(CPU))
            with torch.inference_mode():
                out[indices] = _outputs(tagger, batch)[0].to(CPU)
    return np.asarray(out.numpy(), dtype=np.float32)


def predict_with_regressions(
    tagger: Tagger, flat: FlatInputs, batch_size: int = 512
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Class probabilities of every jet, and what the network's regressions say of it.

    Parameters
    ----------
    tagger, flat, batch_size
        As for `predict`.

    Returns
    -------
    probabilities : ndarray
        float32 (J, K).
    regressions : dict of ndarray
        float32 (J,), by the names of `regression_columns`.
    """
    module, device = tagger.module, device_of(tagger.module)
    columns = regression_columns(module)
    nodes_JK = torch.empty(len(flat), len(tagger.classes))
    numbers = torch.empty(len(flat), len(columns))
    with evaluating(module), torch.inference_mode():
        for indices in inference_batches(module, flat, batch_size):
            nodes_BK, of_regressions = _outputs(tagger, collate(flat, indices).to(device))
            nodes_JK[indices] = nodes_BK.to(CPU)
            if of_regressions is not None:
                numbers[indices] = of_regressions.to(CPU)
    return nodes_JK.numpy(), dict(zip(columns, numbers.t().contiguous().numpy(), strict=True))


def _outputs(tagger: Tagger, batch: Batch) -> Outputs:
    """Return probabilities and numbers of regressions, by the backend that the network was loaded for."""
    if tagger.session is not None:
        return tagger.session(batch)
    outputs = call_all(tagger.module, batch, of_jets=True)
    return outputs["flavour"].softmax(1), numbers_of(tagger.module, outputs)


def inference_batches(module: nn.Module, flat: FlatInputs, batch_size: int, gradient: bool = False) -> list[Tensor]:
    """Jets of each batch, sorted by length; for a network of sequences, long jets come fewer at once.

    Where there are enough jets of one length, they make batches of their own: those have no padding.

    Parameters
    ----------
    module : nn.Module
        Network.
    flat : FlatInputs
        All jets.
    batch_size : int
        Most jets at once.
    gradient : bool
        Whether the network goes backward too, for which all layers' results are kept: fewer at once on a CPU.
    """
    lengths = flat.lengths
    if not module.wants_buckets:
        return bucketed(lengths, batch_size)
    most = LARGEST_TOKENS_OF_GPU
    if device_of(module) == CPU:
        most = LARGEST_TOKENS_OF_GRADIENT if gradient else LARGEST_TOKENS
    order = torch.argsort(lengths, stable=True)
    unique, counts = lengths[order].unique_consecutive(return_counts=True)
    batches: list[Tensor] = []
    waiting: list[Tensor] = []
    constituents = 0
    for length, jets in zip(unique.clamp(min=1).tolist(), order.split(counts.tolist()), strict=True):
        waiting.append(jets)
        constituents += length * len(jets)
        if constituents >= most // 2:
            batches += torch.cat(waiting).split(min(batch_size, max(1, most // length)))
            waiting, constituents = [], 0
    if waiting:
        batches += torch.cat(waiting).split(min(batch_size, max(1, most // int(unique[-1].clamp(min=1)))))
    return batches
