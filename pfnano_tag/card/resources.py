"""Section `resources`: what a process may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pfnano_tag.card.base import Section


class Resources(Section):
    """Limits of one process."""

    memory: Annotated[float, Field(gt=0)] = 1.5
    """Memory [GB]."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of torch and of decompression."""

    chunk: Annotated[float, Field(gt=0)] = 64.0
    """Size of a chunk: uncompressed branches [MB]."""

    batch_size: Annotated[int, Field(ge=1)] = 512
    """Jets per batch when a network is applied."""

    @property
    def chunk_bytes(self) -> float:
        """Size of a chunk: uncompressed branches [bytes]."""
        return self.chunk * 1e6
