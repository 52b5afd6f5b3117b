"""Jet flavour tagging on PFNano: from training to data/simulation agreement, in one format."""

__version__ = "0.1.0"
