"""Finds out what a workdir holds of an earlier call: whether it is the same run, what of it is done, and what
got lost."""

import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable

import jax

from mmvid import files, logs, sharding, usage
from mmvid.data import subsets
from mmvid.logs import LOG
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run import kept, seen
from mmvid.run.build import Run
from mmvid.scores import file
from mmvid.weights import files as files_lib
from mmvid.weights import seen as weights_seen

# Entries that may change when a run goes on: none of them touches a result of training.
FREE = (
    "loader", "mesh", "log_every", "save_every", "published", "published_neighbours", "compare",
    "evaluation.neighbours", "dataset.command", "dataset.since", "dataset.clips", "stills.command", "reuse",
    "blend.published",
    "semi.thinned", "grid.tables", "grid.pairs", "grid.ranks", "grid.sums", "grid.protocols",
)  # fmt: skip

# Entries that older runs' configurations lack, with the value that says what those runs did. An entry whose
# default is None needs no row: None counts as not there.
SINCE = {
    "augment.device": (), "augment.distortion": "dmcl", "split": "train",
    "missing.audio": 0.0, "missing.boxes": 0.0,
    "teachers.split": "", "teachers.held": "", "teachers.student_sees_held": True, "without": "",
    "blend.held": "", "blend.split": "", "blend.fixed": "", "blend.measures": 1, "blend.super_epochs": (),
    "blend.frozen_trunk": "", "blend.published": (),
}  # fmt: skip


def _check_same_data(run: Run, now: dict[str, str]) -> None:
    """Raises WrongUse where the run's workdir was begun with other clips."""
    # A first call has no file yet: everything is as it is now.
    old = files.read_json(run.workdir / "data.json") or now
    changed = [name for name in old | now if old.get(name) != now.get(name)]
    if changed:
        raise usage.WrongUse(
            f"{run.workdir} was trained on other clips: the fingerprint of {changed[0]} was "
            f"{old.get(changed[0])}, now it is {now.get(changed[0])}. Give another --workdir."
        )


def entries(config: dict) -> dict[str, str]:
    """A configuration as {entry: JSON text}, in a form in which two can be compared: entries that it is too
    old to have take the value in `SINCE`; those that are None, options of methods that it does not use, those of
    the plans 'semi' and 'grid' in another one, and offsets of 0 are left out."""
    method = config.get("method", {})
    used = {method.get("name"), *config.get("compare", ()), "name", "title"}
    config = {**config, "method": {name: value for name, value in method.items() if name in used}}
    for plan in ("semi", "grid"):
        if config.get("plan") != plan:
            config.pop(plan, None)
    found = {name: json.dumps(value) for name, value in SINCE.items()} | dict(logs.flatten(config))
    return {name: text for name, text in found.items() if text != "null" and not _is_no_offset(name, text)}


def _is_no_offset(name: str, text: str) -> bool:
    """Whether an entry says that a stream is not displaced, as all those of older runs."""
    return name.endswith(".sampling.offset") and float(text) == 0


def _check_same_config(run: Run, now: dict) -> None:
    old = files.read_json(run.workdir / "config.json") or now
    # Where the best checkpoint is kept, how views are put together decides which one that is.
    free = FREE if run.config.evaluation.checkpoint == "best" else (*FREE, "evaluation.aggregate")
    free += tuple(f"datasets.{name}.command" for name in run.config.datasets)
    before, after = entries(old), entries(now)
    differing = [key for key in before | after if before.get(key) != after.get(key)]
    changed = sorted(key for key in differing if not any((key + ".").startswith(f + ".") for f in free))
    if changed:
        raise usage.WrongUse(
            f"{run.workdir} was started with another configuration; what differs: "
            + ", ".join(f"{k}={after.get(k)} (was {before.get(k)})" for k in changed[:6])
            + ". Give another --workdir, or the old values."
        )


def remember(run: Run) -> None:
    """Writes the run's configuration, what is known of its datasets and its subsets into its workdir.

    Raises WrongUse where the workdir belongs to a run with another configuration or other clips.
    """
    config = json.loads(run.config.to_json_best_effort(sort_keys=True))
    data = {name: dataset.info.fingerprint for name, dataset in run.datasets.items()}
    _check_same_config(run, config)
    _check_same_data(run, data)
    sharding.meet("remember")  # nobody reads a file that is being written
    if jax.process_index() == 0:
        files.write_json(run.workdir / "config.json", config)
        files.write_json(run.workdir / "data.json", data)
        kept.write(run)
        subsets.write(run.workdir / "subsets.json", run.datasets)


# ---------------------------------------------------------------------------- what is done
def whole(path: pathlib.Path) -> bool:
    """Whether a file of scores or weights is there and undamaged, as far as the file itself can tell: scores
    have a checksum, of weights only the length and the header are checked."""
    if not path.exists():
        return False
    try:
        if path.suffix != ".npz":
            return bool(files_lib.metadata(path))
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (ValueError, zipfile.BadZipFile, zlib.error):
        return False


def unscored(run: Run, segment: Segment) -> list[str]:
    """The scored splits whose scores are missing or damaged. Those that are not shown count only where a
    checkpoint can make them again: older runs never had them."""
    directory = run.workdir / segment.name
    wanted = segment.scored if has_checkpoints(directory) else segment.evaluate
    return [split for split in wanted if not whole(directory / "scores" / f"{split}.npz")]


def unthinned(run: Run, segment: Segment) -> list[int]:
    """The numbers k of ``segment.thinned`` whose scores are missing or damaged, where a checkpoint can make them:
    of a figure alone, they are not worth an error."""
    directory = run.workdir / segment.name
    if not segment.thinned or not has_checkpoints(directory):
        return []
    spec = run.config.evaluation
    names = {k: file.name_of(segment.evaluate[0], f"{spec.protocol}t{k}", spec.crops) for k in segment.thinned}
    return [k for k, name in names.items() if not whole(directory / "scores" / f"{name}.npz")]


def has_checkpoints(directory: pathlib.Path) -> bool:
    """Whether a segment's folder still has a checkpoint."""
    return any((directory / "checkpoints").glob("[0-9]*"))


def unmeasured(run: Run, segment: Segment) -> list[str]:
    """The splits of ``segment.measure`` whose scores before the first step are missing or damaged."""
    scores = run.workdir / segment.name / "scores"
    return [split for split in segment.measure if not whole(scores / f"{split}-before.npz")]


def scores_key(run: Run) -> str:
    """The key of how this run scores its segments (`keys.of_scores`)."""
    further = keys.further(run.config.subsets)
    return keys.of_scores(run.config, {name: run.datasets[name].info.fingerprint for name in further})


def note_key(run: Run, segment: Segment, key: str, shown: Callable | None = None) -> None:
    """Writes a segment's key into its folder before it trains, and what its weights will have seen, of clips that
    ``shown`` has looked at (`seen.of`).

    A segment that was begun under one key and goes on under another (mmvid, or a file of weights that it
    started from, was replaced) is made of both: it gets the key '', and is never reused. Where it was copied
    from another run, that stays noted as long as it goes on from a checkpoint of that one.
    """
    directory = run.workdir / segment.name
    path = directory / "key.json"
    if jax.process_index() == 0:
        old = files.read_json(path) or {}
        same = old.get("key", key) == key
        note = {"key": key if same else "", "scores": scores_key(run)}
        if "reused" in old and has_checkpoints(directory):
            note["reused"] = old["reused"]
        told = old.get("seen")
        # What it started from may be gone by now, which would prove less than what was noted when it began.
        if not (told and same and key):
            told = weights_seen.joined(seen.of(run, segment, shown), [told] if told else [])
        files.write_json(path, note | {"seen": told})


def ended(run: Run, segment: Segment) -> bool:
    """Whether a segment was trained and scored to its end; files of it may have got lost since."""
    return (run.workdir / segment.name / "done.json").exists()


def finished(run: Run, segment: Segment) -> bool:
    """Whether nothing is left to do for a segment.

    False for a segment that has ended but lost scores or weights which its last checkpoint can restore.
    Raises ValueError where the checkpoints are gone, too, and what was lost is still needed.
    """
    directory = run.workdir / segment.name
    if not ended(run, segment):
        return False
    missing = [f"scores/{split}.npz" for split in unscored(run, segment)]
    missing += [f"scores of every {k}. frame" for k in unthinned(run, segment)]
    missing += [f"scores/{split}-before.npz" for split in unmeasured(run, segment)]
    if not whole(directory / "weights.safetensors"):
        missing.append("weights.safetensors")
    if not missing:
        return True
    if has_checkpoints(directory):
        LOG.info(
            "%s: %s, gone or damaged, is made again from the last checkpoint", segment.name, ", ".join(missing)
        )
        return False
    later = run.segments[run.segments.index(segment) + 1 :]
    if missing == ["weights.safetensors"] and all(ended(run, s) for s in later):
        return True  # to save room, perhaps: nobody asks for them any more
    raise ValueError(
        f"{directory} has ended, but its {missing[0]} is gone or damaged, and so are its checkpoints. Put it "
        f"back, or delete the folder {directory}: the same command then trains {segment.name!r} again."
    )


def all_done(run: Run) -> bool:
    """Whether every segment has ended with its scores, so that only the report is left."""
    return all(ended(run, segment) and not unscored(run, segment) for segment in run.segments)


def check_beginnings(run: Run) -> None:
    """Asks every segment that has not begun whether it can begin with what earlier runs have left. Raises WrongUse
    where it cannot."""
    for segment in run.segments:
        # A segment that goes on has in its checkpoint what it began with.
        begun = ended(run, segment) or has_checkpoints(run.workdir / segment.name)
        if segment.check and not begun:
            # What it asks for, the configuration has named.
            with usage.wrong_use():
                segment.check(run)
