"""Applying trained networks to PFNano files.

Reads: a card, a PFNano file, checkpoints (`models/NAME/epoch_*.json` and `.safetensors`).
Writes: a friend tree of scores aligned with `Events`.
Guarantees: inputs, their order, placeholders and scaling come from the checkpoint alone; scores do not depend on
the batch size (to 1e-6); a damaged or foreign checkpoint is refused and no code in it is ever run.
"""
