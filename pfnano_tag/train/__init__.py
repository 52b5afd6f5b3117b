"""Training of the card's networks.

Reads: the card, `prepared.json`, the PFNano files of the datasets with role `train`.
Writes: `models/NAME/`: a checkpoint per epoch (`epoch_0001.safetensors` and `.json`), `best.json` (the
best epoch by the metric `training.best`), `metrics.jsonl`, `timing.json`, `resume.pt` (to go on from), and
`tensorboard/` where the card wants it. `--select` ranks trained models and writes `models/selection.json`.
Guarantees: every training jet exactly once per epoch (or drawn as `training.resampling` says), for samples of any
size, within the memory that the card allows; the same seed and threads give the same weights, whatever reads the jets
and keeps them (`resources.readers`, `resources.cache`); a run that was stopped and resumed ends with the bits of one
that was not.
"""
