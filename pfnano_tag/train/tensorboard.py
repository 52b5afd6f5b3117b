"""The metrics of each epoch as curves of TensorBoard: event files in `models/NAME/tensorboard/`.

Tags are `KIND/METRIC` with the names of `metrics.jsonl` (`auc/auc_BvsL`), and `timing/...`; the step is the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pfnano_tag.errors import MissingExtra
from pfnano_tag.evaluate.metrics import Metrics, is_known, kind_of

EVENTS = "tensorboard/events.out.tfevents.*"
"""Event files inside a model's folder."""


def summary_writer() -> Any:
    """Return torch's class that writes event files.

    Raises
    ------
    MissingExtra
        When TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401 (torch's own message doesn't say what to install)
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra(
            "training.tensorboard needs the package tensorboard; install it with: pip install 'pfnano_tag[log]', "
            "or set training.tensorboard=false"
        ) from error
    return SummaryWriter


@contextmanager
def event_files(
    folder: Path, wanted: bool, history: Sequence[Metrics], timings: Sequence[Metrics]
) -> Iterator[Callable[[Metrics, Metrics], None]]:
    """Yield a function that writes an epoch's metrics and timing; it does nothing where no event files are wanted.

    A resumed training declares all later epochs in older files void (they are made again), so no epoch is shown
    twice. Where older epochs have no event files (the key was set late), they are written first.

    Parameters
    ----------
    folder : Path
        The model's folder.
    wanted : bool
        `training.tensorboard` of the card.
    history, timings : sequence of dict
        Metrics and timing of the epochs behind us.

    Raises
    ------
    MissingExtra
        When TensorBoard is not installed.
    """
    if not wanted:
        yield lambda metrics, timing: None
        return
    resumed = any(folder.glob(EVENTS))
    writer = summary_writer()(str(folder / "tensorboard"), purge_step=len(history) + 1 if resumed else None)
    by_epoch = {timing["epoch"]: timing for timing in timings}
    try:
        for metrics in () if resumed else history:
            _add(writer, metrics, by_epoch.get(metrics["epoch"], {}))
        yield lambda metrics, timing: _add(writer, metrics, timing)
    finally:
        writer.close()


def _add(writer: Any, metrics: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
    tags = {f"{kind_of(name)}/{name}": value for name, value in metrics.items() if kind_of(name)}
    tags |= {f"timing/{name}": value for name, value in timing.items() if name != "epoch"}
    for tag, value in tags.items():
        if is_known(value):
            writer.add_scalar(tag, value, metrics["epoch"])
    writer.flush()
