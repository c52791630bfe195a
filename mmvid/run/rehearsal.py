"""Tries the end of a run (weights, scores, tables, figures) before its first step, on zeros: a name or a
combination of heads that some table, figure or file cannot hold is found now, not after days."""

import os
import pathlib
import shutil
import traceback

import numpy as np

from mmvid import files, logs, network, plans
from mmvid.plans.segment import Segment
from mmvid.report import finish, grids
from mmvid.run import feed, score
from mmvid.run.build import Run
from mmvid.scores import file as file_lib
from mmvid.scores import numbers
from mmvid.scores.file import Scores
from mmvid.streams import Head
from mmvid.weights import trees

# Few, for speed, but more than one: the last has no modality.
CLIPS = 3


def _label(head: Head, count: int) -> np.ndarray:
    """Labels of ``count`` clips. Of a head of kind 'multi' none is positive: this leaves most numbers
    undefined, which tables must cope with."""
    if head.kind == "multi":
        return np.zeros((count, head.classes), np.float32)
    return (np.arange(count) % head.classes).astype(np.int32)


def _scores(run: Run, segment: Segment, split: str, protocol: str, crops: str) -> Scores:
    """The scores that an evaluation of ``split`` would give, for a few clips and with zeros in place of
    predictions. The last of several clips has no modality."""
    source = run.datasets[segment.dataset].split(split)
    count, outputs = min(len(source), CLIPS), segment.needs
    present = np.arange(count) < max(count - 1, 1)
    meta = score.meta(run, segment, split, segment.stop, protocol, crops)
    picture, how = (source.info.height, source.info.width), feed.views(run, protocol, crops)
    views, _ = feed.count_views(run, segment, picture, how)
    logits = {h: np.zeros((count, views, space.classes), np.float32) for h, space in segment.heads.items()}
    return Scores(
        id=np.asarray(source.ids()[:count]),
        row=np.arange(count, dtype=np.int32),
        label={name: _label(space, count) for name, space in segment.heads.items()},
        present=dict.fromkeys(outputs, present),
        logits={output: dict(logits) for output in outputs},
        meta=meta | {"views": views, "clips_used": count},
    )


def _validate(run: Run, segment: Segment, directory: pathlib.Path) -> None:
    """Tries the scores made while training: their names, their lines in metrics.jsonl, and the number that
    decides which checkpoint is best."""
    spec = run.config.evaluation
    scores = _scores(run, segment, spec.during, spec.during_protocol, spec.during_crops)
    values = numbers.headline_values(scores, spec.aggregate)
    score.value_of(values, spec.best_by, segment.headline)
    heads = list(segment.heads)
    names = [f"train/{output}/top1" + f"_{h}" * (len(heads) > 1) for output in scores.logits for h in heads]
    zeros = dict.fromkeys([*(f"val/{name}" for name in values), *names], 0.0)
    for step in (1, 2):
        with (directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(logs.line(step, zeros))


def _leave(segment: Segment, directory: pathlib.Path) -> None:
    """Writes weights as the segment's end will, with a single number in place of each classifier and nothing
    else."""
    zero = np.zeros((), np.float32)
    params = {}
    for trained in (n for n in segment.networks if not n.frozen):
        places = [(*path, head, "kernel") for path in trained.model.classifiers for head in segment.heads]
        params[trained.name] = trees.unflatten(dict.fromkeys(places, zero))
    empty = {"frozen": {}, "opt_state": {}, "method": segment.method.init(), "ema": {}, "key": ()}
    state = network.TrainState(step=0, params=params, stats={name: {} for name in params}, **empty)
    segment.leave(state, directory)


def _measured(run: Run, segment: Segment, directory: pathlib.Path) -> None:
    """Writes the scores of what is measured before the first step and after the last one: a ``leave`` may read
    them."""
    spec = run.config.evaluation
    for split in segment.measure:
        scores = _scores(run, segment, split, spec.protocol, spec.crops)
        for name in (f"{split}-before", split):
            file_lib.save(directory / "scores" / f"{name}.npz", scores)


def _scored(run: Run, segment: Segment, split: str, directory: pathlib.Path) -> None:
    spec = run.config.evaluation
    _validate(run, segment, directory)
    scores = _scores(run, segment, split, spec.protocol, spec.crops)
    file_lib.save(directory / "scores" / f"{split}.npz", scores)


def _report(run: Run, columns: list[Segment], split: str, directory: pathlib.Path) -> None:
    if ks := run.config.evaluation.neighbours:
        known = {str(k): 0.0 for k in ks}
        files.write_json(directory / "neighbours.json", dict.fromkeys(columns[-1].needs, known))
    shown = [(s.title, s.name, (split,), s.headline) for s in columns]
    baseline = plans.baseline(run.segments)
    finish.finish(directory, run.config, shown, run.datasets["dataset"], baseline=baseline)


def _try(run: Run, directory: pathlib.Path) -> None:
    # Every segment writes weights; only those with a title are columns of tables.
    for segment in run.segments:
        (directory / segment.name).mkdir(parents=True)
        _measured(run, segment, directory / segment.name)
        _leave(segment, directory / segment.name)
    titled = [s for s in run.segments if s.title and s.evaluate]
    # The run's own column, the one it is compared with, those that tables add up, and one split: others are alike.
    needed = {plans.baseline(run.segments), titled[-1].name, *grids.added_up(run.config.to_dict())}
    columns = [s for s in titled if s.name in needed]
    split = titled[-1].evaluate[0]
    for segment in columns:
        _scored(run, segment, split, directory / segment.name)
    _report(run, columns, split, directory)


def rehearse(run: Run) -> None:
    """Writes weights, scores, numbers, tables, figures and the page once, in a folder that is removed again.

    Raises ValueError for whatever would make the run fail after all its training, OSError where its
    workdir cannot be written.
    """
    directory = run.workdir / "rehearsal"
    # A rehearsal that was killed leaves its folder behind.
    shutil.rmtree(directory, ignore_errors=True)
    # The lines of a report on zeros would be taken for results.
    logs.LOG.disabled = True
    try:
        _try(run, directory)
    except OSError:  # a full disk or a folder that cannot be written: the configuration is not to blame
        raise
    except Exception as error:
        if os.environ.get("MMVID_TRACE"):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            "nothing was trained: a rehearsal shows that this run would fail at its end, with "
            f"{type(error).__name__}: {error} ({pathlib.Path(place.filename).name}, line {place.lineno}; "
            "MMVID_TRACE=1 shows more). Names of heads, classes, splits and networks are what may differ from "
            "a run that works."
        ) from error
    finally:
        logs.LOG.disabled = False
        shutil.rmtree(directory, ignore_errors=True)
