"""One table and one page over runs and their seeds, from the scores that they
have left; nothing is run again.

    python -m mmvid compare runs/mml runs/dmcl --out=runs/compared
    python -m mmvid compare runs/mml/seed0 runs/mml/seed1 runs/mml/seed2

Runs that share everything but the seed are one row: mean and standard
deviation, and the means of their curves. Differences are paired clip by clip,
with 95 % bootstrap intervals over clips; of a run of configs/gblend.py also to
its best modality alone and to its naive joint network. Runs on other data are
refused, unless they are versions of a dataset: with --across=dataset these are
one row, with their mean, as seeds are, and nothing is paired. Of scores by
'evaluate --protocol=T10' (--splits=val@T10-centre) also MML's table 10 is
printed, the medians over seeds. Writes compare.html and compare.json into
--out.
"""

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from mmvid import files, plans, usage
from mmvid.report import comparison, protocols
from mmvid.report.comparison import Row
from mmvid.run import build, resume
from mmvid.scores import combine, file
from mmvid.scores.file import Scores

CONFIG = False


class Ended(NamedTuple):
    """What an ended run has left in its ``folder``: its configuration, ``data`` {dataset: fingerprint}, and
    ``columns`` {segment: its scored splits} of its table."""

    folder: pathlib.Path
    config: dict
    data: dict
    columns: dict[str, list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which runs are compared, and what of them."""
    parser.add_argument("runs", type=usage.a_run, nargs="+", metavar="RUN", help="workdirs of ended runs")
    parser.add_argument(
        "--out",
        type=usage.on_disk,
        default=pathlib.Path(),
        metavar="DIR",
        help="where the page goes; by default the current folder",
    )
    parser.add_argument("--splits", metavar="A,B", help="splits, or test@D1U2-centre as `evaluate` scored it")
    parser.add_argument("--segments", metavar="A,B", help="some of the segments in the runs' tables")
    parser.add_argument("--over", metavar="ROW", help="the row, or its segment, that the others are compared with")
    parser.add_argument("--across", choices=["dataset"], help="means over versions of a dataset, unpaired")


# ---------------------------------------------------------------------------- what the runs have left
def _ended(folder: pathlib.Path) -> Ended:
    """Reads what a run has left. Raises WrongUse for a folder that is not a run's workdir, ValueError where the
    run has not ended."""
    # The summary is written last: a run that has one has all the rest.
    config, numbers = build.stored(folder), files.read_json(folder / "summary.json")
    if not (isinstance(config, dict) and {"seed", "headline"} <= set(config)):
        raise usage.WrongUse(
            f"{folder}/config.json is not of a run of mmvid: name the --workdir of a training run"
        )
    if not numbers:
        raise ValueError(f"{folder} has not ended: give the command that it was started with again, it goes on")
    columns = {segment: list(splits) for segment, splits in numbers.items()}
    return Ended(folder, config, files.read_json(folder / "data.json") or {}, columns)


def _apart_from_seed(run: Ended) -> tuple:
    """The entries that two runs must share to count as two seeds of one configuration."""
    # Where clips lie is free, what they are is not: their fingerprints are compared below.
    free = (*resume.FREE, "seed", "dataset.path", "stills.path")
    entries = resume.entries(run.config).items()
    kept = [(name, text) for name, text in entries if not any(f"{name}.".startswith(f"{f}.") for f in free)]
    return tuple(sorted(kept))


def _grouped(runs: Sequence[Ended], across: bool) -> list[list[Ended]]:
    """Groups runs that differ in their seed alone, ``across`` versions of a dataset in their data, too, in the
    order of each group's first. Raises WrongUse for two runs of one configuration on the same data with one seed:
    the mean would count them twice."""
    groups: dict[tuple, dict[tuple, Ended]] = {}
    for run in runs:
        data, seed = tuple(sorted(run.data.items())), run.config["seed"]
        group = groups.setdefault((_apart_from_seed(run), () if across else data), {})
        if twice := group.get((data, seed)):
            raise usage.WrongUse(
                f"{twice.folder} and {run.folder} are one configuration with one seed, {seed}: leave one out"
            )
        group[data, seed] = run
    return [list(group.values()) for group in groups.values()]


def _names(groups: Sequence[Sequence[Ended]]) -> list[str]:
    """A name for each group: its folder's name without the seed, or the whole path for all where two names
    would be equal."""
    found = []
    for group in groups:
        folder = group[0].folder.resolve()
        # --seeds makes WORKDIR/seed0, ...: the workdir has the name that tells runs apart.
        own = folder.parent.name if re.fullmatch(r"seed[-_]?\d+", folder.name) else folder.name
        found.append(re.sub(r"[-_]?seed[-_]?\d+$", "", own) or own)
    return found if len(set(found)) == len(found) else [str(group[0].folder) for group in groups]


def _scores(run: Ended, segment: str, split: str) -> Scores:
    return file.load(run.folder / segment / "scores" / f"{split}.npz")


def _check_alike(split: str, scores: Sequence[Scores]) -> None:
    """Raises ValueError where the seeds of one row were scored in different ways: a mean would be of neither."""
    ways = {tuple(str(s.meta.get(name, "")) for name in ("protocol", "crops")) for s in scores}
    if len(ways) > 1:
        raise ValueError(
            f"the seeds of one row were scored on {split!r} in different ways, {sorted(ways)}: score them alike "
            "with python -m mmvid evaluate"
        )


def _check_segments(groups: Sequence[Sequence[Ended]], segments: Sequence[str]) -> None:
    """Raises WrongUse for a segment that no run has in its table."""
    known = list(dict.fromkeys(segment for group in groups for segment in group[0].columns))
    if segments:
        usage.chosen("--segments", ",".join(segments), known, "segments of these runs")


def _check_splits(runs: Sequence[Ended], segments: Sequence[str], splits: Sequence[str]) -> None:
    """Raises WrongUse for a split on which a run has no scores of a segment that is compared."""
    for run in runs:
        for segment in run.columns:
            if not segments or segment in segments:
                known = sorted(path.stem for path in (run.folder / segment / "scores").glob("*.npz"))
                usage.chosen(
                    "--splits",
                    ",".join(splits),
                    known,
                    f"splits on which {run.folder}/{segment} is scored (python -m mmvid evaluate makes others)",
                )


def _rows(groups: Sequence[Sequence[Ended]], splits: Sequence[str], segments: Sequence[str]) -> list[Row]:
    rows = []
    for name, group in zip(_names(groups), groups):
        for segment in group[0].columns:
            if segments and segment not in segments:
                continue
            scores = {split: [_scores(run, segment, split) for run in group] for split in splits}
            for split, several in scores.items():
                _check_alike(split, several)
            own = scores[splits[0]][0].meta.get("title") or segment
            # Segments of one configuration have titles of their own; those of several are often the same.
            title = own if len(groups) == 1 else f"{name}: {own}"
            seeds = tuple(run.config["seed"] for run in group)
            runs = tuple(str(run.folder) for run in group)
            rows.append(Row(title, segment, seeds, runs, scores, group[0].config))
    return rows


# ---------------------------------------------------------------------------- what can be compared
def _paired(rows: Sequence[Row], across: bool) -> list[Row]:
    """The rows with their clips in one order, that of the first row, so that differences can be paired.

    With ``across`` the runs are of different data, and nothing is paired. Raises ValueError where the data differ
    that should not.
    """
    if across:
        return [*rows]
    found = [row._replace(scores={}) for row in rows]
    for split in rows[0].scores:
        every = {f"{run} {row.segment}": own for row in rows for run, own in zip(row.runs, row.scores[split])}
        try:
            alike = combine.aligned(every)
        except ValueError as error:
            raise ValueError(
                f"{error}. Differences need the same clips; for versions of a dataset --across=dataset gives means"
            ) from None
        for index, row in enumerate(rows):
            own = [alike[f"{run} {row.segment}"] for run in row.runs]
            found[index] = found[index]._replace(scores={**found[index].scores, split: own})
    return found


def _base(rows: Sequence[Row], over: str | None) -> Row:
    """The row that the others are compared with: the one named ``over``, else the first of a segment that
    plans compare with (`plans.BASELINES`), else the first. Raises WrongUse for a name that no row has."""
    named = [row for row in rows if over in (row.title, row.segment)]
    if over and not named:
        titles = ", ".join(row.title for row in rows)
        raise usage.WrongUse(f"--over={over}: there is no such row; the rows are {titles}")
    return (named or [row for row in rows if row.segment in plans.BASELINES] or rows)[0]


def compare(
    folders: Sequence[pathlib.Path],
    out: pathlib.Path,
    *,
    splits: Sequence[str] = (),
    segments: Sequence[str] = (),
    over: str | None = None,
    across: str | None = None,
) -> None:
    """Prints the table of every split and writes ``out``/compare.html and ``out``/compare.json.

    Raises WrongUse for a folder that is no run, a run that is named twice, and a split, a segment or a row that
    does not exist; ValueError for a run that has not ended and for runs on different data; FileNotFoundError for
    scores that are gone.
    """
    usage.check_folder("--out", out)
    if over and across:
        raise usage.WrongUse(
            f"--over={over} names what differences are taken to, and --across={across} takes none (there are no "
            "clips in common to pair): leave one of them out"
        )
    runs = [_ended(folder) for folder in folders]
    groups = _grouped(runs, across is not None)
    _check_segments(groups, segments)
    if splits:
        _check_splits(runs, segments, splits)
    # The last column of the first run is its own method: its splits are what that run reports.
    chosen = list(splits) or list(list(runs[0].columns.values())[-1])
    rows = _paired(_rows(groups, chosen, segments), across is not None)
    # Versions of a dataset need have no clips in common to pair: means, no differences.
    base = None if across or (len(rows) == 1 and not over) else _base(rows, over)
    headline, how = runs[0].config["headline"], runs[0].config["evaluation"]["aggregate"]
    tables = [comparison.compared(rows, split, headline, how, base) for split in chosen]
    for found, split in zip(tables, chosen):
        print("\n" + comparison.text(found))
        if eight := protocols.text([(row.title, row.scores[split]) for row in rows], split, how):
            print("\n" + eight)
    out.mkdir(parents=True, exist_ok=True)
    numbers = {split: comparison.plain(rows, split, headline, how, base) for split in chosen}
    files.write_json(out / "compare.json", numbers)
    page = comparison.write(out / "compare.html", tables, rows, headline, how, base=base, across=across or "")
    said = [f"{found['verdict']} ({found['split']})" for found in tables]
    print("\n" + "\n".join([*said, f"report: {page}"]))


def execute(arguments: argparse.Namespace) -> None:
    """Compares the runs of the command line."""
    for flag in ("splits", "segments"):
        if (text := getattr(arguments, flag)) is not None and not usage.listed(text):
            raise usage.WrongUse(f"--{flag}={text} names nothing: give names with commas between, or leave it out")
    splits, segments = usage.listed(arguments.splits), usage.listed(arguments.segments)
    compare(
        arguments.runs,
        arguments.out,
        splits=splits,
        segments=segments,
        over=arguments.over,
        across=arguments.across,
    )
