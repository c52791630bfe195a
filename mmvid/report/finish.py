"""The end of a run: its table in the terminal, its results, its page."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files, logs
from mmvid.data import fields
from mmvid.report import page as page_lib
from mmvid.report import table
from mmvid.report.table import Column
from mmvid.scores import file
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


class Shown(NamedTuple):
    """A segment that becomes a column of the run's table: its title, its name, the splits that it was scored on,
    the output whose score speaks for it ('' for the run's), and its ``parts`` (see `Column`)."""

    title: str
    segment: str
    splits: tuple[str, ...]
    headline: str = ""
    parts: tuple[str, ...] = ()


def _parts(segments: Sequence, segment) -> tuple[str, ...]:
    """Returns the names of the segments that ``segment`` goes on from, the first one first, and its own last.

    Its predecessor is one of the segments listed before it that end at the step where it begins: the one that
    it names as its previous, or else the latest.
    """
    if not segment.first_step:
        return (segment.name,)
    earlier = segments[: segments.index(segment)]
    # Several segments may end at this step: the one that is named comes before the others.
    found = [s for s in earlier if s.stop == segment.first_step]
    named = getattr(segment.enter, "previous", None)
    found = [s for s in found if named is not None and s.name == named.name] or found
    return (*(_parts(segments, found[-1]) if found else ()), segment.name)


def shown(segments: Sequence) -> list[Shown]:
    """Returns the columns of a run's table, which are those of its segments that have a title."""
    return [Shown(s.title, s.name, s.evaluate, s.headline, _parts(segments, s)) for s in segments if s.title]


def _first_numbers(result: dict, headline: str) -> dict | None:
    """Of the headline's output the numbers of its first head; of the first output where there is no such one;
    None where no clip has a label."""
    outputs = [headline, *result]
    heads = next((result[output] for output in outputs if output in result), {})
    return next(iter(heads.values()), None)


def _last_line(config, result: dict, title: str, split: str, path: pathlib.Path, headline: str = "") -> str:
    """Writes the line that ends a run: the score with its interval, the report's path and the next command."""
    headline = headline or config.headline
    numbers = _first_numbers(result, headline)
    if numbers is None:
        score, numbers = "no clip has a label", {"n": 0}
    elif "map" in numbers and numbers["map"] is None:
        score = "mAP - (no class has a positive clip)"
    elif "map" in numbers:
        score = f"mAP {table.percent(numbers['map'])}"
    else:
        low, high = numbers["top1_interval"]
        score = f"top-1 {table.percent(numbers['top1'])} [{table.percent(low)}, {table.percent(high)}]"
    lost = numbers.get("not_finite", 0)
    spoilt = f", {lost} clips have scores that are not finite" if lost else ""
    return (
        f"{title}, {headline}, {split}: {score} (n={numbers['n']}{spoilt}); report: {path}; "
        f"next, {_following(config, path.parent)}"
    )


def _following(config, workdir: pathlib.Path) -> str:
    """Names the command that is most useful next."""
    # --seeds names each of its workdirs after the seed, which is how they are known here.
    if workdir.name == f"seed{config.seed}":
        return f"all seeds: python -m mmvid compare {workdir.parent}/seed*"
    # A dataset with a command is rendered here, so that real videos are the next step.
    if config.dataset.command:
        return "your own videos: python -m data_prep.build --folder YOUR_VIDEOS --out data/mine"
    return f"the spread over seeds: the same command with --seeds=0,1,2 --workdir={workdir}-seeds"


def numbers_of(scores: Scores, how: str) -> dict:
    """Returns what summary.json keeps of a split: the numbers of every output and, where there are several
    members, those of every subset of them."""
    found = numbers_lib.summary(scores, how)
    return found | ({"subsets": numbers_lib.subsets(scores, how)} if len(file.members(scores)) > 1 else {})


def finish(
    workdir: pathlib.Path, config, columns: Sequence[tuple], dataset, *, baseline: str = ""
) -> dict:
    """Ends a run: logs the tables, writes report.html and summary.json (every number of every column), logs
    what to do next. Returns the summary of the last column on its first split.

    ``columns`` are `Shown`, or tuples of its fields, in the order of the table; the headline of the last one is
    the run's. Raises FileNotFoundError where the scores file of any is not there.
    """
    planned = [Shown(*column) for column in columns]
    loaded = [
        Column(c.title, c.segment, {
            split: file.load(workdir / c.segment / "scores" / f"{split}.npz") for split in c.splits
        }, c.parts)
        for c in planned
    ]  # fmt: skip
    how, own, headline = config.evaluation.aggregate, loaded[-1], planned[-1].headline or config.headline

    def thumbnail(split: str, row: int) -> np.ndarray:
        return fields.thumbnails(dataset.split(split)[row], 6)

    for split in own.scores:
        logs.LOG.info("\n%s\n", table.table(loaded, split, baseline=baseline, how=how))
    for split in own.scores:
        if text := table.overview_text(loaded, split, headline, how):
            logs.LOG.info("%s\n", text)
    path = page_lib.write(
        workdir, loaded, config=config.to_json_best_effort(), baseline=baseline,
        headline=headline, how=how, thumbnails=thumbnail, published=config.published,
        published_neighbours=config.published_neighbours,
    )  # fmt: skip
    # summary.json comes last: `compare` takes a folder that has one for a run that has ended.
    numbers = {c.segment: {split: numbers_of(s, how) for split, s in c.scores.items()}
               for c in loaded}  # fmt: skip
    files.write_json(workdir / "summary.json", numbers)
    split = next(iter(own.scores))
    result = numbers[own.segment][split]
    logs.LOG.info(_last_line(config, result, own.title, split, path, headline))
    return result
