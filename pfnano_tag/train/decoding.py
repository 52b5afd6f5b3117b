"""Decoding: from chunks of prepared files to blocks of scaled jets. No torch here: reader processes import this."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.card import Card
from pfnano_tag.errors import DataError
from pfnano_tag.nano.targets import group_of
from pfnano_tag.prepare.prepared import Prepared
from pfnano_tag.prepare.sample import LabelledJets, PreparedFile
from pfnano_tag.prepare.scaled import scaled_jets, truncated
from pfnano_tag.train.blocks import Block, BlockBuilder
from pfnano_tag.train.weight_lookup import weight_column

FILES_AT_ONCE = 8
"""Files that are open at a time, and whose chunks an epoch mixes: opening a file of 1800 branches takes a second."""

KINEMATICS = ("Jet_pt", "Jet_eta")
"""Branches that the training weight is looked up with; they need not be inputs."""

ChunkOfFile = tuple[int, int]
"""Index in `Prepared.files`, and in that file's chunks."""


class Decoder:
    """Gives blocks of chunks, in any order; keeps the files used last open. A context manager.

    Parameters
    ----------
    card : Card
        The study's card.
    prepared : Prepared
        The prepared study.
    vectors : bool
        Whether blocks have the constituents' four-vectors.
    targets : sequence of str
        Truth targets that blocks have (`nano.targets`).
    """

    def __init__(self, card: Card, prepared: Prepared, vectors: bool, targets: Sequence[str] = ()) -> None:
        self.card, self.prepared, self.vectors, self.targets = card, prepared, vectors, tuple(targets)
        prepared.inputs.declare()  # a new process does not know a study's own features
        self._builder = BlockBuilder([name for name in prepared.inputs.groups if name != "jet"], self.targets)
        self._open: OrderedDict[int, PreparedFile] = OrderedDict()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def block(self, chunk: ChunkOfFile, splits: Sequence[str]) -> Block:
        """Return the jets of a chunk that belong to some splits; the block holds until the next one is asked for.

        Parameters
        ----------
        chunk : tuple of int
            File and chunk.
        splits : sequence of str
            Of `train`, `validation`.

        Raises
        ------
        UserError
            When the file can't be read or is another one, or lacks what the networks need.
        """
        file, index = chunk
        source = self._file(file)
        self._builder.discard()  # of a chunk that could not be read to its end
        for start, stop in source.parts(*source.record.chunks[index]):
            self._add(source.jets(start, stop, splits))
        block = self._builder.block()
        self._check_vectors(block, source.record.path)
        return block

    def _add(self, jets: LabelledJets) -> None:
        """Scale jets into the block in work."""
        scaled = scaled_jets(jets.table, self.prepared.inputs, self.vectors, self._builder.allocate)
        counts = {name: np.diff(group.offsets) for name, group in scaled.groups.items()}
        weight = weight_column(self.prepared.weights, jets.label, *(jets.stored[name] for name in KINEMATICS))
        self._builder.add(counts, jets.label, weight, jets.split, self._targets_of(jets))

    def _targets_of(self, jets: LabelledJets) -> dict[str, NDArray[Any]]:
        """Return the targets of the constituents that the inputs keep."""
        found = {}
        for name in self.targets:
            values, group = jets.table.targets[name], group_of(name)
            cap = self.prepared.inputs.caps.get(group)
            rows = None if cap is None else truncated(jets.table.groups[group], cap)[0]
            found[name] = values if rows is None else values[rows]
        return found

    def _check_vectors(self, block: Block, path: str) -> None:
        lacking = [name for name, there in block.has_vectors.items() if not there]
        if self.vectors and lacking:
            raise DataError(
                f"{path}: has no four-vectors of constituents ({', '.join(lacking)}), which a network with pairwise "
                "features needs: set models.NAME.arguments.pair=[], or name the branches in jets.tree.branches"
            )

    def _file(self, file: int) -> PreparedFile:
        if file not in self._open:
            while len(self._open) >= FILES_AT_ONCE:
                self._open.popitem(last=False)[1].close()
            record = self.prepared.files[file]
            self._open[file] = PreparedFile(self.card, self.prepared, record, stored=KINEMATICS, targets=self.targets)
        self._open.move_to_end(file)
        return self._open[file]
