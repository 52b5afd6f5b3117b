"""What defines a training, apart from the jets; a training that is resumed must have the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.card.training import Training
from pfnano_tag.errors import CheckpointError
from pfnano_tag.infer.bookkeeping import feature_counts
from pfnano_tag.models.registry import build, resolve
from pfnano_tag.prepare.inputs import InputSpec

MAY_DIFFER = {"epochs", "patience", "best", "tensorboard"}
"""Keys of section `training` that may change when a training is resumed."""


@dataclass(frozen=True)
class Recipe:
    """What defines a training, apart from the jets.

    Parameters
    ----------
    name : str
        Name of the model in the card.
    folder : Path
        Where its files go.
    architecture, arguments
        As in the model registry.
    inputs : InputSpec
        Inputs of the network.
    classes : tuple of str
        Flavour classes in the order of the outputs.
    settings : Training
        Section `training` with the model's overrides.
    attack : Attack or None
        Adversarial training: what `settings.attack` names.
    seed : int
        Of the study.
    provenance : dict
        JSON content for the checkpoint: card hash, labels, threads.
    evaluation : Evaluation
        Discriminants and mistag rates whose AUCs and efficiencies are followed.
    """

    name: str
    folder: Path
    architecture: str
    arguments: dict[str, Any]
    inputs: InputSpec
    classes: tuple[str, ...]
    settings: Training
    attack: Attack | None
    seed: int
    provenance: dict[str, Any]
    evaluation: Evaluation = field(default_factory=Evaluation)

    def description(self) -> dict[str, Any]:
        """How it is optimised: what must be the same in the checkpoint of a training that is resumed.

        The length of a training, and how it is followed, may differ.
        """
        settings = self.settings.model_dump(mode="json", exclude=MAY_DIFFER)
        attack = None if self.attack is None else self.attack.model_dump(mode="json", exclude={"scan"})
        return {"settings": settings, "attack": attack, "seed": self.seed}

    def network(self) -> nn.Module:
        """A new network, its weights drawn by torch's random numbers.

        Raises
        ------
        CardError
            When the architecture doesn't take the arguments.
        """
        features = feature_counts(self.inputs)
        return build(self.architecture, self.arguments, features, len(self.classes), self.classes)

    def to_json(self) -> dict[str, Any]:
        """All that must be the same for a training to be resumed, as plain JSON values."""
        return {
            "architecture": self.architecture,
            "arguments": resolve(self.architecture, self.arguments),
            "inputs": self.inputs.to_json(),
            "classes": list(self.classes),
        } | self.description()

    def check(self, other: dict[str, Any]) -> None:
        """Refuse to go on with the training of another recipe.

        Parameters
        ----------
        other : dict
            What `to_json` gave when that training was saved.

        Raises
        ------
        CheckpointError
            Names everything that differs.
        """
        mine = json.loads(json.dumps(self.to_json()))
        its = {name: other.get(name) for name in mine}
        if isinstance(its["settings"], dict):  # keys that the card did not have yet are at their defaults
            its["settings"] = Training().model_dump(mode="json", exclude=MAY_DIFFER) | its["settings"]
        different = [name for name, value in mine.items() if value != its[name]]
        if different:
            raise CheckpointError(
                f"{self.folder}: can't go on: the card's {', '.join(different)} differ from those of the checkpoint; "
                "undo the change, or start again with --overwrite"
            )
