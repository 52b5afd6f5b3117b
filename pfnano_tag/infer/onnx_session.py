"""Networks run by ONNX Runtime, on CPUs: the same scores as torch's, to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pfnano_tag.errors import CheckpointError, MissingExtra
from pfnano_tag.infer.bookkeeping import Outputs, Tagger
from pfnano_tag.infer.onnx_graph import arguments_of, graph_of, probe
from pfnano_tag.infer.regressions import numbers_of
from pfnano_tag.models.batch import Batch, call_all, evaluating

TOLERANCE = 1e-5
"""Largest difference from torch's probabilities that is taken for rounding."""
_PROBES = ((2, 1), (17, 7), (4, 30))
"""Jets and constituents of the batches that the two are compared on."""


class Session:
    """A network in ONNX Runtime.

    Memory is asked for as it is needed and given back (no arena): batches have many shapes, of each of which an
    arena would keep the largest.

    Parameters
    ----------
    graph : bytes
        From `onnx_graph`.
    vectors : bool
        Whether the network needs four-vectors.
    threads : int
        Threads.

    Raises
    ------
    MissingExtra
        When ONNX Runtime is not installed.
    """

    def __init__(self, graph: bytes, vectors: bool, threads: int) -> None:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 4  # what fails is raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # slots of batch systems are shared
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._names = [argument.name for argument in self._session.get_inputs()]
        self._vectors = vectors

    def __call__(self, batch: Batch) -> Outputs:
        """Return probabilities (B, K) and the numbers of regressions (B, columns) or None.

        Raises
        ------
        MemoryError
            When there is not enough.
        """
        arguments = arguments_of(batch, self._vectors)
        try:
            found = self._session.run(None, {name: arguments[name].numpy() for name in self._names})
        except Exception as error:  # the runtime's own kinds; memory is one of many reasons
            if "alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
        tensors = [torch.from_numpy(values) for values in found]
        return tensors[0], (tensors[1] if len(tensors) > 1 else None)


def open_session(tagger: Tagger, checkpoint: Path, threads: int) -> Session:
    """Return a network in ONNX Runtime, after comparing it with torch's on random jets.

    Parameters
    ----------
    tagger : Tagger
        From `load_checkpoint`, on a CPU.
    checkpoint : Path
        Its JSON file; the graph is kept beside it.
    threads : int
        Threads.

    Raises
    ------
    MissingExtra
        When the packages of the extra `onnx` are not installed.
    CheckpointError
        When the network can't be written as ONNX, or its scores there are not those of torch.
    """
    _runtime()
    session = Session(graph_of(tagger, checkpoint), bool(tagger.module.needs_vectors), threads)
    for seed, (jets, width) in enumerate(_PROBES):
        batch = probe(tagger, jets, width, seed)
        difference = _difference(torch_outputs(tagger, batch), session(batch))
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"model {tagger.name!r}: ONNX Runtime and torch differ by {difference:.2g} on random jets, "
                f"expected at most {TOLERANCE:g}; set resources.backend=torch"
            )
    return session


def torch_outputs(tagger: Tagger, batch: Batch) -> Outputs:
    """Return what torch gives in the place of `Session`."""
    with evaluating(tagger.module), torch.inference_mode():
        outputs = call_all(tagger.module, batch, of_jets=True)
        return outputs["flavour"].softmax(1), numbers_of(tagger.module, outputs)


def _difference(ours: Outputs, theirs: Outputs) -> float:
    """Return the largest difference, of numbers relative to their size where that is above one."""
    pairs: list[tuple[Tensor, Tensor]] = [
        (a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None
    ]
    return max(float(((a - b).abs() / a.abs().clamp(min=1)).max()) for a, b in pairs)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "resources.backend=onnx needs the package onnxruntime; install it with: pip install 'pfnano_tag[onnx]', "
            "or set resources.backend=torch"
        ) from error
    return onnxruntime
