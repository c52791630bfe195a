"""Hides modalities of clips on purpose, to test how a method copes without them."""

import hashlib
from collections.abc import Mapping, Sequence

from mmvid.data.fields import FIELDS, present, without
from mmvid.data.records import Source


def _draw(seed: int, field: str, clip: str) -> float:
    """Returns a number in [0, 1) that depends on its arguments alone, on every machine."""
    # A digest rather than a generator: a clip's draw then depends neither on other clips nor on their order.
    digest = hashlib.sha256(f"{seed}/{field}/{clip}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


class Incomplete:
    """A Source whose clips are those of another one, ``source``, of which some have lost fields.

    ``shares`` {field: share} says which share of the clips loses each field (a row of `fields.FIELDS`);
    ``seed``, the field and the clip's id decide which clips these are. A clip that has any of ``fields``, those
    that a run reads (all, by default), keeps at least one of them: where it would lose all, it keeps the one
    whose draw came closest to sparing it. Raises ValueError for an unknown field and for a share outside [0, 1].
    """

    def __init__(
        self,
        source: Source,
        shares: Mapping[str, float],
        seed: int,
        fields: Sequence[str] = tuple(FIELDS),
    ):
        if unknown := sorted({*shares, *fields} - set(FIELDS)):
            raise ValueError(f"shares and fields name {unknown[0]!r}; choose from {sorted(FIELDS)}")
        if wrong := [f"{f}={share}" for f, share in shares.items() if not 0 <= share <= 1]:
            raise ValueError(f"shares have {wrong[0]}: a share of the clips is a number in [0, 1]")
        self.source, self.shares, self.seed, self.fields = source, dict(shares), seed, tuple(fields)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> dict:
        """Reads the record of a row, with the columns of lost fields emptied."""
        record = self.source[row]
        return without(record, self._lost(record))

    def _lost(self, record: dict) -> list[str]:
        """Returns the fields that a record loses."""
        draws = {field: _draw(self.seed, field, record["id"]) for field in self.shares}
        lost = [f for f, share in self.shares.items() if draws[f] < share and present(record, f)]
        if any(present(record, f) for f in self.fields if f not in lost):
            return lost
        # Only a field that the run reads can save the clip: sparing another one would leave it as empty.
        # A draw relative to its share tells how close it came, whatever the fields' shares are.
        read = [f for f in lost if f in self.fields]
        spared = max(read, key=lambda f: draws[f] / self.shares[f], default=None)
        return [f for f in lost if f != spared]

    @property
    def split(self) -> str:
        """Returns the split's name."""
        return self.source.split

    @property
    def info(self):
        """Returns the dataset's Info, whose counts include what is lost here."""
        return self.source.info

    def ids(self) -> list[str]:
        """Returns the id of every row."""
        return self.source.ids()
