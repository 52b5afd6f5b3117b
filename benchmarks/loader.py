"""Training stream, from a flat file of jets to shuffled padded batches, against weaver-core's DataLoader."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.inputs import path_of
from benchmarks.measuring import Different, Side, interleaved, run_side, summary
from benchmarks.peers import python_of
from benchmarks.printing import Outcome, command, part, say
from benchmarks.study import write_card

BATCH = 512
TOLERANCE = 1e-4
"""Largest difference of projections: of sums of up to 25 scaled values in single precision."""
VECTOR_SCALE = 100.0
"""What sums of four-vectors [GeV] are divided by in the comparison."""


@dataclass(frozen=True)
class Setting:
    """How weaver's dataset is used.

    Parameters
    ----------
    fetch_step : float
        Share of the file that is read and shuffled at a time.
    workers : int
        Worker processes of the DataLoader.
    share : float
        Share of the file that is read at all.
    kept : bool
        Whether the jets stay in memory, ready for further epochs, one of which is then measured.
    """

    fetch_step: float
    workers: int = 0
    share: float = 1.0
    kept: bool = False

    def __str__(self) -> str:
        return f"fetch_step {self.fetch_step:g}, {self.workers or 'no'} worker processes"


DEFAULT = Setting(0.01, 1)
"""As `weaver --help` says."""
TUNED = (Setting(0.1), Setting(0.25), Setting(0.5), Setting(0.25, 1))
"""Settings of which the one with the fewest CPU seconds counts as tuned."""
IN_MEMORY = Setting(1.0)
PEER, OLDER = "weaver", "weaver_0.4"
"""Environments: the current version, and the last one before its loader got compiled kernels."""


def weaver_config(prepared: dict[str, Any]) -> dict[str, Any]:
    """Return weaver's data configuration: the same branches, transforms, scaling, lengths and classes as ours."""
    variables: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    for group, content in prepared["groups"].items():
        entries = []
        for feature in content["features"]:
            name = branch = feature["branch"]
            if feature["log"] is not None:
                name = f"{branch}_log"
                variables[name] = f"np.sign({branch}) * np.log1p({feature['log']} * np.abs({branch}))"
            entries.append([name, feature["mean"], 1 / feature["std"], -1e30, 1e30, 0.0])
        inputs[group] = {"length": content["cap"], "pad_mode": "constant", "vars": entries}
        if content["cap"] is not None:
            vectors, mask = content["vectors"], f"{group}_mask"
            variables[mask] = f"ak.ones_like({vectors[0]})"
            plain = {"length": content["cap"], "pad_mode": "constant"}
            inputs[f"{group}_vectors"] = {**plain, "vars": [[name, None] for name in vectors]}
            inputs[mask] = {**plain, "vars": [[mask, None]]}
    for flavour, flags in prepared["classes"].items():
        variables[f"is_{flavour}"] = " | ".join(f"({flag} != 0)" for flag in flags)
    return {
        "treename": prepared["tree"],
        "new_variables": variables,
        "preprocess": {"method": "manual"},
        "inputs": inputs,
        "labels": {"type": "simple", "value": [f"is_{flavour}" for flavour in prepared["classes"]]},
    }


def branches_of(prepared: dict[str, Any]) -> list[str]:
    """Return the branches that weaver reads with its configuration."""
    groups = prepared["groups"].values()
    found = [feature["branch"] for group in groups for feature in group["features"]]
    found += [name for group in groups if group["cap"] is not None for name in group["vectors"]]
    return list(dict.fromkeys([*found, *(flag for flags in prepared["classes"].values() for flag in flags)]))


def compared_columns(prepared: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Return what is compared, under our names and under weaver's, with scales: all that never is a placeholder."""
    ours, theirs = {"label": 1.0}, {"label": 1.0}
    for group, content in prepared["groups"].items():
        for feature in content["features"]:
            if feature["complete"]:
                ours[feature["id"]] = 1.0
                suffix = "_log" if feature["log"] is not None else ""
                theirs[f"{group}/{feature['branch']}{suffix}"] = 1.0
        if content["cap"] is not None:
            for component, branch in zip(("px", "py", "pz", "energy"), content["vectors"], strict=True):
                ours[f"{group}/{component}"] = theirs[f"{group}_vectors/{branch}"] = VECTOR_SCALE
    return ours, theirs


class Sides:
    """The sides of this benchmark for one file.

    Parameters
    ----------
    file : Path
        One entry per jet.
    folder : Path
        For the study and what is compared.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self.file, self.folder, self.python = file, folder, python_of(PEER)
        self.card = write_card(folder, str(file), {"cache": "none"}, training={"batch_size": BATCH})
        self.prepared = run_side(Side("prepare", "stream", {"do": "prepare", "card": str(self.card)}))
        self.config = weaver_config(self.prepared)

    def ours(self, name: str = "ours", **options: Any) -> Side:
        """Return our stream."""
        return Side(name, "stream", {"do": "epochs", "card": str(self.card), "buckets": True, **options})

    def weaver(self, name: str, setting: Setting, **options: Any) -> Side:
        """Return weaver's DataLoader."""
        asked = {
            "file": str(self.file),
            "config": self.config,
            "batch_size": BATCH,
            "fetch_step": setting.fetch_step,
            "workers": setting.workers,
            "share": setting.share,
            "kept": setting.kept,
            "jets": self.prepared["kept"],
        }
        return Side(name, "weaver", {**asked, **options}, self.python)

    def raw(self) -> Side:
        """Return uproot alone with the same branches, in our chunks."""
        asked = {"file": str(self.file), "tree": self.prepared["tree"], "branches": branches_of(self.prepared)}
        return Side("raw", "uproot_alone", {**asked, "plan": self.prepared["plan"], "do": "read"})

    def first_round(self, setting: Setting) -> tuple[dict[str, list[dict[str, Any]]], float]:
        """Run ours, weaver and uproot alone once and compare the jets that both have delivered.

        Returns
        -------
        runs : dict
            As `interleaved` returns them.
        difference : float
            Largest difference of projections.

        Raises
        ------
        Different
            When they are not the same jets.
        """
        from benchmarks.sides.projections import largest_difference

        mine, theirs = compared_columns(self.prepared)
        paths = [str(self.folder / name) for name in ("ours.npy", "weaver.npy")]
        ours = self.ours(columns=mine, save=paths[0])
        runs = interleaved([ours, self.weaver("weaver", setting, columns=theirs, save=paths[1]), self.raw()], 1)
        difference = largest_difference(*paths)
        if difference > TOLERANCE:
            raise Different(
                f"both sides deliver different jets: projections differ by up to {difference:.3g}, expected at most "
                f"{TOLERANCE:g} (infinity: another number of jets)"
            )
        return runs, difference


def best_setting(sides: Sides) -> Setting:
    """Return the tuned setting with the fewest CPU seconds."""
    seconds: dict[Setting, float] = {}
    for setting in TUNED:
        seconds[setting] = run_side(sides.weaver("tuning", setting))["cpu"]
        say(f"weaver, {setting}: {seconds[setting]:.1f} s")
    return min(seconds, key=seconds.__getitem__)


def ratio_of_rates(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Return our jets per second over theirs."""
    return float(f"{ours['jets_per_second'] / theirs['jets_per_second']:.4g}")


def measure(quick: bool) -> Outcome:
    """Prepare a study of the file, compare the jets of the first round, measure."""
    file = path_of("jets_30k" if quick else "jets_200k")
    for peer in (PEER,) if quick else (PEER, OLDER):  # complain before anything is measured
        python_of(peer)
    with tempfile.TemporaryDirectory() as folder:
        say(f"preparing a study of {file.name}")
        sides = Sides(file, Path(folder))
        setting = TUNED[1] if quick else best_setting(sides)
        rounds = 2 if quick else 4
        say(f"ours, weaver ({setting}) and uproot alone, {rounds} rounds")
        runs, difference = sides.first_round(setting)
        for name, some in interleaved(
            [sides.ours(), sides.weaver("weaver", setting), sides.raw()], rounds - 1
        ).items():
            runs[name] += some
        kept = sides.prepared["kept"]
        results = {name: summary(some, some[0].get("jets", kept)) for name, some in runs.items()}
        mine, tuned = results["ours"], results["weaver"] | {"setting": str(setting)}
        mine |= {"slots_per_jet": runs["ours"][0]["slots_per_jet"], "cache": "none", "readers": 0}
        more = {"raw": part(ratio_of_rates(mine, results["raw"]), "ours over uproot alone", mine, results["raw"])}
        more |= against_default(sides, mine, quick)
        if not quick:
            more |= against_memory(sides, mine)
            more |= against_older(sides, mine, setting)
        work = {
            "file": file.stem,
            "megabytes": round(file.stat().st_size / 1e6, 1),
            "jets": kept,
            "branches": len(branches_of(sides.prepared)),
            "features": sum(len(group["features"]) for group in sides.prepared["groups"].values()),
            "batch": BATCH,
            "largest_difference": float(f"{difference:.2g}"),
        }
        words = "rate of shuffled padded batches over that of weaver-core's tuned DataLoader"
        versions = runs["weaver"][0]["versions"]
        return Outcome("loader", ratio_of_rates(mine, tuned), words, mine, tuned, work, more, versions)


def against_default(sides: Sides, mine: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Return the ratio against weaver's default."""
    say(f"weaver's default ({DEFAULT})")
    side = sides.weaver("default", DEFAULT)
    if quick:  # a part of the larger file: of the smaller one the default reads 300 jets at a time
        side = sides.weaver("default", replace(DEFAULT, share=0.05), file=str(path_of("jets_200k")))
    runs = [run_side(side) for _ in range(1 if quick else 2)]
    theirs = summary(runs, runs[0]["jets"]) | {"setting": str(DEFAULT)}
    return {"default": part(ratio_of_rates(mine, theirs), "ours over weaver's default", mine, theirs)}


def against_older(sides: Sides, mine: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Return the ratios against the last version of weaver whose loader has no compiled kernels."""
    python, entries = python_of(OLDER), {}
    for name, chosen in (("tuned", setting), ("default", DEFAULT)):
        say(f"{OLDER} ({chosen})")
        runs = [run_side(replace(sides.weaver(name, chosen), python=python))]
        theirs = summary(runs, runs[0]["jets"]) | {"setting": str(chosen), "versions": runs[0]["versions"]}
        words = f"ours over weaver-core {runs[0]['versions']['weaver-core']}, {name}"
        entries[f"older_{name}"] = part(ratio_of_rates(mine, theirs), words, mine, theirs)
    return entries


def against_memory(sides: Sides, mine: dict[str, Any]) -> dict[str, Any]:
    """Return the ratios where all jets are in memory: the first epoch, which reads them, and a later one."""
    say("all jets in memory")
    kept = sides.ours("ours, kept", epochs=2, set=["resources.cache=ram"])
    theirs_kept = sides.weaver("weaver, kept", replace(IN_MEMORY, kept=True))
    runs = interleaved([sides.weaver("memory", IN_MEMORY), kept, theirs_kept], 2)
    theirs = summary(runs["memory"], runs["memory"][0]["jets"]) | {"setting": str(IN_MEMORY)}
    later = summary([run["later"] for run in runs["ours, kept"]], runs["ours, kept"][0]["later"]["jets"])
    theirs_later = summary(runs["weaver, kept"], runs["weaver, kept"][0]["jets"])
    words = "ours over weaver that reads all jets at once, first epoch"
    later_words = "ours over weaver, later epoch of jets that stay in memory"
    return {
        "all_at_once": part(ratio_of_rates(mine, theirs), words, mine, theirs),
        "later_epoch": part(ratio_of_rates(later, theirs_later), later_words, later, theirs_later),
    }


if __name__ == "__main__":
    sys.exit(command("loader", __doc__, measure))
