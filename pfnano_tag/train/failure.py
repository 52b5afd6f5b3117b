"""When a loss or a gradient is not finite: the batch is kept for whoever looks for the cause."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import OutputError
from pfnano_tag.models.batch import Batch

FAILED_BATCH = "failed_batch.safetensors"
"""The batch at which the last training stopped, in the model's folder."""


def cause_of(batch: Batch, learning_rate: float) -> str:
    """Most likely cause of a loss that is not finite, and what to do."""
    if not _finite_inputs(batch):
        return "its inputs are not all finite: run `prepare` again and look at its table of features"
    if is_spoiled(batch):
        return "its weights are not all finite: run `prepare` again and look at its weights"
    return f"the learning rate ({learning_rate:g} at the highest) may be too high: lower training.learning_rate"


def is_spoiled(batch: Batch) -> bool:
    """Whether inputs or weights are not all finite."""
    return not _finite_inputs(batch) or (batch.weight_B is not None and not bool(batch.weight_B.isfinite().all()))


def _finite_inputs(batch: Batch) -> bool:
    return all(bool(values.isfinite().all()) for values in batch.inputs.values())


def keep(folder: Path, batch: Batch, about: dict[str, str]) -> str:
    """Write a batch to the model's folder, and say where it is.

    Parameters
    ----------
    folder : Path
        The model's folder.
    batch : Batch
        Nominal jets, as the loader gave them.
    about : dict of str to str
        Goes into the file's metadata.

    Returns
    -------
    str
        For the message.
    """
    path = folder / FAILED_BATCH
    tensors = {name: values.contiguous() for name, values in tensors_of(batch).items()}
    try:
        with write_whole(path) as temporary:
            temporary.write_bytes(save(tensors, metadata=about))
    except OutputError as error:
        return f"the batch could not be kept ({error})"
    return f"the batch is in {path}"


def forget(folder: Path) -> None:
    """Remove the batch that an earlier attempt may have left."""
    (folder / FAILED_BATCH).unlink(missing_ok=True)


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """All tensors of a batch by name: `jet/x`, `charged/x`, `charged/mask`, `label`, ..."""
    named: dict[str, Tensor | None] = {"jet/x": batch.jet_BF, "jet/default": batch.jet_default_BF}
    for name, group in batch.groups.items():
        named[f"{name}/x"], named[f"{name}/mask"] = group.x_BNF, group.mask_BN
        named[f"{name}/default"], named[f"{name}/vectors"] = group.default_BNF, group.vectors_BN4
    named |= {"label": batch.label_B, "weight": batch.weight_B} | batch.targets
    return {name: values for name, values in named.items() if values is not None}
