"""What a worker script starts: `python -m pfnano_tag.submit.runner JOBFOLDER ITEMFOLDER`.

Runs the steps of an item in processes of their own, hands signals on to them, measures them, and writes the report.
A step that is killed, for its memory say, leaves a report that says so. Imports nothing heavy: it waits in the same
memory slot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pfnano_tag.analyze.parts import has_ended, output_of
from pfnano_tag.card.files import replicas_of
from pfnano_tag.card.jobs import REPORT, Report, next_attempt
from pfnano_tag.card.output import write_json
from pfnano_tag.card.usage import VARIABLE, usage_in
from pfnano_tag.errors import EXIT_BAD_INPUT, EXIT_COMPLETE, EXIT_INCOMPLETE, UserError
from pfnano_tag.submit.items import Item, Step
from pfnano_tag.submit.progress import counted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What batch systems send before they kill; a stage ends with 75 on SIGTERM."""
TIME = re.compile(r"^AllowedJobDuration = (\d+)$", re.M)
"""In what HTCondor tells a job of itself: after so many seconds it is put on hold, and its work is lost."""
WARNING = 120
"""Seconds before that time at which a stage is told to stop; SLURM says so itself."""
EXIT_BUG = 1
LAST_LINES = 400
"""Lines of the log in which the last error message is looked for."""


class Runner:
    """Runs an item once.

    Parameters
    ----------
    job : Path
        Job folder, or what was transferred of it.
    folder : Path
        The item's folder.
    """

    def __init__(self, job: Path, folder: Path) -> None:
        self.job, self.folder = job.absolute(), folder.absolute()
        self.about: dict[str, Any] = json.loads((job / "job.json").read_text(encoding="utf-8"))
        self.item = Item.from_json(json.loads((folder / "item.json").read_text(encoding="utf-8")))
        self.began = float(os.environ.get("PFNANO_TAG_BEGAN", time.time()))
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: signal.Signals | None = None
        self._log = self.folder / "log.txt"

    def run(self) -> int:
        """Run all steps, write the report, return the exit code."""
        attempt = next_attempt(self.folder)
        for number in (*SIGNALS, signal.SIGALRM):
            signal.signal(number, self._hand_on)
        allowed = _allowed()
        if allowed is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self.began + allowed - time.time(), 0.1))
        setup = time.time() - self.began
        code, error, cpu, memory = EXIT_COMPLETE, "", 0.0, 0.0
        self._prepare_study()
        for step in self.item.steps:
            if self._stopped is not None:
                code = worst(code, EXIT_INCOMPLETE)
                error = error or f"told to stop ({self._stopped.name}) before {self.item.name} was done"
                break
            mark = self._log.stat().st_size if self._log.exists() else 0
            done, seconds, megabytes = self._step(step)
            code, cpu, memory = worst(code, done), cpu + seconds, max(memory, megabytes)
            if done != EXIT_COMPLETE:
                error = self._last_error(mark, done)
        results, sizes = self._results(code)
        missing = [name for name in self.item.outputs if not (self.folder / name).exists()]
        if code == EXIT_COMPLETE and missing:
            code, error = EXIT_BUG, f"said to be complete, but left no {missing[0]}"
        events, chunks = counted(self.folder, self.item)
        numbers = {"cpu": round(cpu, 3), "memory": round(memory, 1), "setup": round(setup, 3)}
        report = Report(
            attempt, code, error, socket.gethostname(), self.began, time.time(), **numbers,
            results=results, sizes=sizes, events=events, chunks=chunks,
        )  # fmt: skip
        write_json(self.folder / REPORT, report.to_json())
        return code

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """Note a signal and hand it on as SIGTERM, once: SLURM sends what it sends to every process by itself."""
        first, self._stopped = self._stopped is None, signal.Signals(number)
        if first and self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def _prepare_study(self) -> None:
        """Give a stage that writes into its study's folder what it reads there, unless an attempt before has."""
        if self.about["own_study"]:
            for source in (self.job / "study").iterdir():
                if not (self.folder / source.name).exists():
                    shutil.copy(source, self.folder / source.name)

    def _step(self, step: Step) -> tuple[int, float, float]:
        """Run a step; return its exit code, CPU time [s] and largest memory [MB]."""
        staged = self.folder / "staged"
        try:
            file = None if step.file is None else self._staged(step.file, staged)
            _say(f"== {self.about['stage']} {self.item.name}")
            return self._measured(self._command(step, file))
        except UserError as error:
            _say(f"error: {error}")
            return EXIT_INCOMPLETE, 0.0, 0.0
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _measured(self, command: Sequence[str]) -> tuple[int, float, float]:
        """Run a command; of what srun starts, each process says itself what it took."""
        place = self.folder / "usage"
        shutil.rmtree(place, ignore_errors=True)
        environment = dict(os.environ)
        if command[0] == "srun":
            place.mkdir()
            environment[VARIABLE] = str(place)
        self._process = subprocess.Popen(command, cwd=self._directory(), env=environment)
        if self._stopped is not None:  # between the last look and this start
            self._process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        code = self._process.returncode
        if code == -signal.SIGTERM and self._stopped is not None:  # told to stop while it began, or while it ended
            code = EXIT_INCOMPLETE
        cpu, memory = usage_in(place)
        shutil.rmtree(place, ignore_errors=True)
        own = usage.ru_utime + usage.ru_stime
        return (code if code >= 0 else 128 - code), own + cpu, max(usage.ru_maxrss / 1000, memory)

    def _command(self, step: Step, file: str | None) -> list[str]:
        about = self.about
        folder = self.folder if about["own_study"] else self.job / "study"
        command = [
            *self._launch(),
            f"pfnano_tag.{about['stage']}",
            str(self.job / "card.yaml"),
            *("--set", f"study.folder={quoted(str(folder))}"),
            *("--set", f"study.origin={quoted(self._origin())}"),
            *("--set", f"resources.threads={about['slot']['cpus']}"),
            *step.arguments,
        ]
        if file is not None:
            command.append(f"--file={file}")
        if step.output is not None:
            command.append(f"--output={self.folder / step.output}")
        if step.part is not None:
            command.append(f"--part={step.part}")
        return command

    def _launch(self) -> list[str]:
        """Return what starts a stage: Python, once or several times."""
        processes = self.about["slot"]["processes"]
        if processes == 1:
            return [sys.executable, "-m"]
        if self.about["backend"] == "slurm":
            cpus = f"--cpus-per-task={self.about['slot']['cpus']}"
            return ["srun", "--kill-on-bad-exit=1", cpus, sys.executable, "-m"]
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        return [sys.executable, "-m", *torchrun]

    def _directory(self) -> Path:
        """Return where a stage runs: relative names in the card mean what they meant when the jobs were made."""
        submitted = Path(self.about["directory"])
        if self.about["own_study"] and submitted.is_dir():
            return submitted
        inputs = self.job / "inputs"
        return inputs if inputs.is_dir() else self.folder

    def _origin(self) -> str:
        origin = Path(self.about["origin"])
        if self.about["own_study"] and Path(self.about["directory"]).is_dir():
            return str(origin)
        return str(Path(self.about["directory"]) / origin)

    def _staged(self, file: str, folder: Path) -> str:
        """Copy a file with an address to the job's scratch space, from the first of its places that gives it."""
        places = replicas_of(file)
        if not self.about["stage_in"] or "://" not in places[0]:
            return file
        folder.mkdir(exist_ok=True)
        target = folder / Path(places[0]).name
        for place in places:
            try:
                subprocess.run(["xrdcp", "--nopbar", "--force", place, str(target)], check=True)
                return str(target)
            except FileNotFoundError as error:
                raise UserError("submit.stage_in: no xrdcp on this machine, nor in the environment") from error
            except subprocess.CalledProcessError as error:
                _say(f"{place}: xrdcp ended with exit code {error.returncode}")
        raise UserError(f"{file}: could not be copied by xrdcp from any of {len(places)} places")

    def _results(self, code: int) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return what belongs into the study, and sizes of files; of what is incomplete no ledger or stopped part."""
        places = sorted({Path(name).parent for name in self.item.outputs})
        found = [entry for place in places for entry in _entries(self.folder / place)]
        if code != EXIT_COMPLETE:
            found = [entry for entry in found if not (entry.name.endswith(".ledger") or _is_stopped_part(entry))]
        files = [file for entry in found for file in (entry.rglob("*") if entry.is_dir() else [entry])]
        sizes = {str(file.relative_to(self.folder)): file.stat().st_size for file in sorted(files) if file.is_file()}
        return tuple(str(entry.relative_to(self.folder)) for entry in found), sizes

    def _last_error(self, mark: int, code: int) -> str:
        """Return what the last step said last of what is wrong; it wrote to the log behind a mark."""
        lines: list[str] = []
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(mark)
                lines = log.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
        said = [line for line in lines if line.startswith(("error: ", "incomplete: "))]
        if said:
            return said[-1]
        if code > 128:
            return f"killed by signal {code - 128}"
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")


def _allowed() -> float | None:
    """Return how long a job on HTCondor may be at work, from its start [s]."""
    try:
        found = TIME.search(Path(os.environ["_CONDOR_JOB_AD"]).read_text(encoding="utf-8", errors="replace"))
    except (KeyError, OSError):
        return None
    return None if found is None else max(int(found[1]) - WARNING, int(found[1]) / 2)


def _is_stopped_part(folder: Path) -> bool:
    """Return whether a folder has a part that is of no use in the study before a retry."""
    return output_of(folder) is not None and not has_ended(folder)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what a stage left in a folder; a training's folder as a whole."""
    if folder.parent.name == "models":
        yield from [folder] if folder.is_dir() else []
    elif folder.is_dir():
        yield from sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def worst(first: int, second: int) -> int:
    """Return the exit code of two steps together: what is bad wins over what is incomplete."""
    order = {EXIT_COMPLETE: 0, EXIT_INCOMPLETE: 1, EXIT_BAD_INPUT: 2}
    return max(first, second, key=lambda code: order.get(code, 3))


def quoted(text: str) -> str:
    """Return text as a YAML string."""
    return "'" + text.replace("'", "''") + "'"


def main(arguments: Sequence[str]) -> int:
    """Run an item; return its exit code."""
    job, folder = map(Path, arguments)
    return Runner(job, folder).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
