"""Hides modalities of clips on purpose, to test how a method copes without them."""

import hashlib
from collections.abc import Mapping, Sequence

from mmvid.data.fields import FIELDS, hidden, present
from mmvid.data.records import Source


def _draw(seed: int, field: str, clip: str) -> float:
    """Returns a number in [0, 1) that depends on its arguments alone, on every machine."""
    # A digest rather than a generator: a clip's draw then depends neither on other clips nor on their order.
    digest = hashlib.sha256(f"{seed}/{field}/{clip}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


class Hidden:
    """Wraps a Source and hides fields of some of its clips: ``shares`` {field: share of the clips that lose it}.

    Fields are the rows of `fields.FIELDS`. ``seed``, the field and the clip's id decide which clips lose it.
    ``fields`` names those that a run reads (all, by default); every clip that has any of them keeps at least
    one. Where a draw would hide all, the field whose draw came closest to sparing it stays. Raises ValueError
    for an unknown field and for a share outside [0, 1].
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
        """Reads the record of a row, with the columns of hidden fields emptied."""
        record = self.source[row]
        return hidden(record, self._hidden(record))

    def _hidden(self, record: dict) -> list[str]:
        """Returns the fields to hide of a record."""
        draws = {f: _draw(self.seed, f, record["id"]) for f in self.shares}
        drawn = [f for f, share in self.shares.items() if draws[f] < share and present(record, f)]
        if any(present(record, f) for f in self.fields if f not in drawn):
            return drawn
        # Only a field that the run reads can save the clip: sparing another one would leave it as empty.
        # A draw relative to its share tells how close it came, whatever the fields' shares are.
        counted = [f for f in drawn if f in self.fields]
        spared = max(counted, key=lambda f: draws[f] / self.shares[f], default=None)
        return [f for f in drawn if f != spared]

    @property
    def split(self) -> str:
        """Returns the split's name."""
        return self.source.split

    @property
    def info(self):
        """Returns the dataset's Info, whose counts include what is hidden here."""
        return self.source.info

    def ids(self) -> list[str]:
        """Returns the id of every row."""
        return self.source.ids()
