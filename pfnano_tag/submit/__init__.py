"""Batch jobs: the data/MC job of every file of a study, on HTCondor, SLURM or this machine.

Reads: the study card, the datasets with role `analyze`, `prepared.json` and the best checkpoint of every model.
Writes: a job folder, by default `jobs/analyze-0001` (and on) in the study's folder: `card.yaml`, `items.txt`,
`study/`, `settings.sh`, `worker.sh`, `logs/`, and what the backend needs. The jobs leave
`analysis/<dataset>/<file>.root`.
Guarantees: a job needs nothing of the study but its job folder, which is complete or not there at all; what is
changed in the study later changes no job. File names may hold spaces and quotes. All backends run the same worker
script.
"""
