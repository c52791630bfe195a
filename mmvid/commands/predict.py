"""Says what a run makes of your own videos: the likeliest classes and their probabilities.

    python -m mmvid predict runs/mml my_video.mp4
    python -m mmvid predict runs/mml my_videos clips.csv --json=said.json

An input is a video, a picture, a folder (all videos below it; a folder of
numbered pictures is one clip), or a CSV with the columns id and path and, as in
data_prep, start, end, fps, depth, flow, audio and boxes. Class names, the way
that clips are prepared and cut, and the sum of what several networks say come
from the run. Where the run has several heads of single labels, such as noun and
verb, the likeliest actions follow, with the product of the heads' probabilities.
What a clip lacks is said, what it has is used; a clip that cannot be read is
named with the reason, and the others go on.
"""

import argparse
import collections
import csv
import functools
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from mmvid import files, usage
from mmvid.commands import config as config_lib
from mmvid.commands import evaluate
from mmvid.data.media import inputs
from mmvid.data.media.item import Item, Refused
from mmvid.plans.segment import Segment
from mmvid.report import text as text_lib
from mmvid.run import cache, kept, talk
from mmvid.run import predict as predict_lib
from mmvid.run.build import Run
from mmvid.run.predict import Prediction
from mmvid.streams import form_of

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run predicts, what, and where the answer goes."""
    add = parser.add_argument
    add("run", type=usage.on_disk, metavar="RUN", help="the workdir of a run that has ended")
    add("inputs", nargs="+", metavar="VIDEO|FOLDER|CSV", help="what is predicted")
    add(
        "--flow",
        choices=list(predict_lib.FLOWS),
        default="as-trained",
        help="how flow is computed: as for training (slow where that was TV-L1), quickly by DIS, or not at all",
    )
    add("--topk", type=int, default=5, metavar="K", help="classes that are shown; default 5")
    add("--json", metavar="FILE", help="also write everything, logits too, as JSON; - is the terminal")
    add("--csv", metavar="FILE", help="also write a row for each clip, output and class; - is the terminal")
    add("--segment", metavar="NAME", help="the segment whose networks predict; default the last one")
    add("--batch_size", type=int, default=8, metavar="N", help="clips at a time; default 8")


# ---------------------------------------------------------------------------- the run
def _segment(run: Run, name: str | None) -> Segment:
    """The segment of this name, by default the last one of the run's table. Raises WrongUse for an unknown one,
    ValueError for one that has not ended."""
    known = {segment.name: segment for segment in run.segments if segment.evaluate}
    if name is not None and name not in known:
        raise usage.WrongUse(f"{run.workdir} has no segment {name!r}; it has {sorted(known)}")
    titled = [segment for segment in known.values() if segment.title]
    chosen = known[name] if name is not None else (titled or list(known.values()))[-1]
    done = [own for own in known if (run.workdir / own / "done.json").exists()]
    if chosen.name not in done:
        hint = f", or take one that has: --segment={done[-1]}" if done else ""
        raise ValueError(
            f"{run.workdir} has not ended: its segment {chosen.name!r} is not done. Give the command that it was "
            f"started with again, it goes on{hint}"
        )
    return chosen


def _opened(
    folder: pathlib.Path, segment: str | None, batch_size: int, overrides: Sequence[str] = ()
) -> tuple[Run, Segment]:
    """Opens a run that predicts ``batch_size`` clips at a time, and chooses its segment."""
    evaluate.check_overrides(overrides)
    # A few clips are not worth the start of worker processes.
    own = [f"--config.evaluation.batch_size={batch_size}", "--config.loader.workers=0"]
    config = config_lib.of_run(folder, [*own, *overrides])
    talk.say_idle_accelerator()
    cache.choose(folder)
    run = kept.opened(folder, config)
    return run, _segment(run, segment)


def _hears(segment: Segment) -> bool:
    """Whether a segment's networks listen to sound."""
    return any(form_of(stream).rate for stream in segment.streams.values())


def load(run: str | os.PathLike, *, segment: str | None = None, flow: str = "as-trained") -> Callable:
    """Opens a run that has ended: see `mmvid.load`."""
    if flow not in predict_lib.FLOWS:
        raise ValueError(f"flow={flow!r}: choose one of {list(predict_lib.FLOWS)}")
    opened, chosen = _opened(pathlib.Path(run), segment, 1)
    ask, hear = predict_lib.predictor(opened, chosen, flow=flow), _hears(chosen)

    def predict(path: str | os.PathLike, **further) -> Prediction:
        (found,) = ask([inputs.item(path, hear=hear, **further)])
        if found.reason:
            raise ValueError(f"{path}: {found.reason}")
        return found

    return predict


# ---------------------------------------------------------------------------- what is said
def _columns(found: Prediction) -> dict[str, dict[str, np.ndarray]]:
    """{output: {head: [K]}} of what is shown of a clip: first the sum, or the output that stands for it."""
    return {" + ".join(found.members): found.fused} | {
        output: heads for output, heads in found.probabilities.items() if (output,) != found.members
    }


def _heads(found: Prediction) -> list[str]:
    """What is shown of a clip: every head, and the action of several, 'noun and verb'."""
    return [*found.fused, *([" and ".join(found.together)] if found.together else [])]


_PRODUCT = "the last table is of the action, all of its heads right: the product of their probabilities"


def text(found: Prediction, topk: int, repeated: Collection[str] = ()) -> str:
    """Writes a prediction for people: the clip, what was used of it and what it lacks, and a table a head.
    Ids that are ``repeated`` stand with the path of the clip."""
    name = f"{found.id} [{found.path}]" if found.id in repeated else found.id
    if found.reason:
        return f"{name}: not predicted: {found.reason}"
    missing = f"; no {', no '.join(found.missing)}" if found.missing else ""
    parts, columns = [f"{name} ({', '.join(found.used)}{missing})"], _columns(found)
    for head in _heads(found):
        rows = [
            [found.named(head, classes), *(f"{100 * _of(own, head, classes):.1f} %" for own in columns.values())]
            for classes, _ in predict_lib.likeliest(found.fused, head, topk)
        ]
        parts.append(text_lib.aligned([[head, *columns], *rows], right=range(1, 1 + len(columns))))
    return "\n".join([*parts, *([_PRODUCT] if found.together else [])])


def _of(probabilities: Mapping[str, np.ndarray], head: str, classes: Sequence[int]) -> float:
    """The probability of the ``classes`` of a head, or of those of several, 'noun and verb': their product."""
    return float(np.prod([probabilities[own][i] for own, i in zip(head.split(" and "), classes)]))


def _classes(found: Prediction, head: str, probabilities: Mapping[str, np.ndarray], topk: int) -> list[dict]:
    return [
        {"class": found.named(head, classes), "probability": probability}
        for classes, probability in predict_lib.likeliest(probabilities, head, topk)
    ]


def plain(found: Prediction, topk: int) -> dict:
    """A prediction as JSON holds it: the ``topk`` classes of every output, with the action 'noun and verb' of
    several heads as one more, and the logits of all classes."""
    said = {} if found.reason else _columns(found)
    return {
        "id": found.id,
        "path": found.path,
        "reason": found.reason,
        "used": found.used,
        "missing": found.missing,
        "sum_of": found.members,
        "top": {
            output: {head: _classes(found, head, heads, topk) for head in _heads(found)}
            for output, heads in said.items()
        },
        "logits": {
            output: {head: own.tolist() for head, own in heads.items()} for output, heads in found.logits.items()
        },
    }


def _rows(found: Sequence[Prediction], topk: int) -> str:
    """The CSV: a row for each clip, head, output and class, the sum's classes first."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["id", "path", "head", "output", "rank", "class", "probability", "reason"])
    for one in map(functools.partial(plain, topk=topk), found):
        if one["reason"]:
            rows.writerow([one["id"], one["path"], "", "", "", "", "", one["reason"]])
        for output, heads in one["top"].items():
            for head, classes in heads.items():
                for rank, own in enumerate(classes, 1):
                    known = [one["id"], one["path"], head, output]
                    rows.writerow([*known, rank, own["class"], own["probability"], ""])
    return written.getvalue()


def _put(target: str | None, content: str) -> str:
    """Writes ``content`` to the file ``target``; '-' is the terminal, None nowhere. Returns what went wrong."""
    try:
        if target == "-":
            print(content)
        elif target:
            files.write_text(pathlib.Path(target), content)
    except OSError as error:
        return f"{target} could not be written: {usage.explained(error)}"
    return ""


# ---------------------------------------------------------------------------- the command
# Files of a run that its later commands read.
_OF_RUNS = {"config.json", "data.json", "datasets.json", "metrics.jsonl", "subsets.json", "summary.json"}


def _check_targets(arguments: argparse.Namespace, items: Sequence[Item | Refused]) -> None:
    """Raises WrongUse where a file that is to be written is one that is read."""
    # A folder that is searched may hold what an earlier call has written: of it, the clips count.
    named = [pathlib.Path(path) for path in arguments.inputs if path and not os.path.isdir(path)]
    named += [path for path in arguments.run.glob("*.json*") if path.name in _OF_RUNS]
    beside = [path for one in items if isinstance(one, Item) for path in (one.path, *one.paths.values()) if path]
    for target in {arguments.json, arguments.csv} - {None, "", "-"}:
        if read := next((own for own in (*named, *beside) if inputs.holds(own, pathlib.Path(target))), None):
            raise usage.WrongUse(f"{target} would be written over an input ({read}): name another file")


def _check(arguments: argparse.Namespace) -> None:
    if arguments.topk < 1 or arguments.batch_size < 1:
        raise usage.WrongUse("--topk and --batch_size are 1 or more")
    if arguments.json == arguments.csv == "-":
        raise usage.WrongUse("--json=- and --csv=- would be mixed on the terminal: name a file for one of them")
    if arguments.json and arguments.csv and inputs.same(arguments.json, arguments.csv):
        raise usage.WrongUse(f"--json and --csv are both {arguments.json}: name two files")
    for target in (arguments.json, arguments.csv):
        if target and pathlib.Path(target).is_dir():
            raise usage.WrongUse(f"{target} is a folder: name a file in it")
        if target and not pathlib.Path(target).resolve().parent.is_dir():
            raise usage.WrongUse(f"{target}: there is no folder {pathlib.Path(target).parent}")
    _check_targets(arguments, [])


def _announced(run: Run, segment: Segment, topk: int) -> dict:
    own = run.config.evaluation
    return {
        "run": str(run.workdir),
        "segment": segment.name,
        "protocol": own.protocol,
        "crops": own.crops,
        "aggregate": own.aggregate,
        "topk": topk,
        "classes": {name: list(head.names) for name, head in segment.heads.items()},
    }


def _said(
    predictions: Iterable[Prediction], arguments: argparse.Namespace, about: dict, repeated: Collection[str]
) -> list[Prediction]:
    """Prints each prediction as it comes, and writes the files at the end, or when something ends it before.
    Raises OSError where one of them could not be written; the other one is."""
    out, found = sys.stderr if "-" in (arguments.json, arguments.csv) else sys.stdout, []
    try:
        for prediction in predictions:
            found.append(prediction)
            print(text(prediction, arguments.topk, repeated), file=out, end="\n\n", flush=True)
    finally:
        rows = [plain(one, arguments.topk) for one in found]
        wrong = _put(arguments.json, json.dumps({**about, "clips": rows}, indent=1))
        wrong = "; ".join(filter(None, (wrong, _put(arguments.csv, _rows(found, arguments.topk)))))
        if wrong:
            raise OSError(wrong)
    return found


def execute(arguments: argparse.Namespace) -> None:
    """Predicts the inputs of the command line. Raises ValueError where none of them could be predicted."""
    _check(arguments)
    run, segment = _opened(arguments.run, arguments.segment, arguments.batch_size, arguments.overrides)
    items, notes = [], [predict_lib.note(segment, run.datasets[segment.dataset].info, arguments.flow)]
    for path in arguments.inputs:
        own, said = inputs.items(path, hear=_hears(segment))
        items, notes = items + own, notes + said
    _check_targets(arguments, items)
    for note in filter(None, notes):
        print(f"note: {note}", file=sys.stderr)
    # A batch is filled up with copies, which cost as much as clips.
    with run.config.unlocked():
        run.config.evaluation.batch_size = min(run.config.evaluation.batch_size, len(items))
    ask = predict_lib.predictor(run, segment, flow=arguments.flow)
    repeated = {name for name, count in collections.Counter(one.id for one in items).items() if count > 1}
    found = _said(ask(items), arguments, _announced(run, segment, arguments.topk), repeated)
    lost = sum(bool(one.reason) for one in found)
    if lost == len(found):
        raise ValueError(f"none of {len(found)} clip{'s' * (len(found) > 1)} could be predicted; why stands above")
    if lost:
        print(f"{lost} of {len(found)} clips could not be predicted; why stands above", file=sys.stderr)
