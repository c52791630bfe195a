"""Clips that lack modalities on purpose, to see what a method makes of them."""

import hashlib
from collections.abc import Mapping, Sequence

from mmvid.data.fields import KEPT_IN, present
from mmvid.data.records import Source


def _draw(seed: int, field: str, clip: str) -> float:
    """A number in [0, 1) that depends on its arguments alone, on every machine."""
    digest = hashlib.sha256(f"{seed}/{field}/{clip}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


class Hidden:
    """A Source whose clips lack ``shares`` {field: share of the clips} ('rgb', 'flow', 'depth', ...).

    Which ones follows from ``seed``, the field and the clip's id. A clip keeps at least one of its
    ``fields`` (name those that a run reads; all count otherwise): the one that missed being spared by
    least. Raises ValueError for an unknown field, or a share that is none.
    """

    def __init__(
        self,
        source: Source,
        shares: Mapping[str, float],
        seed: int,
        fields: Sequence[str] = tuple(KEPT_IN),
    ):
        if unknown := sorted({*shares, *fields} - set(KEPT_IN)):
            raise ValueError(f"shares and fields name {unknown[0]!r}; choose from {sorted(KEPT_IN)}")
        if wrong := [f"{f}={share}" for f, share in shares.items() if not 0 <= share <= 1]:
            raise ValueError(f"shares have {wrong[0]}: a share of the clips is a number in [0, 1]")
        self.source, self.shares, self.seed, self.fields = source, dict(shares), seed, tuple(fields)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> dict:
        record = self.source[row]
        names = [name for field in self._hidden(record) for name in KEPT_IN[field]]
        return record | {name: record[name][:0] for name in names}

    def _hidden(self, record: dict) -> list[str]:
        draws = {f: _draw(self.seed, f, record["id"]) for f in self.shares}
        hidden = [f for f, share in self.shares.items() if draws[f] < share and present(record, f)]
        if not any(present(record, f) for f in self.fields if f not in hidden):
            counted = [f for f in hidden if f in self.fields]
            spared = max(counted, key=lambda f: draws[f] / self.shares[f], default=None)
            hidden = [f for f in hidden if f != spared]
        return hidden

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
