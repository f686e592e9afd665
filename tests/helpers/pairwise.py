"""Choose test cases that cover every pair of parameter values instead of the full product."""

import heapq
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations_with_replacement

Case = Mapping[str, Hashable]
"""The value of each parameter."""


def covering(cases: Sequence[Case]) -> set[int]:
    """Return the places of cases that together cover each value and each pair of values that any case has.

    Greedy, and the same for the same cases: each step takes the case with the most pairs that are not yet covered.
    """
    pairs = [set(combinations_with_replacement(sorted(case.items()), 2)) for case in cases]
    missing = set[object]().union(*pairs)
    # A case never gains pairs, so the first one whose count is still right is the best one.
    queue = [(-len(found), place) for place, found in enumerate(pairs)]
    heapq.heapify(queue)
    chosen: set[int] = set()
    while missing:
        count, place = heapq.heappop(queue)
        gain = pairs[place] & missing
        if len(gain) == -count:
            missing -= gain
            chosen.add(place)
        elif gain:
            heapq.heappush(queue, (-len(gain), place))
    return chosen
