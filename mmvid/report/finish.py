"""The end of a run: its table in the terminal, its results, its page."""

import logging
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid import files, logs
from mmvid.report import blending, draws, grids, points, table, verdict
from mmvid.report import page as page_lib
from mmvid.report.points import Column, Source
from mmvid.scores import blends, ensembles, file, imported, temperature
from mmvid.scores.file import Scores
from mmvid.weights import files as weight_files


class Shown(NamedTuple):
    """A segment that becomes a column of the run's table: its title, its name, the splits that it was scored on,
    the output whose score speaks for it ('' for the run's), its ``parts`` and its ``sources`` and what
    it has ``learnt`` from (see `Column`)."""

    title: str
    segment: str
    splits: tuple[str, ...]
    headline: str = ""
    parts: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    learnt: tuple[tuple[str, str], ...] = ()


def _learnt(segment) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((group.dataset, group.split) for group in segment.groups.values()))


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


def _starts(segment) -> list[tuple[str, str, bool]]:
    """Lists where the weights of a segment came from: (segment, '', whether it only teaches) or ('', file, ..)."""
    frozen = {network.name for network in segment.networks if network.frozen}
    # A segment of somebody's own plan may have no spec: then nobody has written down what it began with.
    starts = {name: s for name, s in segment.spec.get("starts", {}).items() if name != blends.WEIGHING}
    return [(s.get("segment", ""), s.get("file", ""), n.partition(".")[0] in frozen) for n, s in starts.items()]


def _sources(segments: Sequence, parts: Sequence[str]) -> tuple[Source, ...]:
    """Lists what the segments ``parts`` began with, and what that began with, the nearest first."""
    known, found = {segment.name: segment for segment in segments}, {}
    waiting = [(name, False) for name in parts]
    while waiting:
        name, taught = waiting.pop(0)
        for source, path, teaches in _starts(known[name]):
            own, teaches = (source, path), taught or teaches
            # What was trained on counts as such, though it may teach as well.
            if source in parts or (own in found and found[own] <= teaches):
                continue
            found[own] = teaches
            waiting += [(source, teaches)] * bool(source)
    return tuple(
        Source((known[name].title or name) if name else _short(path), name, teaches)
        for (name, path), teaches in found.items()
    )


def _short(source: str) -> str:
    """Names a file of weights: with its run and segment where it has the name that all runs give theirs."""
    path, _ = weight_files.split(source)
    return "/".join(path.parts[-3:]) if path.name == "weights.safetensors" else path.name


def shown(segments: Sequence) -> list[Shown]:
    """Returns the columns of a run's table, which are those of its segments that have a title."""
    parts = {s.name: _parts(segments, s) for s in segments if s.title}
    return [
        Shown(
            s.title, s.name, s.evaluate, s.headline, parts[s.name], _sources(segments, parts[s.name]), _learnt(s)
        )
        for s in segments
        if s.title
    ]


def _following(config, workdir: pathlib.Path) -> list[str]:
    """Lists the commands that are most useful next, each behind what it is for."""
    found = [f"what it says of a video: python -m mmvid predict {shlex.quote(str(workdir))} VIDEO"]
    # --seeds names each of its workdirs after the seed, which is how they are known here.
    if workdir.name == f"seed{config.seed}":
        return [*found, f"all seeds: python -m mmvid compare {workdir.parent}/seed*"]
    # A dataset with a command is rendered here, so that training on real videos is a next step.
    if config.dataset.command:
        found.append("your own videos: python -m data_prep.build --folder YOUR_VIDEOS --out data/mine")
    return found


def _temperatures(path: pathlib.Path, scores: Mapping[str, Scores], how: str) -> dict[str, dict]:
    """Returns {split: temperatures} that are fitted on the scores file at ``path``; {} where there is none, as in
    runs from before `temperature.FITTED` was always scored."""
    if not path.exists():
        return {}
    own = file.load(path)
    # On the clips that it was fitted on, a temperature would flatter: EPIC-Kitchens' 'unseen' lies in its 'val'.
    apart = [split for split, other in scores.items() if not set(other.id.tolist()) & set(own.id.tolist())]
    return dict.fromkeys(apart, temperature.fitted(own, how) if apart else {})


def _loaded(workdir: pathlib.Path, column: Shown, how: str) -> Column:
    """Reads the scores of a column and computes its numbers. Raises FileNotFoundError where a file is missing."""
    folder = workdir / column.segment / "scores"
    scores = {split: file.load(folder / f"{split}.npz") for split in column.splits}
    fitted = _temperatures(folder / f"{temperature.FITTED}.npz", scores, how)
    made = Column(column.title, column.segment, scores, column.parts, {}, column.sources, fitted, column.learnt)
    return points.counted(made, how)


def _verdicts(columns: Sequence[Column], found: Mapping[str, Sequence], **options) -> list[str]:
    """Says what the last column is worth: of a student of teachers the short lines of every split, of others the
    whole sentence of the first split. ``found`` are the `points.lines` of each."""
    said = {split: verdict.short(columns, split, found=lines, **options) for split, lines in found.items()}
    if not any(said.values()):
        first = next(iter(found))
        said = {first: [verdict.verdict(columns, first, found=found[first], **options)]}
    lines = []
    for split, (first, *rest) in ((split, own) for split, own in said.items() if own):
        clips = len(file.labelled(columns[-1].scores[split]).id)
        lines += [f"{first} ({split}, {clips} clips)", *(f"  {line}" for line in rest)]
    return lines


def last_lines(config, said: Sequence[str], path: pathlib.Path) -> str:
    """Writes the lines that end a run: what is ``said`` of it, the report's path and the next commands."""
    following = [f"next, {command}" for command in _following(config, path.parent)]
    return "\n".join([*said, f"report: {path}", *following])


def _metas(workdir: pathlib.Path, column: Shown, splits: Sequence[str]) -> list[dict]:
    """Says how a column was scored on splits, as far as it was."""
    paths = (workdir / column.segment / "scores" / f"{split}.npz" for split in splits)
    return [file.load(path).meta for path in paths if path.exists()]


def _with_teachers(workdir: pathlib.Path, planned: Sequence[Shown]) -> tuple[list[Shown], list[str]]:
    """Adds what students have learnt from: first of all the teachers of earlier runs, and before each student the
    ensembles of its teachers. Those of the last column, the run's own, have no prefix, and no other student of the
    same teachers shows them again. Returns a line for whatever cannot be shown, as well."""
    found: list[Shown] = []
    teachers: dict[str, dict] = {}
    missing: list[str] = []
    known: set[str] = set()
    for column in reversed(planned):
        prefix = "" if column is planned[-1] else f"{column.segment} "
        # A temperature is fitted for them as for any output.
        likes, also = _metas(workdir, column, column.splits), _metas(workdir, column, (temperature.FITTED,))
        made, unshown = ensembles.write(workdir, column.segment, likes, also, prefix=prefix, made=known)
        own = [Shown(title, folder, column.splits, ensembles.OUTPUT) for title, folder in made]
        found[:0] = [*own, column]
        missing += unshown
        note = files.read_note(workdir / column.segment / ensembles.NAME)
        teachers = note.get("teachers", {}) | teachers
    last = planned[-1]
    likes, also = _metas(workdir, last, last.splits), _metas(workdir, last, (temperature.FITTED,))
    rows, unshown = imported.write(workdir, teachers, likes, also)
    shown = [Shown(own.title, own.folder, last.splits, own.title, learnt=(("", own.learnt),)) for own in rows]
    return [*shown, *found], [*unshown, *missing]


def _log_tables(
    workdir: pathlib.Path,
    config,
    columns: Sequence[Column],
    found: Mapping[str, Sequence],
    few: Mapping[str, Sequence[draws.Line]],
    *,
    headline: str,
    baseline: str,
) -> None:
    """Logs the table of every split: the short one where a student has learnt from teachers, losses are weighed,
    labels are few or the run is a paper's table, the long one else."""
    how = config.evaluation.aggregate

    short = {
        split: table.taught_text(columns, split, how)
        or blending.text(workdir, columns, split, config, how)
        or draws.text(few[split], columns, split, how)
        or _of_grid(columns, split, config, found[split], baseline)
        for split in found
    }
    for split, lines in found.items():
        # With every teacher or arm in it, the table is long and mostly empty: a terminal shows the short one.
        level = logging.DEBUG if short[split] else logging.INFO
        logs.LOG.log(level, "\n%s\n", table.table(columns, split, baseline=baseline, how=how, found=lines))
    if weighed := table.column_weights(columns, next(iter(found))):
        logs.LOG.info("\n%s\n", "\n".join(weighed))
    # The same numbers once more, as the paper prints them: for those who hold its rows beside them.
    for split, text in short.items():
        if not text and config.published:
            text = table.overview_text(columns, split, headline, how)
        if text:
            logs.LOG.info("%s\n", text)


def _of_grid(columns: Sequence[Column], split: str, config, found: Sequence, baseline: str) -> str:
    """The tables of a run of the plan 'grid'; '' for others."""
    made = grids.every(columns, split, config.to_dict(), found, baseline)
    if not made:
        return ""
    base = next((column.title for column in columns if column.segment == baseline), "")
    return f"{table.denominators(columns[-1].scores[split])}\n\n{grids.text(made, split, base)}"


def finish(workdir: pathlib.Path, config, columns: Sequence[tuple], dataset, *, baseline: str = "") -> dict:
    """Ends a run: logs the tables, writes report.html and summary.json (every number of every column), logs
    what to do next. Returns the summary of the last column on its first split.

    ``columns`` are `Shown`, or tuples of its fields, in the order of the table; the headline of the last one is
    the run's. Raises FileNotFoundError where the scores file of any is not there.
    """
    planned, missing = _with_teachers(workdir, [Shown(*column) for column in columns])
    how = config.evaluation.aggregate
    loaded = [_loaded(workdir, column, how) for column in planned]
    own, headline = loaded[-1], planned[-1].headline or config.headline

    found = points.every(loaded, headline=headline, baseline=baseline, how=how)
    few = {split: draws.lines(workdir, loaded, split, config, headline, how) for split in found}
    _log_tables(workdir, config, loaded, found, few, headline=headline, baseline=baseline)
    for line in missing:
        logs.LOG.info("not shown: %s", line)
    path = page_lib.write(
        workdir,
        loaded,
        config=config.to_json_best_effort(),
        baseline=baseline,
        headline=headline,
        how=how,
        found=found,
        dataset=dataset,
        published=config.published,
        published_neighbours=config.published_neighbours,
        missing=missing,
    )
    # summary.json comes last: `compare` takes a folder that has one for a run that has ended.
    files.write_json(workdir / "summary.json", {c.segment: c.numbers for c in loaded})
    said = _verdicts(loaded, found, headline=headline, baseline=baseline, how=how)
    split = next(iter(found))
    said += blending.said(blending.lines(workdir, loaded, split, config, how), split)
    # Of labels that were drawn several times, one draw's verdict would be a matter of chance.
    said = draws.told(few[split], headline, own.segment, split, how) or said
    logs.LOG.info(last_lines(config, said, path))
    return own.numbers[next(iter(own.scores))]
