"""Reweighting: one weight per class, pT bin and eta bin that makes the classes alike in kinematics and in number.

With n_f(bin) training jets of class f, N_f their sum, N all jets and K classes, f_f = n_f / N_f is the class's shape
and T the target shape: the average of the shapes (default), constant in every bin that any class fills, or the shape
of a reference class. Then (ATJT:preparations/reweighting.ipynb; AIS:june_21/preparations/prep_new.py)

    kinematics:  w_f(bin) = T / f_f                   every class keeps its yield
    balance:     w_f(bin) = N / (K N_f)               every class keeps its shape
    both:        w_f(bin) = T / f_f * N / (K N_f)     equal shapes and equal yields

A bin that a class does not fill has weight 0 (the published tables have infinity there). Large weights are capped
class by class, at a quantile of the weights of the class's own jets: with one quantile for all, a rare class would
lie above it as a whole and lose the balance it is weighted for. Empty and capped bins cost a class part of its
yield; it is given back by one factor per class, so that yields are exact. Last, the mean over all training jets is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfnano_tag.card.reweighting import Reweighting
from pfnano_tag.errors import DataError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class WeightTables:
    """Weights in bins of pT and eta. Shapes: K classes, P pT bins, E eta bins.

    Parameters
    ----------
    pt_edges : tuple of float
        P + 1 edges [GeV].
    eta_edges : tuple of float
        E + 1 edges.
    weights : ndarray of float64 [K, P, E]
        0 where the class has no training jet.
    counts : ndarray of int64 [K, P, E]
        Training jets.
    """

    pt_edges: tuple[float, ...]
    eta_edges: tuple[float, ...]
    weights: Floats
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """Return the tables as JSON content; floats keep all digits."""
        return {
            "pt_edges": list(self.pt_edges),
            "eta_edges": list(self.eta_edges),
            "weights": self.weights.tolist(),
            "counts": self.counts.tolist(),
        }

    @staticmethod
    def from_json(content: dict[str, Any]) -> WeightTables:
        """Return tables from JSON content; `ValueError` when the shapes don't fit."""
        tables = WeightTables(
            tuple(content["pt_edges"]),
            tuple(content["eta_edges"]),
            np.array(content["weights"], dtype=np.float64),
            np.array(content["counts"], dtype=np.int64),
        )
        bins = (len(tables.pt_edges) - 1, len(tables.eta_edges) - 1)
        if tables.weights.shape != tables.counts.shape or tables.weights.shape[1:] != bins:
            raise ValueError(f"weight tables of shape {tables.weights.shape} don't fit {bins} bins")
        return tables


def bin_of(values: NDArray[np.floating[Any]], edges: Sequence[float]) -> NDArray[np.int64]:
    """Return the bin of each value, -1 outside (and for NaN); the last bin includes its upper edge.

    Parameters
    ----------
    values : ndarray of float [n]
        In the unit of the edges.
    edges : sequence of float
        Rising.
    """
    bounds = np.asarray(edges, dtype=np.float64)
    found = np.searchsorted(bounds, values, side="right") - 1
    found[values == bounds[-1]] = len(bounds) - 2
    return np.where((found >= 0) & (found < len(bounds) - 1), found, -1)


def count_jets(
    group: NDArray[np.integer[Any]],
    groups: int,
    pt: NDArray[np.floating[Any]],
    eta: NDArray[np.floating[Any]],
    settings: Reweighting,
) -> Counts:
    """Return the number of jets per group (flavour), pT bin and eta bin; jets outside all bins are left out.

    Parameters
    ----------
    group : ndarray of int [jets]
        0 to `groups` - 1.
    groups : int
        Number of groups.
    pt, eta : ndarray of float [jets]
        [GeV] and pseudorapidity.
    settings : Reweighting
        Section of the card, for the bin edges.

    Returns
    -------
    ndarray of int64 [groups, P, E]
    """
    shape = (groups, len(settings.pt_edges) - 1, len(settings.eta_edges) - 1)
    bins = (np.asarray(group, dtype=np.int64), bin_of(pt, settings.pt_edges), bin_of(eta, settings.eta_edges))
    inside = (bins[1] >= 0) & (bins[2] >= 0)
    cell = np.ravel_multi_index(tuple(index[inside] for index in bins), shape)
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)


def weight_tables(counts: Counts, classes: Sequence[str], settings: Reweighting) -> WeightTables:
    """Return the weights for counted training jets.

    Parameters
    ----------
    counts : ndarray of int64 [K, P, E]
        Training jets; every class has at least one.
    classes : sequence of str
        Names of the K classes, to find the reference.
    settings : Reweighting
        Section of the card. A reference class that is merged away in this study means b.

    Raises
    ------
    DataError
        When a class shares no bin with the target shape.
    """
    n = counts.astype(np.float64)
    total = n.sum(axis=(1, 2), keepdims=True)
    if settings.correct == "none":
        weights = (n > 0).astype(np.float64)
    else:
        weights = _shape_weights(n / total, classes, settings)
        weights = _capped(weights, counts, settings.cap_quantile)
        wanted = n.sum() / len(n) if settings.correct in ("balance", "both") else total
        reached = (weights * n).sum(axis=(1, 2), keepdims=True)
        _every_class_reached(reached.ravel(), classes, settings)
        weights = weights * (wanted / reached)
    mean = (weights * n).sum() / n.sum()
    return WeightTables(settings.pt_edges, settings.eta_edges, weights / mean, counts)


def _every_class_reached(yields: Floats, classes: Sequence[str], settings: Reweighting) -> None:
    without = [name for name, total in zip(classes, yields, strict=True) if total <= 0]
    if without:
        raise DataError(
            f"reweighting: class {', '.join(without)} has no training jet in the (pT, eta) bins that the target "
            f"{settings.target!r} fills: set reweighting.target=average, or use wider bins"
        )


def _shape_weights(shapes: Floats, classes: Sequence[str], settings: Reweighting) -> Floats:
    """Return the weights that bring each class to the target shape; 0 in bins that it does not fill."""
    if settings.correct == "balance":
        return (shapes > 0).astype(np.float64)
    if settings.target == "average":
        target = shapes.mean(axis=0)
    elif settings.target == "flat":
        filled = (shapes > 0).any(axis=0)
        target = filled / filled.sum()
    else:
        reference = settings.reference if settings.reference in classes else "b"
        target = shapes[list(classes).index(reference)]
    return np.divide(np.broadcast_to(target, shapes.shape), shapes, out=np.zeros_like(shapes), where=shapes > 0)


def _capped(weights: Floats, counts: Counts, quantile: float) -> Floats:
    """Cap each class's weights at a quantile of the weights of its jets (the smallest weight that reaches it)."""
    flat_weights, flat_counts = (table.reshape(len(table), -1) for table in (weights, counts))
    order = np.argsort(flat_weights, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(flat_counts, order, axis=1), axis=1)
    first = (reached >= quantile * reached[:, -1:]).argmax(axis=1)
    caps = np.take_along_axis(flat_weights, np.take_along_axis(order, first[:, None], axis=1), axis=1)
    return np.minimum(weights, caps[:, :, None])


def lookup(
    tables: WeightTables,
    label: NDArray[np.integer[Any]],
    pt: NDArray[np.floating[Any]],
    eta: NDArray[np.floating[Any]],
) -> Floats:
    """Return the weight of each jet; 0 outside the bins.

    Parameters
    ----------
    tables : WeightTables
        Of the study.
    label : ndarray of int [jets]
        Class, 0 to K - 1.
    pt, eta : ndarray of float [jets]
        [GeV] and pseudorapidity.
    """
    pt_bin, eta_bin = bin_of(pt, tables.pt_edges), bin_of(eta, tables.eta_edges)
    return np.where((pt_bin >= 0) & (eta_bin >= 0), tables.weights[label, pt_bin, eta_bin], 0.0)
