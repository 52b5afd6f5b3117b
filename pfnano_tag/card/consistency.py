"""What must hold between sections of the card."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pfnano_tag.card.base import Section, strictly
from pfnano_tag.card.datasets import Dataset, plain
from pfnano_tag.card.problems import describe
from pfnano_tag.card.training import Training
from pfnano_tag.errors import nearest


def contradictions(sections: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what contradicts between sections, one line per problem.

    Parameters
    ----------
    sections : mapping
        Validated sections of a card; those missing here (being wrong themselves) are not looked at.
    overrides : mapping
        Training overrides of each model.

    Returns
    -------
    list of str
    """
    base = sections.get("training", Training())
    return [
        *_same_names(sections),
        *_wrong_overrides(base, overrides),
        *_unknown_attacks(sections, overrides),
        *_unknown_classes(sections, overrides),
        *_systematics_of_one_name(sections),
        *_factors_of_no_dataset(sections),
        *_overlaps(sections),
        *_columns_of_nothing(sections),
        *_components_of_one_name(sections),
        *_unknown_regions(sections),
        *_source_called_statistics(sections),
        *_backend_of_cpus(sections),
    ]


def training_with(base: Training, overrides: Mapping[str, Any]) -> Training:
    """Return section `training` with the overrides of one model, validated.

    Raises
    ------
    pydantic.ValidationError
        When an override is wrong.
    """
    return strictly(Training, {**base.model_dump(mode="json"), **overrides})


def sound_parts(card: type[Section], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is right of a wrong card, so that contradictions are reported along with wrong fields.

    Parameters
    ----------
    card : type
        The card's model.
    content : mapping
        The raw card.

    Returns
    -------
    dict
        Section name to validated section, without the keys or entries that are wrong.
    """
    sound: dict[str, Any] = {}
    for name, field in card.model_fields.items():
        if name in content:
            value = _sound(TypeAdapter[Any](field.rebuild_annotation()), content[name])
            if value is not None:
                sound[name] = value
        elif not field.is_required():
            sound[name] = field.get_default(call_default_factory=True)
    return sound


def raw_overrides(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the training overrides in a raw card, also of models that are wrong elsewhere."""
    models = content.get("models")
    entries = models.items() if isinstance(models, dict) else ()
    found = {str(name): entry.get("training") for name, entry in entries if isinstance(entry, dict)}
    return {name: overrides for name, overrides in found.items() if isinstance(overrides, dict)}


def _sound(adapter: TypeAdapter[Any], value: Any) -> Any:
    """Validate without the entries that are wrong; None when nothing is left that is right."""
    try:
        return strictly(adapter, value)
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key not in wrong}
    elif isinstance(value, list):
        value = [entry for i, entry in enumerate(value) if i not in wrong]
    try:
        return strictly(adapter, value)
    except ValidationError:
        return None


def _same_names(sections: Mapping[str, Any]) -> list[str]:
    names = [dataset.name for dataset in sections.get("datasets", ())]
    return [f"datasets: the name {name!r} stands twice" for name in sorted(set(names)) if names.count(name) > 1]


def _wrong_overrides(base: Training, overrides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    problems = []
    for name, keys in overrides.items():
        try:
            training_with(base, keys)
        except ValidationError as error:
            problems += [f"models.{name}.training.{line}" for line in describe(error, Training)]
    return problems


def _unknown_attacks(sections: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if "attacks" not in sections:
        return []
    asked = {f"models.{name}.training.attack": keys.get("attack") for name, keys in overrides.items()}
    if "training" in sections:
        asked["training.attack"] = sections["training"].attack
    if "histograms" in sections:
        asked |= {f"histograms.variants.{i}": name for i, name in enumerate(sections["histograms"].variants)}
    known = sections["attacks"]
    return [
        f"{key}: {attack!r} is not in section attacks ({', '.join(known) or 'which is empty'})"
        for key, attack in asked.items()
        if isinstance(attack, str) and attack not in known
    ]


def _systematics_of_one_name(sections: Mapping[str, Any]) -> list[str]:
    """Variations of weights and of objects share one axis."""
    if not {"weights", "systematics"} <= sections.keys():
        return []
    of_weights = sections["weights"].variations
    return [
        f"systematics.{name}: the variation of a factor in section weights has that name; choose another"
        for name in sections["systematics"]
        if name in of_weights
    ]


def _factors_of_no_dataset(sections: Mapping[str, Any]) -> list[str]:
    """Factors of weights name datasets of simulation."""
    if not {"weights", "datasets"} <= sections.keys():
        return []
    simulation = [dataset.name for dataset in sections["datasets"] if dataset.kind == "mc"]
    return [
        f"weights.factors.{factor}.datasets: {name!r} is no dataset of simulation; "
        f"nearest: {', '.join(nearest(name, simulation) or simulation) or 'the card has none'}"
        for factor, section in sections["weights"].factors.items()
        for name in section.datasets or ()
        if name not in simulation
    ]


def _overlaps(sections: Mapping[str, Any]) -> list[str]:
    """Datasets of one period share their luminosity; no event may stand in two of them."""
    periods: dict[str, list[Dataset]] = {}
    for dataset in sections.get("datasets", ()):
        if dataset.period is not None:
            periods.setdefault(dataset.period, []).append(dataset)
    problems = []
    for period, members in periods.items():
        if len({member.luminosity for member in members}) > 1:
            found = ", ".join(f"{member.name} {member.luminosity:g}" for member in members)
            problems.append(f"datasets: those of period {period!r} must have the same luminosity [1/fb]: {found}")
        if len({member.lumi_mask for member in members}) > 1:
            found = ", ".join(f"{member.name} {member.lumi_mask}" for member in members)
            problems.append(f"datasets: those of period {period!r} must have the same lumi_mask: {found}")
        problems += [
            f"datasets: an event may stand in both {one.name} and {other.name} of period {period!r}: give "
            f"{one.name} its triggers and {other.name} all of them as vetoes, or the reverse"
            for one, other in combinations(members, 2)
            if not (_leaves(one, other) or _leaves(other, one))
        ]
    return problems


def _leaves(one: Dataset, other: Dataset) -> bool:
    """Return whether a dataset leaves all events of another one to it."""
    return bool(other.triggers) and plain(other.triggers) <= plain(one.vetoes)


def _columns_of_nothing(sections: Mapping[str, Any]) -> list[str]:
    """Arrays hold variants that are histogrammed, and weights that vary."""
    if "arrays" not in sections:
        return []
    arrays, asked = sections["arrays"], []
    if "histograms" in sections:
        asked += [
            ("variants", name, "histograms.variants", sections["histograms"].variants) for name in arrays.variants
        ]
    if "weights" in sections and arrays.weight_variations != "all":
        known = tuple(sections["weights"].variations)
        asked += [("weight_variations", name, "weights.factors", known) for name in arrays.weight_variations]
    return [
        f"arrays.{key}: {name!r} is not in {where}; nearest: "
        f"{', '.join(nearest(name, known) or known) or 'there is none'}"
        for key, name, where, known in asked
        if name not in known
    ]


def _components_of_one_name(sections: Mapping[str, Any]) -> list[str]:
    """Datasets that stand for flavours stand beside `data`."""
    if "comparison" not in sections or sections["comparison"].stack_by != "dataset":
        return []
    return [
        "comparison.stack_by: `dataset` needs another name for the dataset of simulation called 'data'"
        for dataset in sections.get("datasets", ())
        if (dataset.name, dataset.kind) == ("data", "mc")
    ]


def _unknown_regions(sections: Mapping[str, Any]) -> list[str]:
    if not {"calibration", "regions"} <= sections.keys():
        return []
    known = sections["regions"]
    return [
        f"calibration.{flavour}: {region!r} is not in section regions ({', '.join(known)})"
        for flavour, region in sections["calibration"].regions.items()
        if region not in known
    ]


def _source_called_statistics(sections: Mapping[str, Any]) -> list[str]:
    """Return what is wrong where a systematic source has the name that corrections have for the statistical error."""
    if not {"calibration", "weights", "systematics"} <= sections.keys() or not sections["calibration"].regions:
        return []
    names = {f"weights.factors.{name}": name for name in sections["weights"].factors}
    names |= {f"systematics.{n}": n.removesuffix("_up").removesuffix("_down") for n in sections["systematics"]}
    return [
        f"{key}: corrections of `calibrate` call their statistical errors up_statistics and down_statistics; choose "
        "another name"
        for key, name in names.items()
        if name == "statistics"
    ]


def _backend_of_cpus(sections: Mapping[str, Any]) -> list[str]:
    """Return what is wrong where ONNX Runtime is asked to run on a GPU."""
    resources = sections.get("resources")
    if resources is None or resources.backend != "onnx" or resources.device != "cuda":
        return []
    return ["resources.backend: 'onnx' runs on CPUs, but resources.device is 'cuda'; take torch, or device cpu"]


def _unknown_classes(sections: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if "labels" not in sections:
        return []
    asked = {f"models.{name}.training.focal_alpha": keys.get("focal_alpha") for name, keys in overrides.items()}
    if "training" in sections:
        asked["training.focal_alpha"] = sections["training"].focal_alpha
    known = sections["labels"].classes
    return [
        f"{key}: {flavour!r} is no flavour class of the study; labels.classes are {', '.join(known)}"
        for key, factors in asked.items()
        if isinstance(factors, dict)
        for flavour in factors
        if flavour not in known
    ]
