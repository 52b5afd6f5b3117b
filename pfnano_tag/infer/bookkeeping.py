"""What a trained network is: its checkpoint carries everything that is needed to use it.

A checkpoint is two files: `epoch_0001.safetensors` (weights) and `epoch_0001.json` (everything else: inputs
with their order, placeholders, transforms and scaling; classes; architecture and arguments; how it was trained).
The JSON file is written last and names the hash of the weights, so a checkpoint is whole or it is none. Nothing
in it is ever executed: no pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from pfnano_tag import __version__
from pfnano_tag.card.card import Card
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import write_json, write_whole
from pfnano_tag.errors import CheckpointError, UserError, nearest
from pfnano_tag.models.batch import Batch
from pfnano_tag.models.registry import build, resolve
from pfnano_tag.prepare.inputs import InputSpec

Outputs = tuple[Tensor, Tensor | None]
"""Probabilities (B, K) of a batch, and the numbers (B, columns) of regressions where there are any."""

FORMAT = "pfnano_tag checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Tagger:
    """A network and what it needs to be applied.

    Parameters
    ----------
    name : str
        Name of the model in the card.
    epoch : int
        Epochs it was trained for.
    module : nn.Module
        The network, in evaluation mode.
    inputs : InputSpec
        Inputs in the order of the network's columns, with placeholders, transforms and scaling.
    classes : tuple of str
        Flavour classes in the order of the outputs.
    architecture : str
        Name in the model registry.
    arguments : dict
        All arguments of the architecture, defaults included.
    hash : str
        SHA-256 over weights, architecture, inputs and classes: two equal hashes give equal scores.
    training : dict
        How it came about: labels, loss, attack, card hash, threads, metrics; not needed for inference.
    session : callable or None
        What runs the network in the place of `module`, which stays for what it says of itself (`onnx_session`).
    """

    name: str
    epoch: int
    module: nn.Module
    inputs: InputSpec
    classes: tuple[str, ...]
    architecture: str
    arguments: dict[str, Any]
    hash: str
    training: dict[str, Any]
    session: Callable[[Batch], Outputs] | None = None

    def description(self) -> dict[str, Any]:
        """Return what an output should tell of the network, as JSON content.

        Epoch, hash, architecture and its arguments, classes, inputs in their order, and how it was trained: `attack`
        is the set-up of an adversarial training, None for a nominal one.
        """
        settings = self.training.get("settings") or {}
        attack = self.training.get("attack")
        if attack is not None:
            how = {key: value for key, value in settings.items() if key.startswith("attack_")}
            attack = {"name": settings.get("attack"), **attack, **how}
        return {
            "epoch": self.epoch,
            "hash": self.hash,
            "architecture": self.architecture,
            "arguments": self.arguments,
            "classes": list(self.classes),
            "inputs": {
                "set": self.inputs.set,
                "features": list(self.inputs.ids),
                "caps": dict(self.inputs.caps),
                "candidate_pt": self.inputs.candidate_pt,
            },
            "attack": attack,
            "card": self.training.get("card"),
        }


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Path of the JSON file of an epoch's checkpoint."""
    return folder / f"epoch_{epoch:04d}.json"


def feature_counts(inputs: InputSpec) -> dict[str, int]:
    """Number of features per group, as the model registry wants it."""
    return {group: len(features) for group, features in inputs.groups.items()}


def save_checkpoint(
    folder: Path,
    name: str,
    epoch: int,
    module: nn.Module,
    inputs: InputSpec,
    classes: tuple[str, ...],
    architecture: str,
    arguments: dict[str, Any],
    training: dict[str, Any],
) -> Path:
    """Write weights, then everything else; both whole or not at all.

    Parameters
    ----------
    folder : Path
        The model's folder.
    training : dict
        JSON content that says how the network was trained.
    (others as the attributes of `Tagger`)

    Returns
    -------
    Path
        The JSON file.
    """
    path = checkpoint_path(folder, epoch)
    weights = save_tensors({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()})
    with write_whole(path.with_suffix(".safetensors")) as temporary:
        temporary.write_bytes(weights)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "code_version": __version__,
        "name": name,
        "epoch": epoch,
        "architecture": architecture,
        "arguments": resolve(architecture, arguments),
        "classes": list(classes),
        "inputs": inputs.to_json(),
        "weights": {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
        "training": training,
    }
    write_json(path, content)
    return path


def load_checkpoint(path: Path | str) -> Tagger:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path or str
        The JSON file (or the weights file beside it).

    Raises
    ------
    CheckpointError
        When a file is missing, truncated or altered, is not a checkpoint of this program, has an unknown format
        version, or its weights don't fit its architecture and inputs.
    """
    path = Path(path)
    path = path.with_suffix(".json") if path.suffix == ".safetensors" else path
    content = _read_description(path)
    weights = _read_weights(path.with_suffix(".safetensors"), content)
    try:
        inputs = InputSpec.from_json(content["inputs"])
        inputs.declare()
        classes = tuple(content["classes"])
        module = build(content["architecture"], content["arguments"], feature_counts(inputs), len(classes), classes)
        module.load_state_dict(load_tensors(weights))
        return Tagger(
            name=content["name"],
            epoch=int(content["epoch"]),
            module=module.eval(),
            inputs=inputs,
            classes=classes,
            architecture=content["architecture"],
            arguments=content["arguments"],
            hash=_hash(content),
            training=content["training"],
        )
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise CheckpointError(f"{path}: damaged: {type(error).__name__} {error}; train it again") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: its weights can't be read: {error}; train it again") from error
    except RuntimeError as error:  # torch's load_state_dict names every tensor that doesn't fit
        raise CheckpointError(
            f"{path}: its weights don't fit the architecture {content['architecture']} "
            f"and the inputs that it names: {error}"
        ) from error


def find_checkpoint(where: Card | Path, model: str) -> Path:
    """Path of a checkpoint from what a user writes.

    Parameters
    ----------
    where : Card or Path
        The card, or the folder that holds one folder per model.
    model : str
        `name` or `name:best` (by the metric `training.best`), `name:12` (epoch), `name:last`, or a path ending in
        `.json`.

    Raises
    ------
    CheckpointError
        When there is no such model or epoch; the message lists what there is.
    """
    if model.endswith((".json", ".safetensors")):
        path = Path(model).with_suffix(".json")
        if not path.exists():
            raise CheckpointError(f"{path}: no such checkpoint")
        return path
    folder = (
        where / model.partition(":")[0]
        if isinstance(where, Path)
        else where.folder / "models" / model.partition(":")[0]
    )
    epochs = epochs_of(folder)
    if not epochs:
        known = sorted(entry.name for entry in folder.parent.glob("*") if epochs_of(entry))
        hint = ", ".join(nearest(folder.name, known) or known) or "none; run `train` first"
        raise CheckpointError(f"{folder}: no trained model {folder.name!r}; there is: {hint}")
    return checkpoint_path(folder, _epoch(folder, model.partition(":")[2] or "best", epochs))


def epochs_of(folder: Path) -> list[int]:
    """Epochs that a model's folder has checkpoints of, ascending."""
    numbers = [path.stem.removeprefix("epoch_") for path in folder.glob("epoch_*.json")]
    return sorted(int(number) for number in numbers if number.isdigit())


def _epoch(folder: Path, which: str, epochs: list[int]) -> int:
    if which == "last":
        return epochs[-1]
    if which == "best":
        try:
            epoch = json.loads((folder / "best.json").read_text(encoding="utf-8"))["epoch"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder / 'best.json'}: can't be read ({error}); name an epoch of {epochs[0]} to {epochs[-1]}"
            ) from error
    else:
        epoch = int(which) if which.isdigit() else which
    if epoch not in epochs:
        raise CheckpointError(
            f"{folder}: no epoch {epoch!r}; there is: best, last, {', '.join(str(number) for number in epochs)}"
        )
    return int(epoch)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or truncated: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (its JSON has no format {FORMAT!r})")
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {content.get('format_version')!r}, this version "
            f"({__version__}) reads {FORMAT_VERSION}; it was written by version {content.get('code_version')!r}"
        )
    return content


def _read_weights(path: Path, content: dict[str, Any]) -> bytes:
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: the weights can't be read: {error.strerror}") from error
    expected = content.get("weights") or {}
    if len(weights) != expected.get("size"):
        raise CheckpointError(f"{path}: truncated: {len(weights)} bytes, expected {expected.get('size')}")
    if hashlib.sha256(weights).hexdigest() != expected.get("sha256"):
        raise CheckpointError(f"{path}: altered or damaged: its SHA-256 is not the one in {path.stem}.json")
    return weights


def _hash(content: dict[str, Any]) -> str:
    keys = ("architecture", "arguments", "classes", "inputs", "weights")
    return content_hash({key: content[key] for key in keys})
