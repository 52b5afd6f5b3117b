"""Section `resources`: what a process may use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pfnano_tag.card.base import Section


class Remote(Section):
    """How files on servers (`root://`) are read."""

    timeout: Annotated[float, Field(gt=0)] = 15.0
    """Time for an answer to a request, of at most 8 MB [s]; redirectors far away may need 60."""

    attempts: Annotated[int, Field(ge=1)] = 4
    """How often the same bytes are asked of a server before the next replica is tried, or the chunk is lost."""

    wait: Annotated[float, Field(ge=0)] = 2.0
    """Wait before the second attempt [s]; doubled with each further one."""


class Resources(Section):
    """Limits of one process."""

    memory: Annotated[float, Field(gt=0)] = 1.5
    """Memory [GB]."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of torch."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are trained and applied; auto: on a GPU where torch finds one."""

    backend: Literal["torch", "onnx"] = "torch"
    """What applies networks in `infer` and `analyze`: torch, or ONNX Runtime on CPUs (extra `onnx`), which gives the
    same scores to 1e-5 and knows no attacks. Training, evaluation and attacks always take torch."""

    decompression: Annotated[int, Field(ge=1)] = 1
    """Threads that decompress files; 1 on batch slots."""

    remote: Remote = Remote()
    """Files on servers."""

    readers: Annotated[int, Field(ge=0)] = 0
    """Processes that read jets for a training; 0: the training reads by itself."""

    cache: Literal["auto", "none", "ram", "scratch"] = "auto"
    """What a training keeps of the jets it has read: none (each epoch reads the files again; validation jets are kept
    if they fit); all in memory (ram); all in a file of the job's scratch folder, HTCondor's or TMPDIR (scratch);
    auto: in memory if they fit, else none."""

    chunk: Annotated[float, Field(gt=0)] = 64.0
    """Size of a chunk: uncompressed branches [MB]."""

    batch_size: Annotated[int, Field(ge=1)] = 512
    """Jets per batch when a network is applied."""

    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Wall time of `analyze` [minutes]: no chunk is begun that would end later, judged by the longest one so far;
    exit code 75, a rerun continues. null: no limit but the batch system's."""

    @property
    def chunk_bytes(self) -> float:
        """Size of a chunk: uncompressed branches [bytes]."""
        return self.chunk * 1e6
