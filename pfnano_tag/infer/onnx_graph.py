"""A network as an ONNX graph, made of its checkpoint by torch's exporter, and kept beside it.

The graph takes batches of any number of jets and constituents, and gives what `prediction` gives: probabilities, and
the numbers of regressions. A file `epoch_0001.KEY.SUM.onnx` is named by what the graph depends on and by its own
SHA-256: another network, another version of torch or of this module is another name, and a damaged file is none.

Shape suffixes: B jets of a batch, N constituents of one group (padded), F features, K classes.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from pfnano_tag import __version__
from pfnano_tag.card.hashing import content_hash
from pfnano_tag.card.output import write_whole
from pfnano_tag.errors import CheckpointError, MissingExtra, OutputError
from pfnano_tag.infer.bookkeeping import Tagger
from pfnano_tag.infer.regressions import numbers_of, regression_columns
from pfnano_tag.models.batch import Batch, GroupBatch, call_all, evaluating

log = logging.getLogger(__name__)

VERSION = 1
"""Of the graph: inputs, outputs, and how it is made. Another number makes every kept graph anew."""
PROBABILITIES, NUMBERS = "probabilities", "numbers"
_NOISY = ("torch.onnx", "onnxscript", "onnx_ir", "torch.fx", "torch.export", "torch._dynamo")
_DIGITS = 16


def arguments_of(batch: Batch, vectors: bool) -> dict[str, Tensor]:
    """Return a batch as the graph takes it: `jet`, and `x_GROUP`, `mask_GROUP`, `vectors_GROUP` of each group.

    Parameters
    ----------
    batch : Batch
        Jets.
    vectors : bool
        Whether the network needs four-vectors.
    """
    groups = {name: _not_empty(group) for name, group in batch.groups.items()}
    found = {"jet": batch.jet_BF}
    found |= {f"x_{name}": group.x_BNF for name, group in groups.items()}
    found |= {f"mask_{name}": group.mask_BN for name, group in groups.items()}
    if vectors:
        found |= {f"vectors_{name}": g.vectors_BN4 for name, g in groups.items() if g.vectors_BN4 is not None}
    return found


def _not_empty(group: GroupBatch) -> GroupBatch:
    """Return a group with at least one place for a constituent: kernels of ONNX Runtime fail on empty tensors."""
    if group.mask_BN.shape[1]:
        return group
    jets, features = group.x_BNF.shape[::2]
    x, mask = group.x_BNF.new_zeros(jets, 1, features), group.mask_BN.new_zeros(jets, 1)
    vectors = None if group.vectors_BN4 is None else group.vectors_BN4.new_zeros(jets, 1, 4)
    return GroupBatch(x, mask, group.default_BNF.new_ones(jets, 1, features), vectors)


def probe(tagger: Tagger, jets: int, width: int, seed: int) -> Batch:
    """Return jets of random inputs, among them one without constituents: to trace a network with, and to compare.

    Parameters
    ----------
    tagger : Tagger
        Network.
    jets : int
        How many, at least two.
    width : int
        Most constituents of the first group; each further group has one more.
    seed : int
        Of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    features = {name: len(members) for name, members in tagger.inputs.groups.items()}
    groups = {}
    for more, name in enumerate(group for group in features if group != "jet"):
        longest = width + more
        counts_B = torch.randint(0, longest + 1, (jets,), generator=random)
        counts_B[0], counts_B[1] = longest, 0
        mask_BN = torch.arange(longest) < counts_B[:, None]
        x_BNF = torch.randn(jets, longest, features[name], generator=random) * mask_BN[:, :, None]
        momenta = 10 * torch.randn(jets, longest, 3, generator=random)
        energy = (momenta.square().sum(2, keepdim=True) + 0.02).sqrt()  # the mass of a pion
        vectors_BN4 = torch.cat([momenta, energy], dim=2) * mask_BN[:, :, None]
        default_BNF = ~mask_BN[:, :, None].expand_as(x_BNF)
        groups[name] = GroupBatch(x_BNF, mask_BN, default_BNF, vectors_BN4 if tagger.module.needs_vectors else None)
    jet_BF = torch.randn(jets, features.get("jet", 0), generator=random)
    return Batch(jet_BF, torch.zeros_like(jet_BF, dtype=torch.bool), groups)


class _Graph(nn.Module):
    """What is written down: named tensors in, probabilities and numbers of regressions out."""

    def __init__(self, module: nn.Module, groups: tuple[str, ...], names: tuple[str, ...]) -> None:
        super().__init__()
        self.module, self.groups, self.names = module, groups, names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        arguments = dict(zip(self.names, values, strict=True))
        groups = {
            name: GroupBatch(
                arguments[f"x_{name}"],
                arguments[f"mask_{name}"],
                arguments[f"mask_{name}"],
                arguments.get(f"vectors_{name}"),
            )
            for name in self.groups
        }
        batch = Batch(arguments["jet"], arguments["jet"], groups)
        outputs = call_all(self.module, batch, of_jets=True)
        numbers = numbers_of(self.module, outputs)
        probabilities_BK = outputs["flavour"].softmax(1)
        return (probabilities_BK,) if numbers is None else (probabilities_BK, numbers)


def exported(tagger: Tagger) -> bytes:
    """Return a network as an ONNX model.

    Parameters
    ----------
    tagger : Tagger
        On a CPU.

    Raises
    ------
    MissingExtra
        When the packages of the extra `onnx` are not installed, or torch is too old.
    CheckpointError
        When torch can't write the network down as ONNX.
    """
    _require("onnx", "onnxscript")
    if not hasattr(torch.compiler, "is_exporting"):
        raise MissingExtra(
            f"resources.backend=onnx needs torch 2.7 or later, found {torch.__version__}; install it, or set "
            "resources.backend=torch"
        )
    arguments = arguments_of(probe(tagger, 3, 2, seed=0), bool(tagger.module.needs_vectors))
    any_size = torch.export.Dim.DYNAMIC
    shapes = [{0: any_size} if name == "jet" else {0: any_size, 1: any_size} for name in arguments]
    outputs = [PROBABILITIES, *([NUMBERS] if regression_columns(tagger.module) else [])]
    groups = tuple(name for name in tagger.inputs.groups if name != "jet")
    graph = _Graph(tagger.module, groups, tuple(arguments))
    try:
        with evaluating(graph), _quiet():
            program = torch.onnx.export(
                graph,
                tuple(arguments.values()),
                dynamo=True,
                dynamic_shapes=(tuple(shapes),),
                input_names=list(arguments),
                output_names=outputs,
                verbose=False,
            )
    except MemoryError:
        raise
    except Exception as error:  # the exporter wraps whatever it meets
        words = " ".join(str(error.__cause__ or error).split())[:300]
        raise CheckpointError(
            f"model {tagger.name!r} ({tagger.architecture}) can't be written as ONNX: {words}; "
            "set resources.backend=torch"
        ) from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def graph_of(tagger: Tagger, checkpoint: Path) -> bytes:
    """Return a network as an ONNX model: the one that is kept beside its checkpoint, or a new one that then is.

    Parameters
    ----------
    tagger : Tagger
        From `load_checkpoint`.
    checkpoint : Path
        Its JSON file.

    Raises
    ------
    MissingExtra, CheckpointError
        As `exported`.
    """
    made_for = {"model": tagger.hash, "graph": VERSION, "code": __version__, "torch": torch.__version__}
    stem = f"{checkpoint.stem}.{content_hash(made_for)[:_DIGITS]}"
    kept = _kept(checkpoint.parent, stem)
    if kept is not None:
        return kept
    log.info("model %r: writing it as ONNX, once", tagger.name)
    content = exported(tagger)
    try:
        with write_whole(checkpoint.with_name(f"{stem}.{_digest(content)}.onnx")) as temporary:
            temporary.write_bytes(content)
    except OutputError as error:
        log.info("the ONNX graph of model %r is not kept: %s", tagger.name, error)
    return content


def _kept(folder: Path, stem: str) -> bytes | None:
    """Return a graph that was kept whole."""
    for path in sorted(folder.glob(f"{stem}.*.onnx")):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if path.name == f"{stem}.{_digest(content)}.onnx":
            return content
        log.warning("%s: damaged; it is made anew", path)
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _require(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra(
                f"resources.backend=onnx needs the package {package}; install it with: "
                "pip install 'pfnano_tag[onnx]', or set resources.backend=torch"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own insides from the user; errors are raised all the same."""
    before = {name: logging.getLogger(name).level for name in _NOISY}
    try:
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
