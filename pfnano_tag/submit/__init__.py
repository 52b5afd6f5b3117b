"""Batch jobs: a stage of a study, one job per file or network, on HTCondor, SLURM or this machine.

Reads: the study card, the datasets, `prepared.json` and checkpoints; reports of jobs, and what the batch system says.
Writes: a job folder, by default `jobs/STAGE-0001` (and on) in the study's folder: `card.yaml`, `items.jsonl`,
`study/`, `settings.sh`, `worker.sh`, `submissions/`, and a folder per item for its log, report and results, which are
collected into the study.
Guarantees: a job needs nothing of the study but its job folder, which is complete or not there at all; what is
changed in the study later changes no job. File names may hold spaces and quotes. All batch systems run the same
worker script. A result is collected whole, and only when its job says that it is; what is short is said.
"""
