"""Networks and losses.

Reads: nothing (plain `nn.Module` classes over tensors; a network's file imports only torch).
Writes: nothing.
Guarantees: a network's output depends neither on the order of constituents nor on padding; a jet without
constituents has finite outputs and gradients.
"""
