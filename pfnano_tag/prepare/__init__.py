"""Preparation: one scan over the training files, from jets to the numbers that training needs.

The six steps of the framework paper (Listing 1), one file each: `cleaning`, `labeling`, `defaults`, `reweighting`,
`splitting`, `scaling`.

Reads: the study card and the PFNano files of its datasets with role `train`.
Writes: `prepared.json` (input specification with scaling, weight tables, counts, cutflow), one small partial result
per file under `prepared/scan/`, and pictures under `prepared/`.
Guarantees: nothing the size of the data is written; partial results merge to the same numbers in any partition
(counts exact, moments to 1e-12); the split depends on the event's identity alone; a lost chunk is counted and named.
"""
