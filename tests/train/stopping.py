"""Trainings that are asked to stop, as a signal would ask them."""

from pfnano_tag.train.interruption import Interruption


class StopAfter(Interruption):
    """Asks to stop after so many batches."""

    def __init__(self, batches):
        self.left = batches

    @property
    def asked(self):
        self.left -= 1
        return self.left < 0
