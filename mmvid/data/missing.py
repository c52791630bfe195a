"""Clips that lack modalities on purpose, to see what a method makes of them."""

import hashlib
from collections.abc import Mapping, Sequence

from mmvid.data.fields import FIELDS, hidden, present
from mmvid.data.records import Source


def _draw(seed: int, field: str, clip: str) -> float:
    """A number in [0, 1) that depends on its arguments alone, on every machine."""
    digest = hashlib.sha256(f"{seed}/{field}/{clip}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


class Hidden:
    """A Source whose clips lack what ``shares`` {field: share of the clips} says; the fields are the rows of
    `fields.FIELDS`.

    ``seed``, the field and the clip's id decide which clips lack it. ``fields`` names those that a run reads
    (all, by default), and every clip keeps one of them: where all are drawn, the one whose draw came closest
    to sparing it. Raises ValueError for an unknown field and for a share outside [0, 1].
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
        record = self.source[row]
        return hidden(record, self._hidden(record))

    def _hidden(self, record: dict) -> list[str]:
        draws = {f: _draw(self.seed, f, record["id"]) for f in self.shares}
        drawn = [f for f, share in self.shares.items() if draws[f] < share and present(record, f)]
        if any(present(record, f) for f in self.fields if f not in drawn):
            return drawn
        counted = [f for f in drawn if f in self.fields]
        spared = max(counted, key=lambda f: draws[f] / self.shares[f], default=None)
        return [f for f in drawn if f != spared]

    @property
    def split(self) -> str:
        """The split's name."""
        return self.source.split

    @property
    def info(self):
        """The dataset's Info, which counts what is hidden too."""
        return self.source.info

    def ids(self) -> list[str]:
        """The id of every row."""
        return self.source.ids()
