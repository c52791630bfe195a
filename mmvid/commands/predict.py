"""Says what a run makes of your own videos: the likeliest classes and their
probabilities, or which of them is seen from when to when.

    python -m mmvid predict runs/mml my_video.mp4
    python -m mmvid predict runs/mml my_videos clips.csv --json=said.json
    python -m mmvid predict runs/mml long.mp4 --window=4 --stride=2 --video=told.mp4

An input is a video, a picture, a folder (all videos below it; a folder of
numbered pictures is one clip), or a CSV with the columns id and path and, as in
data_prep, start, end, fps, depth, flow, audio and boxes. Class names, the way
that clips are prepared and cut, and the sum of what several networks say come
from the run. Where the run has several heads of single labels, such as noun and
verb, the likeliest actions follow, with the product of the heads' probabilities.
What a clip lacks is said, what it has is used; a clip that cannot be read is
named with the reason, the others are answered, and the exit code is 1.

With --window a film is looked at in windows of so many seconds, one every
--stride seconds, however long it is. Neighbouring windows of one label become a
span, with their mean probability; where windows overlap, a moment belongs to
the one whose middle is nearer. What is less likely than --threshold is not
said. --video writes films with the answer below their pictures.
"""

import argparse
import collections
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence

from mmvid import buckets, files, usage
from mmvid.commands import answers, evaluate
from mmvid.commands import config as config_lib
from mmvid.data.media import captions, inputs
from mmvid.data.media.item import Item, Refused
from mmvid.plans.segment import Segment
from mmvid.run import cache, feed, kept, shared, talk, watch
from mmvid.run import predict as predict_lib
from mmvid.run.build import Run
from mmvid.run.predict import Prediction
from mmvid.run.watch import Timeline
from mmvid.streams import form_of

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run predicts, what, and where the answer goes."""
    add = parser.add_argument
    add("run", type=usage.a_run, metavar="RUN", help="the workdir of a run that has ended, or what 'share' made")
    add("inputs", nargs="+", metavar="VIDEO|FOLDER|CSV", help="what is predicted")
    add(
        "--flow",
        choices=list(predict_lib.FLOWS),
        default="as-trained",
        help="how flow is computed: as for training (slow where that was TV-L1), quickly by DIS, or not at all",
    )
    add("--topk", type=int, default=5, metavar="K", help="classes that are shown; default 5")
    add("--json", metavar="FILE", help="also write everything, logits too, as JSON; - is the terminal")
    add(
        "--csv",
        metavar="FILE",
        help="also write a row for each clip, output and class, or span; - is the terminal",
    )
    add("--segment", metavar="NAME", help="the segment whose networks predict; default the last one")
    add("--batch_size", type=int, default=8, metavar="N", help="clips or windows at a time; default 8")
    add("--window", type=float, metavar="SECONDS", help="tell films window by window: when which label is seen")
    add("--stride", type=float, metavar="SECONDS", help="from window to window; default the window's length")
    add(
        "--threshold",
        type=float,
        metavar="P",
        help="the least probability that is said of a window; default 0, and 0.5 of each of several labels",
    )
    add("--video", metavar="OUT.mp4", help="write the film with the answer below it; a folder for several films")
    add("--workers", type=int, default=0, metavar="N", help="processes that decode and compute flow; default 0")


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


def opened(
    folder: pathlib.Path, segment: str | None, batch_size: int, overrides: Sequence[str] = ()
) -> tuple[Run, Segment]:
    """Opens a run, or what is shared of one, to predict ``batch_size`` clips at a time, and chooses its segment.
    Raises WrongUse for a folder that is neither, or a segment that is not there; ValueError or FileNotFoundError
    where the run has not ended, or something of it is damaged or gone."""
    evaluate.check_overrides(overrides)
    # A few clips are not worth the start of worker processes.
    own = [f"--config.evaluation.batch_size={batch_size}", "--config.loader.workers=0"]
    config = config_lib.of_run(folder, [*own, *overrides])
    talk.say_idle_accelerator()
    cache.choose(folder)
    if shared.note_of(folder) is not None:
        if segment is not None:
            raise usage.WrongUse(f"--segment={segment}: {folder} is one network that was shared, without segments")
        return shared.opened(folder, config)
    run = kept.opened(folder, config)
    return run, _segment(run, segment)


def _hears(segment: Segment) -> bool:
    """Whether a segment's networks listen to sound; their teachers' streams do not count."""
    return any(form_of(stream).rate for stream in feed.scored_streams(segment))


def load(run: str | os.PathLike, *, segment: str | None = None, flow: str = "as-trained") -> Callable:
    """Opens a run that has ended: see `mmvid.load`."""
    if flow not in predict_lib.FLOWS:
        raise ValueError(f"flow={flow!r}: choose one of {list(predict_lib.FLOWS)}")
    whole, chosen = opened(pathlib.Path(run), segment, 1)
    ask, hear = predict_lib.predictor(whole, chosen, flow=flow), _hears(chosen)

    def predict(path: str | os.PathLike, **further) -> Prediction:
        (found,) = ask([inputs.item(path, hear=hear, **further)])
        if found.reason:
            raise ValueError(f"{path}: {found.reason}")
        return found

    return predict


# ---------------------------------------------------------------------------- what is written
def _as_json(about: dict, clips: Iterable[dict]) -> str:
    return json.dumps({**about, "clips": list(clips)}, indent=1)


def _put(target: str | None, content: Callable[[], str]) -> str:
    """Writes ``content()`` to the file ``target``; '-' is the terminal, None nowhere. Returns what went wrong."""
    try:
        if target == "-":
            print(content())
        elif target:
            files.write_text(pathlib.Path(target), content())
    except OSError as error:
        return f"{target} could not be written: {usage.explained(error)}"
    return ""


def _films(target: str | None, items: Sequence[Item | Refused]) -> list[pathlib.Path | None]:
    """The film that is written of each of ``items``; None where none is. Raises WrongUse where one name is given
    to several."""
    if not target:
        return [None] * len(items)
    if target.endswith(_FILM):
        if len(items) > 1:
            raise usage.WrongUse(f"--video={target} is one film, and these are {len(items)} clips: name a folder")
        return [pathlib.Path(target)]
    found: dict[str, None] = {}
    for one in items:
        stem = pathlib.PurePath(one.id).stem or "clip"
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        found[next(name for name in names if name not in found)] = None
    return [pathlib.Path(target, name + _FILM) for name in found]


def _drawn(target: pathlib.Path | None, item: Item | Refused, below: answers.Below) -> str:
    """Writes the film of a clip with its answer; returns what went wrong."""
    if target is None or isinstance(item, Refused):
        return ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        captions.write(target, item, *below)
    except (OSError, ValueError) as error:
        return f"{target} could not be written: {usage.explained(error)}"
    print(f"film: {target}", file=sys.stderr)
    return ""


# ---------------------------------------------------------------------------- the command
_FILM = ".mp4"
# No film has a thousand frames a second, and of a day no few frames tell.
_SECONDS = (0.001, 86_400.0)


def _check_targets(arguments: argparse.Namespace, items: Sequence[Item | Refused]) -> None:
    """Raises WrongUse where a file that is to be written is one that is read, or a run's or a dataset's."""
    # A folder that is searched may hold what an earlier call has written: of it, the clips count.
    named = [pathlib.Path(path) for path in arguments.inputs if path and not os.path.isdir(path)]
    beside = [path for one in items if isinstance(one, Item) for path in (one.path, *one.paths.values()) if path]
    targets = [("--json", arguments.json), ("--csv", arguments.csv)]
    targets += [("--video", path) for path in _films(arguments.video, items)]
    for flag, target in ((flag, pathlib.Path(own)) for flag, own in targets if own and own != "-"):
        if read := next((own for own in (*named, *beside) if inputs.holds(own, target)), None):
            raise usage.WrongUse(f"{target} would be written over an input ({read}): name another file")
        files.check_target(flag, target, [arguments.run])


def _check_files(arguments: argparse.Namespace) -> None:
    """Raises WrongUse for names of files that cannot be written, or that are one."""
    if arguments.json == arguments.csv == "-":
        raise usage.WrongUse("--json=- and --csv=- would be mixed on the terminal: name a file for one of them")
    if arguments.json and arguments.csv and inputs.same(arguments.json, arguments.csv):
        raise usage.WrongUse(f"--json and --csv are both {arguments.json}: name two files")
    video = pathlib.Path(arguments.video or "")
    if video.suffix not in ("", _FILM):
        raise usage.WrongUse(f"--video={video}: films are written as {_FILM}; name one, or a folder for several")
    if video.suffix != _FILM:
        usage.check_folder("--video", video)
    for target in (arguments.json, arguments.csv, arguments.video if video.suffix else ""):
        if target and pathlib.Path(target).is_dir():
            raise usage.WrongUse(f"{target} is a folder: name a file in it")
        if target and not pathlib.Path(target).resolve().parent.is_dir():
            raise usage.WrongUse(f"{target}: there is no folder {pathlib.Path(target).parent}")
    _check_targets(arguments, [])


def _check(arguments: argparse.Namespace) -> None:
    """Raises WrongUse for numbers and names that cannot be meant."""
    if arguments.topk < 1 or arguments.batch_size < 1:
        raise usage.WrongUse("--topk and --batch_size are 1 or more")
    if arguments.workers < 0:
        raise usage.WrongUse(f"--workers={arguments.workers}: it is a number of processes, 0 for none beside this")
    if arguments.window is None and (arguments.stride is not None or arguments.threshold is not None):
        raise usage.WrongUse("--stride and --threshold are of windows: say how long these are, --window=SECONDS")
    for name, value in (("window", arguments.window), ("stride", arguments.stride)):
        if value is not None and not _SECONDS[0] <= value <= _SECONDS[1]:
            raise usage.WrongUse(
                f"--{name}={value:g}: give a number of seconds from {_SECONDS[0]:g} to {_SECONDS[1]:g}"
            )
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise usage.WrongUse(f"--threshold={arguments.threshold:g}: a probability is from 0 to 1")
    _check_files(arguments)


def _asked(arguments: argparse.Namespace) -> watch.Asked | None:
    """The windows that are asked for; None where clips are predicted as a whole."""
    if arguments.window is None:
        return None
    stride = arguments.window if arguments.stride is None else arguments.stride
    return watch.Asked(arguments.window, stride, arguments.threshold)


def _announced(run: Run, segment: Segment, topk: int, asked: watch.Asked | None) -> dict:
    own = run.config.evaluation
    windows = {"window": asked.length, "stride": asked.stride, "threshold": asked.threshold} if asked else {}
    return {
        "run": buckets.told(str(run.workdir)),
        "segment": segment.name,
        "protocol": own.protocol,
        "crops": own.crops,
        "aggregate": own.aggregate,
        "topk": topk,
        **windows,
        "classes": {name: list(head.names) for name, head in segment.heads.items()},
    }


def _interrupted(found: Prediction | Timeline) -> bool:
    return any(reason == watch.INTERRUPTED for _, _, reason in getattr(found, "unread", ()))


def _said(
    answered: Iterable[tuple[Item | Refused, pathlib.Path | None, Prediction | Timeline]],
    arguments: argparse.Namespace,
    about: dict,
    form: answers.Form,
    repeated: Collection[str],
) -> list[Prediction | Timeline]:
    """Prints each answer as it comes, with the film that is written of its clip, and writes the files at the end,
    or when something ends it before. Raises OSError where one of them could not be written; the others are."""
    out, found, wrong = sys.stderr if "-" in (arguments.json, arguments.csv) else sys.stdout, [], []
    try:
        for item, target, one in answered:
            found.append(one)
            print(form.text(one, repeated), file=out, end="\n\n", flush=True)
            if not one.reason and not _interrupted(one):
                wrong.append(_drawn(target, item, form.below(one)))
    finally:
        # What an earlier call has found is worth more than an empty list.
        if found:
            wrong.append(_put(arguments.json, lambda: _as_json(about, map(form.plain, found))))
            wrong.append(_put(arguments.csv, lambda: form.table(found)))
        if any(wrong):
            raise OSError("; ".join(filter(None, wrong)))
    return found


def _check_found(found: Sequence[Prediction | Timeline]) -> None:
    """Raises ValueError where not all clips could be predicted."""
    lost, count = sum(bool(one.reason) for one in found), len(found)
    if lost == count:
        raise ValueError(f"none of {count} clip{'s' * (count > 1)} could be predicted; why stands above")
    if lost:
        raise ValueError(f"{lost} of {count} clips could not be predicted; why stands above")
    if partly := sum(bool(getattr(one, "unread", ())) for one in found):
        raise ValueError(f"of {partly} of {count} clips some windows could not be predicted; why stands above")


def execute(arguments: argparse.Namespace) -> None:
    """Predicts the inputs of the command line. Raises ValueError where one of them could not be predicted, after
    all others have been."""
    _check(arguments)
    run, segment = opened(arguments.run, arguments.segment, arguments.batch_size, arguments.overrides)
    items, notes = [], [predict_lib.note(segment, run.datasets[segment.dataset].info, arguments.flow)]
    for path in arguments.inputs:
        own, said = inputs.items(path, hear=_hears(segment))
        items, notes = items + own, notes + said
    _check_targets(arguments, items)
    for note in filter(None, notes):
        print(f"note: {note}", file=sys.stderr)
    asked = _asked(arguments)
    how = dict(flow=arguments.flow, workers=arguments.workers, cache=str(cache.choose(arguments.run) or ""))
    if asked is None:
        ask, form = predict_lib.predictor(run, segment, **how), answers.of_clips(arguments.topk)
    else:
        ask, form = watch.watcher(run, segment, asked, **how), answers.OF_TIMELINES
    repeated = {name for name, count in collections.Counter(one.id for one in items).items() if count > 1}
    answered = zip(items, _films(arguments.video, items), ask(items))
    _check_found(_said(answered, arguments, _announced(run, segment, arguments.topk, asked), form, repeated))
