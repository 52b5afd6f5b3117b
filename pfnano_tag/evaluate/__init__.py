"""Performance of the trained networks in simulation, on the test split alone.

Reads: the study card, `prepared.json`, checkpoints and `metrics.jsonl` of the models, and the PFNano files of the
datasets with role `train`, chunk by chunk.
Writes: `evaluation/results.json` (AUCs, working points, efficiencies, confusion, losses, inputs; differences of
models), `evaluation/properties.md`, and pictures in `evaluation/`.
Guarantees: only jets of the test split (by event identity) are looked at, each counts once; errors come from a
Poisson bootstrap over events, with the same replica weights for every model, so that differences have errors too;
nothing depends on the order of files or on the batch size, apart from the last digits of the scores.
"""
