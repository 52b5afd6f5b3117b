"""Attacks on the inputs of networks, and how robust networks are against them.

Reads: the card, `prepared.json`, checkpoints, the PFNano files of the datasets with role `train` (test split).
Writes: `attacks/results.json` (AUC against strength per model and attack) and plots.
Guarantees: attacks act on scaled inputs; protected features, placeholders, padding and four-vectors keep their
bits; gradients are taken in evaluation mode and leave no trace in the network; random numbers belong to the jet,
not to its batch, so that results depend neither on batch sizes nor on the order of jets.
"""
