"""Parts of a file, done one after the other."""

from __future__ import annotations

from pfnano_tag.analyze.joining import run_part
from pfnano_tag.analyze.parts import Part


def do(card, dataset, path, numbers, of=3, **options):
    for number in numbers:
        run_part(card, dataset, str(path), Part(number, of), **options)
