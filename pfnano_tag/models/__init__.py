"""Networks and losses.

Reads: nothing (plain `nn.Module` classes over tensors; a network's file imports only torch).
Writes: nothing.
Guarantees: a network's output does not depend on padding, nor, but for `mlp` and `deepjet`, on the order of
constituents; a jet without constituents has finite outputs and gradients.
"""
