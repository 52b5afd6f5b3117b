"""The study card: all sections, and what holds between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pfnano_tag.card.arrays import Arrays
from pfnano_tag.card.attacks import Attack
from pfnano_tag.card.base import Section
from pfnano_tag.card.calibration import Calibration
from pfnano_tag.card.comparison import Comparison
from pfnano_tag.card.consistency import contradictions, training_with
from pfnano_tag.card.datasets import Dataset, Role
from pfnano_tag.card.dependence import without_effect
from pfnano_tag.card.evaluation import Evaluation
from pfnano_tag.card.expansion import as_written, expanded, sharing
from pfnano_tag.card.generate import Generate
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.histograms import Histograms
from pfnano_tag.card.inputs import Inputs
from pfnano_tag.card.jets import Jets
from pfnano_tag.card.labels import Labels
from pfnano_tag.card.models import Model
from pfnano_tag.card.names import sound_names
from pfnano_tag.card.problems import Inconsistent
from pfnano_tag.card.regions import AllJets, Region
from pfnano_tag.card.resources import Resources
from pfnano_tag.card.reweighting import Reweighting
from pfnano_tag.card.scaling import Scaling
from pfnano_tag.card.splitting import Splitting
from pfnano_tag.card.study import Study
from pfnano_tag.card.submit import Submit
from pfnano_tag.card.systematics import Systematic
from pfnano_tag.card.training import Training
from pfnano_tag.card.weights import Weights
from pfnano_tag.errors import CardError, nearest

BOUND_SECTIONS = ("datasets", "jets", "inputs", "labels", "splitting", "scaling")
"""Sections that a study folder is bound to: another hash of these is refused."""
ANALYZED_SECTIONS = ("jets", "inputs", "labels", "splitting", "regions", "weights", "systematics", "histograms")
"""Sections that the result of a data/MC job depends on as a whole; of others, only parts."""

DEFAULT_ATTACKS = {"fgsm": Attack(kind="fgsm"), "noise": Attack(kind="noise")}
DEFAULT_REGIONS: dict[str, Region] = {"all_jets": AllJets(selection="all_jets")}
RESERVED = ("nominal", "data", "truth")


class Card(Section):
    """A validated study card; immutable."""

    study: Study
    """Name, folder and seed of the study: one card, one output folder."""

    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    """Files, what they are, what they are used for, and how they are normalised."""

    jets: Jets = Jets()
    """Acceptance of the jets, in training and in data/MC alike."""

    inputs: Inputs = Inputs()
    """What the networks see: input set and truncation."""

    labels: Labels = Labels()
    """Flavour classes, in the order of the networks' outputs."""

    reweighting: Reweighting = Reweighting()
    """Training weights that make the classes alike in pT and eta, and in number."""

    splitting: Splitting = Splitting()
    """Training, validation and test split by a hash of the event's identity."""

    scaling: Scaling = Scaling()
    """How features are brought to a common scale."""

    models: dict[str, Model] = Field(default_factory=dict)
    """Networks of the study by name: architecture, its arguments, training overrides; a scan stands for several."""

    training: Training = Training()
    """Optimiser, schedule, loss and stopping of all networks, where a model says nothing else."""

    attacks: dict[str, Attack] = Field(default_factory=lambda: dict(DEFAULT_ATTACKS))
    """Distortions of the scaled inputs by name; a card with this section names all of its own."""

    evaluation: Evaluation = Evaluation()
    """Performance in simulation: discriminants, working points, errors."""

    regions: dict[str, Region] = Field(default_factory=lambda: dict(DEFAULT_REGIONS))
    """Control regions of the data/MC comparison by name; a card with this section names all of its own."""

    weights: Weights = Weights()
    """Event weights of simulation beside genWeight x cross section x luminosity / sum of weights."""

    systematics: dict[str, Systematic] = Field(default_factory=dict)
    """Distorted objects by name: selections and networks run on them once more, in the same pass (simulation)."""

    histograms: Histograms = Histograms()
    """What the data/MC job fills: inputs, outputs, discriminants, stored taggers, attacked variants."""

    arrays: Arrays = Arrays()
    """Columns of the jets that regions fill, written beside the histograms: Parquet or a plain tree."""

    comparison: Comparison = Comparison()
    """Agreement of data and simulation: binning, normalisation, errors."""

    calibration: Calibration = Calibration()
    """Scale factors and shape weights from control regions."""

    generate: Generate = Generate()
    """Samples that the study makes itself with the embedded generator."""

    site: str | None = None
    """Site whose defaults of `submit` and `resources` hold where the card says nothing: the name of a shipped site
    file (`python -m pfnano_tag.submit --help` lists them), or a YAML file."""

    submit: Submit = Submit()
    """What a batch job asks for, and what its site wants to hear."""

    resources: Resources = Resources()
    """What one process may use: memory, threads, chunk and batch size; no part of any result."""

    @field_validator("models", "attacks", "regions", "systematics")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in RESERVED:
            if name in named:
                raise ValueError(f"{name!r} is a reserved name")
        return sound_names(named)

    @field_validator("models")
    @classmethod
    def _scans(cls, models: dict[str, Model], info: ValidationInfo) -> dict[str, Model]:
        """Replace scans by their trainings: from here on all models are alike."""
        return expanded(models, info.data["study"].seed if "study" in info.data else 1)

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        problems = contradictions(sections, {name: model.training for name, model in self.models.items()})
        if not problems:  # a key that is wrong may be the one that another needs
            trainings = {
                name: (self.training_of(name), model.training, model.architecture)
                for name, model in self.models.items()
            }
            problems = without_effect(self.training, trainings, lambda name, key: sharing(self.models, name, key))
        if problems:
            raise Inconsistent(as_written(problems, self.models))
        return self

    def training_of(self, model: str) -> Training:
        """Return section `training` with the overrides of one model.

        Parameters
        ----------
        model : str
            Name in section `models`.

        Returns
        -------
        Training
            Validated.

        Raises
        ------
        CardError
            When the card has no such model.
        """
        if model not in self.models:
            points = self.models_named([model])
            scan = f"{model!r} is a scan, name one of its trainings" if points != [model] else ""
            known = ", ".join(points if scan else self.models) or "none"
            raise CardError(f"{scan or f'the card has no model {model!r}'} (section models has: {known})")
        return training_with(self.training, self.models[model].training)

    def models_named(self, names: Sequence[str] | None) -> list[str]:
        """Return models by name: all for None; a scan's name, also before `:EPOCH`, stands for all its trainings."""
        asked: list[str] = []
        for name in self.models if names is None else names:
            scan, colon, epoch = name.partition(":")
            points = [
                point for point, one in self.models.items() if one.scanned is not None and one.scanned.scan == scan
            ]
            asked += [f"{point}{colon}{epoch}" for point in points] if scan not in self.models and points else [name]
        return list(dict.fromkeys(asked))

    def chosen_models(self, names: Sequence[str] | None = None) -> list[str]:
        """Return the models to train: those named (a scan stands for all its trainings), or all.

        Raises
        ------
        CardError
            When the card has no such model, or none at all.
        """
        chosen = self.models_named(names or None)
        if not chosen:
            raise CardError("section models is empty: name a model to train")
        for name in chosen:
            self.training_of(name)
        return chosen

    def datasets_for(self, role: Role) -> tuple[Dataset, ...]:
        """Return the datasets that have a role (`train` or `analyze`), in the card's order."""
        return tuple(dataset for dataset in self.datasets if role in dataset.roles)

    def dataset(self, name: str) -> Dataset:
        """Return a dataset by name; `CardError` with the nearest names when there is none."""
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        names = [dataset.name for dataset in self.datasets]
        hint = nearest(name, names) or names
        raise CardError(f"the card has no dataset {name!r}; nearest: {', '.join(hint)}")

    def patterns(self, dataset: Dataset) -> tuple[str, ...]:
        """Return a dataset's file patterns with `{study.folder}` filled in."""
        origin = str(self.study.origin or self.study.folder)
        return tuple(pattern.replace("{study.folder}", origin) for pattern in dataset.files)

    def hash(self, *sections: str) -> str:
        """Return the SHA-256 of sections' resolved content (all when none is named), as 64 hex digits.

        Where the study and its files lie (`study.folder`, `study.origin`) does not count: a study that was moved, or
        runs on another machine, is the same study.
        """
        content = self.model_dump(mode="json", include=set(sections) if sections else None)
        for place in ("folder", "origin"):
            content.get("study", {}).pop(place, None)
        return content_hash(content)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.study.folder
