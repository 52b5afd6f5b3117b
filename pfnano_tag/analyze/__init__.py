"""The data/MC job: one PFNano file to histograms, in one pass, for all regions, networks, attacks and stored taggers.

Reads: the study card, one PFNano file of one of its datasets, checkpoints (`models/NAME/`).
Writes: one ROOT file of histograms (`analysis/DATASET/FILE.root`, see `result`) and a ledger beside it
(`FILE.root.ledger/`, see `ledger`) that knows which chunks are done; where the card asks for them (section `arrays`),
rows of jets (`FILE.root.jets.parquet` or `.root`, see `arrays`).
Guarantees: the file is opened once and each basket decompressed once; a chunk is the unit of loss; a rerun continues
where the last run ended and gives the same result to the last bit; a changed card, model or file is redone, never
served stale; what a result is short of stands in it.
See also: `infer` (scores as a friend tree), `compare` (all results of a study together).
"""
