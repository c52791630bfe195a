"""The numbers that a report is about, once: every output's value in every column, how sure it is, and how far it
is from the baseline's. Sentence, figure and tables are all made from them."""

from collections.abc import Sequence
from typing import NamedTuple

from mmvid.scores import file, temperature
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


class Source(NamedTuple):
    """What a column began with: an earlier ``segment`` of the run, by its name, or '' for a file; the ``title``
    that readers know it by; and whether it ``teaches`` alone, frozen, and was not trained on."""

    title: str
    segment: str = ""
    teaches: bool = False


class Column(NamedTuple):
    """A column of the table: its title, the segment it is of, and that segment's scores by split. ``parts`` are
    the names of the segments that it went on from, the first one first, and its own last; () where it began
    by itself. ``numbers`` are those of each split (`numbers_of`), computed where they are not given. ``sources``
    are what its first part began with and what these began with, the nearest first. ``learnt`` names the
    clips that it has learnt from itself, as (dataset, split), or ('', words) where another run knows them; ()
    where nobody tells."""

    title: str
    segment: str
    scores: dict[str, Scores]
    parts: tuple[str, ...] = ()
    numbers: dict[str, dict] = {}  # noqa: RUF012
    sources: tuple[Source, ...] = ()
    temperatures: dict[str, dict] = {}  # noqa: RUF012
    learnt: tuple[tuple[str, str], ...] = ()


class Point(NamedTuple):
    """One number of one column: ``value`` is top-1 or mAP as a fraction, None where it is undefined, and
    ``interval`` (low, high) its 95 % interval. ``over`` is (mean, low, high) of the difference to the baseline,
    () in the baseline itself and where the two cannot be paired. ``more`` are the further numbers."""

    title: str
    value: float | None
    interval: tuple[float, ...]
    over: tuple[float, ...]
    more: dict


class Line(NamedTuple):
    """An output (or a sum, 'flow + rgb') and a head with a point for each column, None where a column lacks it.
    ``part`` tells that it is the sum of some members but not of all, ``joint`` that the head stands for all heads
    of single labels together ('noun and verb')."""

    output: str
    head: str
    points: tuple[Point | None, ...]
    part: bool = False
    joint: bool = False

    @property
    def multi(self) -> bool:
        """Whether its numbers are mAP, of labels of several classes."""
        return any(point and "map" in point.more for point in self.points)

    @property
    def sum(self) -> bool:
        """Whether it adds up several outputs."""
        return " + " in self.output


def numbers_of(scores: Scores, how: str, temperatures: dict | None = None) -> dict:
    """Returns what summary.json keeps of a split: the numbers of every output and, where there are several
    members, those of every subset of them. With ``temperatures`` that were fitted on another split, outputs
    also have their 'temperature' and the calibration error at it, 'ece_scaled'."""
    found = numbers_lib.summary(scores, how)
    for output, heads in temperature.scaled(scores, temperatures or {}, how).items() if found else ():
        for head, own in heads.items():
            found[output][head] |= own
    return found | ({"subsets": numbers_lib.subsets(scores, how)} if len(file.members(scores)) > 1 else {})


def counted(column: Column, how: str) -> Column:
    """Returns the column with the numbers of each of its splits."""

    def made(split: str) -> dict:
        temperatures = column.temperatures.get(split)
        return column.numbers.get(split) or numbers_of(column.scores[split], how, temperatures)

    return column._replace(numbers={split: made(split) for split in column.scores})


def whole_sum(scores: Scores) -> str:
    """Names the sum of all members ('flow + rgb'); '' where there is one alone."""
    members = file.members(scores)
    return " + ".join(members) if len(members) > 1 else ""


def _key(scores: Scores, output: str) -> str:
    """Names an output as `numbers_of` does: 'fused' is the sum of all members."""
    return "fused" if output == whole_sum(scores) else output


def _heads(numbers: dict, scores: Scores, output: str) -> dict:
    """Returns {head: numbers} of an output or a sum; {} where the column lacks it."""
    return numbers.get(_key(scores, output)) or numbers.get("subsets", {}).get(output, {})


def _point(column: Column, base: Scores | None, split: str, output: str, head: str, how: str) -> Point | None:
    """Makes the point of a column; None where it has no such number. Without a ``base`` nothing is paired."""
    scores = column.scores[split]
    found = _heads(column.numbers[split], scores, output).get(head)
    if found is None:
        return None
    value = found.get("top1", found.get("map"))
    interval = found.get("top1_interval")
    if interval is None:
        interval = () if value is None else numbers_lib.interval(scores, output, head, how)
    over = () if base is None else numbers_lib.difference(scores, base, output, head, how)
    return Point(column.title, value, tuple(interval), over, {**found, "covered": _covered(scores, output, head)})


def _covered(scores: Scores, output: str, head: str) -> float:
    """Returns the share of labelled clips that have an output, or any of a sum."""
    _, present = file.of_output(file.labelled(scores), output, file.heads_within(scores, head)[0])
    return float(present.mean())


def there(columns: Sequence[Column], split: str) -> list[Column]:
    """Lists the columns that have scores of a split."""
    return [column for column in columns if split in column.scores]


def _names(columns: Sequence[Column], split: str, headline: str) -> tuple[list[str], list[str], list[str]]:
    """Lists the outputs of all columns (the headline first), the sums of a part of their members (smallest
    first), and those of all members."""
    scores = [column.scores[split] for column in columns]
    single = list(dict.fromkeys(output for own in scores for output in own.logits))
    single.sort(key=lambda name: name != headline)
    # By its members, as columns may sum different ones: sums that differ do not share a line.
    whole = list(dict.fromkeys(name for own in scores if (name := whole_sum(own))))
    every = dict.fromkeys(name for column in columns for name in column.numbers[split].get("subsets", {}))
    part = [name for name in every if " + " in name and name not in whole]
    return single, sorted(part, key=lambda name: name.count(" + ")), whole


def lines(
    columns: Sequence[Column], split: str, *, headline: str = "", baseline: str = "", how: str = numbers_lib.HOW
) -> list[Line]:
    """Computes the lines of a split over the columns that have it (`there`): every output, the headline first,
    then the sums of members, smallest first. [] where no clip has a label.

    ``baseline`` names the segment that differences are to; '' leaves them out.
    """
    columns = [counted(column, how) for column in there(columns, split)]
    base = next((c.scores[split] for c in columns if c.segment == baseline), None)
    single, part, whole = _names(columns, split, headline)
    joint, found = {file.joint_head(column.scores[split]) for column in columns}, []
    for output in single + part + whole:
        heads = dict.fromkeys(h for c in columns for h in _heads(c.numbers[split], c.scores[split], output))
        for head in heads:
            points = tuple(
                _point(c, None if c.segment == baseline else base, split, output, head, how) for c in columns
            )
            found.append(Line(output, head, points, output in part, head in joint))
    return found


def every(columns: Sequence[Column], *, headline: str, baseline: str, how: str) -> dict[str, list[Line]]:
    """Computes the `lines` of every split of the last column, {split: lines}."""
    return {
        split: lines(columns, split, headline=headline, baseline=baseline, how=how) for split in columns[-1].scores
    }


def names(lines: Sequence[Line]) -> list[str]:
    """Names each line for readers: 'rgb', or 'rgb (verb)' where outputs have several heads."""
    several = len({line.head for line in lines}) > 1
    return [f"{line.output} ({line.head})" if several else line.output for line in lines]


def spoken(lines: Sequence[Line]) -> list[str]:
    """Names each line as `names` does, but the sum of four members or more by their number."""
    several = len({line.head for line in lines}) > 1
    found = names(lines)
    for i, line in enumerate(lines):
        if (members := line.output.count(" + ") + 1) > 3:
            found[i] = f"sum of all {members}" + (f" ({line.head})" if several else "")
    return found


def together(lines: Sequence[Line]) -> list[Line]:
    """Keeps the lines of all heads of single labels together ('noun and verb'); all lines, where there is none."""
    return [line for line in lines if line.joint] or list(lines)


def main_line(lines: Sequence[Line], headline: str) -> Line | None:
    """Finds the line that speaks for a run: that of the headline (or else of the first output) and of all heads
    of single labels together ('noun and verb'), or else of the first head; None where there is no line."""
    own = [line for line in lines if line.output == headline] or [
        line for line in lines if line.output == lines[0].output
    ]
    return next((line for line in own if line.joint), own[0] if own else None)


def sign(over: tuple[float, ...]) -> int:
    """Tells whether a difference is beyond noise: 1 or -1 where its interval lies on one side of 0, else 0."""
    _, low, high = over or (0.0, 0.0, 0.0)
    return int(low > 0) - int(high < 0)
