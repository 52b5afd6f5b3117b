"""PFNano to tensors: the schema, the reader, the JetTable.

Reads: PFNano ROOT files (TTree, candidate-collection layout; plain NanoAOD for what needs no candidates).
Writes: friend trees of scores.
Guarantees: a file is opened once, each branch of a chunk is read once; layout and kind are found by looking at the
branches; a missing branch is named with the nearest ones; a damaged chunk is named with its entries and lost alone.
"""
