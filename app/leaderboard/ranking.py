"""What is pure about boards: order, ranks, and what is not settled yet.

A board is *settled* up to some moment: its counts, and Redis, hold the scores of then. Rows that
changed since are known one by one, with the score that is settled and the present one, and correct
what was settled.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Entry = tuple[str, int]
"""Account and score."""


class Change(NamedTuple):
    """A row whose settled score is not the present one; None: not on the board."""

    account: str
    present: int | None
    settled: int | None


class Counts(NamedTuple):
    """How many settled scores there are, and how many from each bound on; bounds ascend."""

    bounds: list[int]
    above: list[int]
    members: int


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The greatest score first, and of equal ones the account whose bytes are greatest."""
    return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=True)


def corrected(settled: Iterable[Entry], changes: Sequence[Change]) -> list[Entry]:
    """Settled entries as they are at present, and all present ones that are not settled."""
    changed = {change.account for change in changes}
    entries = [entry for entry in settled if entry[0] not in changed]
    entries += [(one.account, one.present) for one in changes if one.present is not None]
    return in_order(entries)


def around(entries: Sequence[Entry], account: str, half: int) -> list[Entry]:
    """The account's own entry and up to `half` on either side; none if it has none."""
    places = [place for place, entry in enumerate(entries) if entry[0] == account]
    if not places:
        return []
    return list(entries[max(0, places[0] - half) : places[0] + half + 1])


def points(entries: Sequence[Entry], own: int | None) -> list[int]:
    """The scores above which one has to count to know all ranks: see `ranks`."""
    first = list(dict.fromkeys(score for _, score in entries))[:2]
    return sorted({*first, *([] if own is None else [own])}, reverse=True)


def correct_count(score: int, settled_above: int, changes: Iterable[Change]) -> int:
    """How many present scores are greater than `score`, from how many settled ones are."""
    for change in changes:
        settled_above += (change.present or 0) > score
        settled_above -= (change.settled or 0) > score
    return settled_above


def ranks(scores: Sequence[int], above: Mapping[int, int]) -> list[int]:
    """The rank of each of some neighbours: 1, 2, 2, 4.

    `above` says how many scores on the whole board are greater than the first two of these that
    differ. Of the first there may be more before these; of every later one all are here, so that
    the others follow.
    """
    found: list[int] = []
    first = 0
    for place, score in enumerate(scores):
        if place > 0 and score == scores[place - 1]:
            found.append(found[-1])
            continue
        found.append(above[score] + 1 if score in above else found[-1] + place - first)
        first = place
    return found


def settle(counts: Counts, changes: Iterable[Change]) -> Counts:
    """The counts after these changes are settled."""
    gained = [0] * (len(counts.bounds) + 1)
    members = counts.members
    for change in changes:
        for score, sign in ((change.settled, -1), (change.present, 1)):
            if score is not None:
                members += sign
                gained[bisect_right(counts.bounds, score)] += sign
    above, sum_above = list(counts.above), 0
    for place in reversed(range(len(above))):
        sum_above += gained[place + 1]
        above[place] += sum_above
    return Counts(counts.bounds, above, members)


def counts_of(bounds: list[int], in_bucket: Mapping[int, int]) -> Counts:
    """Counts from how many scores are below the first bound (0), then the second (1), and so on."""
    above, sum_above = [], 0
    for place in range(len(bounds), 0, -1):
        sum_above += in_bucket.get(place, 0)
        above.append(sum_above)
    return Counts(bounds, above[::-1], sum_above + in_bucket.get(0, 0))
