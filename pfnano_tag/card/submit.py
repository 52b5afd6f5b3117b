"""Section `submit`: what batch jobs ask for, what they carry, and what a site wants to hear."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from pfnano_tag.card.base import Section

JobStage = Literal["generate", "prepare", "train", "analyze"]
Backend = Literal["condor", "slurm", "local"]
STAGES: tuple[str, ...] = get_args(JobStage)
BACKENDS: tuple[str, ...] = get_args(Backend)

Megabytes = Annotated[int, Field(ge=100)]
Minutes = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]

OURS = {
    "request_memory": "submit.memory, submit.max_memory", "request_disk": "submit.disk",
    "request_cpus": "submit.stages.STAGE.cpus", "request_gpus": "submit.stages.STAGE.gpus",
    "max_retries": "submit.retries", "retry_until": "submit.retries", "allowed_job_duration": "submit.time",
    "periodic_release": "submit.retries, submit.max_memory",
    **dict.fromkeys(
        ("universe", "executable", "arguments", "initialdir", "transfer_executable", "should_transfer_files",
         "when_to_transfer_output", "transfer_input_files", "transfer_output_files", "log", "output", "error",
         "queue", "my.pfnanojob", "my.pfnanoitem", "+pfnanojob", "+pfnanoitem"),
        "",
    ),
}  # fmt: skip
"""Lines of HTCondor's submit file that `submit.condor` can't say; the keys that say them, if not the job folder."""


class Slot(Section):
    """What the jobs of one stage ask for, where that is not what `submit` says of all jobs."""

    memory: Megabytes | None = None
    """Memory of a job [MB]; null: `submit.memory`."""

    disk: Megabytes | None = None
    """Scratch space of a job, an unpacked environment included [MB]; null: `submit.disk`."""

    time: Minutes | None = None
    """Longest run time of a job [minutes]; null: `submit.time`."""

    cpus: Count | None = None
    """CPU cores of each process of a job, which are its threads too; null: `resources.threads`."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of each process of a job."""

    processes: Count = 1
    """Processes that train one network together (`train` alone): tasks of a SLURM job, on several machines if asked
    for; else processes of one machine."""


class Submit(Section):
    """What a batch job asks for; defaults fit opportunistic slots."""

    backend: Backend | None = None
    """Batch system; null: `submit --backend` says it."""

    memory: Megabytes = 2000
    """Memory of a job [MB]."""

    disk: Megabytes = 4000
    """Scratch space of a job, an unpacked environment included [MB]."""

    time: Minutes = 120
    """Longest run time of a job [minutes]."""

    stages: dict[JobStage, Slot] = Field(default_factory=dict)
    """By stage, what its jobs ask for in place of the above."""

    files: Count = 1
    """Files per job of `prepare` and `analyze`."""

    parts: Count = 1
    """Jobs of `analyze` that share a file, each with a part of its chunks; `compare` puts them together."""

    minutes: Annotated[float, Field(gt=0)] | None = None
    """Length of a job of `analyze` [minutes]: as many files per job, or jobs per file, as took that long in the
    study's last jobs; null: `files` and `parts` say it."""

    retries: Annotated[int, Field(ge=0)] = 2
    """How often the batch system runs a job again that crashed, was incomplete, or was held for its memory."""

    max_memory: Megabytes = 8000
    """What a job may ask for when it is run again for want of memory, twice as much each time [MB]."""

    environment: str | None = None
    """Environment of the jobs: an archive (`scripts/pack_env.sh`), its address (https://, root://), or a folder that
    the machines see (/cvmfs/...); null: the submitting Python, by path."""

    environment_cache: str | None = None
    """Folder of each machine where an archive is unpacked once for all jobs, say /tmp/pfnano_tag; null: in each job's
    own scratch space."""

    stage_in: bool = False
    """Whether `analyze` copies a file with an address (root://) to the job's scratch space first, by xrdcp."""

    before: str | None = None
    """Bash script that each job runs first, outside its environment, say in an experiment's own software; its
    arguments are the item's folder and its input files."""

    after: str | None = None
    """Bash script that each job runs last, outside its environment, with the same arguments."""

    proxy: str | None = None
    """Grid proxy (X.509 file) that jobs take along, say /tmp/x509up_u1000; `submit retry` brings them a new one."""

    token: str | None = None
    """Bearer token (WLCG) that jobs take along, as a file, say /tmp/bt_u1000; they find it by BEARER_TOKEN_FILE."""

    condor: dict[str, str] = Field(default_factory=dict)
    """Further lines of the HTCondor submit file, say `+JobFlavour: '"workday"'`."""

    slurm: dict[str, str] = Field(default_factory=dict)
    """Further options of sbatch, without dashes, say `partition: short`."""

    @field_validator("condor", "slurm")
    @classmethod
    def _one_line_each(cls, lines: dict[str, str]) -> dict[str, str]:
        for key, value in lines.items():
            if not key or any(sign in key + value for sign in "\n\r"):
                raise ValueError(f"{key!r}: a key and a value of one line each are needed")
        return lines

    @field_validator("condor")
    @classmethod
    def _not_ours(cls, lines: dict[str, str]) -> dict[str, str]:
        for key in lines:
            instead = OURS.get(key.lower().strip())
            if instead is not None:
                raise ValueError(
                    f"{key}: is said by {instead or 'the job folder'}, expected a line that jobs.sub has not"
                )
        return lines

    @field_validator("stages")
    @classmethod
    def _processes_train(cls, stages: dict[JobStage, Slot]) -> dict[JobStage, Slot]:
        for stage, slot in stages.items():
            if slot.processes > 1 and stage != "train":
                raise ValueError(f"{stage}.processes: only training knows several processes, expected 1")
        return stages

    @model_validator(mode="after")
    def _files_or_parts(self) -> Submit:
        if self.files > 1 and self.parts > 1:
            raise ValueError(
                f"parts: {self.parts} jobs per file, but files: {self.files} files per job; expected one of them"
            )
        return self

    @model_validator(mode="after")
    def _one_proxy(self) -> Submit:
        for key in self.condor:
            if self.proxy is not None and key.lower().strip() in ("x509userproxy", "use_x509userproxy"):
                raise ValueError(f"proxy: and condor.{key}: the job would have two proxies; leave one of them out")
        return self

    @model_validator(mode="after")
    def _memory_may_grow(self) -> Submit:
        for stage in STAGES:
            memory = self.slot(stage).memory
            if memory is not None and memory > self.max_memory:
                raise ValueError(f"max_memory: {self.max_memory} MB is less than the {memory} MB of stage {stage}")
        return self

    def slot(self, stage: str) -> Slot:
        """Return what the jobs of a stage ask for, with memory, disk and time filled in."""
        own = next((slot for name, slot in self.stages.items() if name == stage), Slot())
        filled = {key: getattr(own, key) or getattr(self, key) for key in ("memory", "disk", "time")}
        return own.model_copy(update=filled)
