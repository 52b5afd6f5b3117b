"""PFNano to tensors: the schema, the reader, the JetTable.

Reads: ROOT files on this machine or on servers (`root://`), TTree or RNTuple, in every layout that `layouts` lists.
Writes: friend trees of scores.
Guarantees: a file is opened once, each branch of a chunk is read once, and those of constituents only where a jet is
chosen; layout, jet type and kind are found by looking at the branches; the same events give the same jets in any
chunks; a missing branch is named with the nearest ones; a damaged chunk is named with its entries and lost alone.
"""
