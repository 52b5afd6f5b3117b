"""Units of production (sample, file index): what a file is made from, its seeds, and the hash of its settings."""

from __future__ import annotations

import ast
import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pfnano_tag.card.generate import CONTAINERS, LAYOUTS, layout_problem
from pfnano_tag.errors import UserError
from pfnano_tag.generate.processes import PROCESS_IDS, ProcessOptions
from pfnano_tag.generate.response import response_of
from pfnano_tag.generate.underlying_event import POOL_EVENTS

#: events made at a time, with a random generator each
CHUNK = 1000
MODES = ("mc", "data", "truth")


@dataclass(frozen=True)
class Unit:
    """One file to make.

    Parameters
    ----------
    process : str
        Hard process, a key of `PROCESS_IDS`.
    events : int
        Number of events.
    seed : int
        Master seed of the production.
    mode : str
        `mc`, `data`, or `truth`: the events of data, with the truth.
    sample : str
        Name of the sample; empty: the process.
    index : int
        Number of the file in the sample.
    options : ProcessOptions
        Choices about the hard process.
    underlying_event : str
        `overlay` or `pythia`.
    compression : str
        A key of `writing.COMPRESSIONS`.
    layout : str
        One of `card.generate.LAYOUTS`.
    container : str
        One of `card.generate.CONTAINERS`.
    candidates : str
        What PFCands holds: those in `jets`, or `all`.
    fat_jets : bool
        With AK8 jets.
    pool_events : int
        Size of the pool of minimum-bias events.
    """

    process: str
    events: int
    seed: int
    mode: str = "mc"
    sample: str = ""
    index: int = 0
    options: ProcessOptions = field(default_factory=ProcessOptions)
    underlying_event: str = "overlay"
    compression: str = "zstd"
    layout: str = "candidates"
    container: str = "ttree"
    candidates: str = "jets"
    fat_jets: bool = False
    pool_events: int = POOL_EVENTS

    def check(self) -> None:
        """Raise UserError on values that make no sense."""
        self.options.check(self.process)
        if self.mode not in MODES:
            raise UserError(f"mode is {self.mode!r}, expected mc, data or truth")
        if self.events < 1:
            raise UserError(f"events is {self.events}, expected at least 1")
        if self.underlying_event not in ("overlay", "pythia"):
            raise UserError(f"underlying_event is {self.underlying_event!r}, expected overlay or pythia")
        for key, value, allowed in (
            ("layout", self.layout, LAYOUTS),
            ("container", self.container, CONTAINERS),
            ("candidates", self.candidates, ("jets", "all")),
        ):
            if value not in allowed:
                raise UserError(f"{key} is {value!r}, expected {' or '.join(allowed)}")
        problem = layout_problem(self.layout, self.candidates, self.fat_jets)
        if problem:
            raise UserError(problem)

    @property
    def name(self) -> str:
        """Name of the sample; the process where none is given."""
        return self.sample or self.process

    @property
    def physics(self) -> str:
        """Mode whose tune, response, seeds and event numbers it has: `mc` or `data`."""
        return "data" if self.mode == "truth" else self.mode

    @property
    def stored(self) -> str:
        """Mode whose branches the file has: `mc` with the truth, `data` without."""
        return "mc" if self.mode == "truth" else self.mode

    @property
    def sample_number(self) -> int:
        """A number from the name, which sets the events of data samples apart."""
        return zlib.crc32(self.name.encode()) % 4096

    def entropy(self) -> list[int]:
        """Seed words: master, process, mode, index, sample."""
        mode = MODES.index(self.physics)
        return [self.seed, PROCESS_IDS[self.process], mode, self.index, zlib.crc32(self.name.encode())]

    def chunks(self) -> list[tuple[int, int]]:
        """(start, number of events) of each chunk."""
        return [(start, min(CHUNK, self.events - start)) for start in range(0, self.events, CHUNK)]

    def settings_hash(self) -> str:
        """Of everything the content depends on."""
        content = asdict(self) | {
            "sample": self.name,
            "response": asdict(response_of(self.physics)),
            "chunk": CHUNK,
            "versions": versions(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def code_hash() -> str:
    """sha256 over the generator's modules that decide the content of files, their words and layout apart."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in ("__init__.py", "__main__.py", "stage.py"):
            digest.update(ast.dump(_without_docstrings(path.read_text(encoding="utf-8"))).encode())
    return digest.hexdigest()


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def versions() -> dict[str, str]:
    """Versions of what decides the content: our code (as a hash) and the libraries."""
    names = ("pythia8mc", "fastjet", "numpy", "uproot")
    return {"code": code_hash()} | {name: version(name) for name in names}
