"""Edges between items → groups of near duplicates, and which member of each group to keep.

Items are whole numbers 0..n-1 in the order of their uris, so the smallest number is the smallest uri; at most 2³¹ of
them. Edges come in chunks. GROUPINGS names the kinds of groups; docs/groups.md says what each guarantees.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neardup.groups.bounded import clique_like, diameter, find_twins
from neardup.groups.components import Edges, components
from neardup.groups.keeping import Kept, choose_kept, distances_to_kept, keep_order, ranks
from neardup.groups.policy import DEFAULT_KEEP, Criterion, parse_keep

__all__ = [
    "DEFAULT_KEEP",
    "GROUPINGS",
    "Criterion",
    "Edges",
    "Kept",
    "choose_kept",
    "clique_like",
    "component",
    "components",
    "diameter",
    "distances_to_kept",
    "find_twins",
    "keep_order",
    "parse_keep",
    "ranks",
]

Integers = NDArray[np.int64]


def component(edges: Sequence[Edges], order: Integers, twins: Integers) -> Integers:  # noqa: ARG001
    """Components: a group is all that is connected by edges, directly or through others."""
    return components(len(order), edges)


# Edges, the items in the order of what to keep, and their twins → the smallest item of each item's group.
GROUPINGS: dict[str, Callable[[Sequence[Edges], Integers, Integers], Integers]] = {
    "component": component,
    "diameter": diameter,
    "clique-like": clique_like,
}
