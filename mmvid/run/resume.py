"""What a workdir holds of an earlier call: the same run or another one, what is done, what got lost."""

import json
import pathlib
import zipfile
import zlib

import jax

from mmvid import files, logs, sharding
from mmvid.data import subsets
from mmvid.logs import LOG
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run.build import Run
from mmvid.weights import files as files_lib

# What may change when a run goes on: none of it touches a result of training.
FREE = ("loader", "log_every", "save_every", "published", "published_neighbours", "compare",
        "evaluation.neighbours", "dataset.command", "stills.command", "reuse")  # fmt: skip

# Entries that configurations have got since runs are kept, with what a run did before it had them. What is
# None today needs no row here: it says nothing.
SINCE = {"augment.device": (), "missing.audio": 0.0, "missing.boxes": 0.0, "split": "train"}


def _check_same_data(run: Run, now: dict[str, str]) -> None:
    """A run goes on with the clips that it began with."""
    old = files.read_json(run.workdir / "data.json") or now
    changed = [name for name in old | now if old.get(name) != now.get(name)]
    if changed:
        raise ValueError(
            f"{run.workdir} was trained on other clips: the fingerprint of {changed[0]} was "
            f"{old.get(changed[0])}, now it is {now.get(changed[0])}. Give another --workdir."
        )


def entries(config: dict) -> dict[str, str]:
    """A configuration's entries as `logs.flatten` gives them; those that it is too old to have as `SINCE`
    says, without those that say nothing and the options of methods that it does not use."""
    method = config.get("method", {})
    used = {method.get("name"), *config.get("compare", ()), "name", "title"}
    config = {**config, "method": {name: value for name, value in method.items() if name in used}}
    found = {name: json.dumps(value) for name, value in SINCE.items()} | dict(logs.flatten(config))
    return {name: text for name, text in found.items() if text != "null"}


def _check_same_config(run: Run, now: dict) -> None:
    old = files.read_json(run.workdir / "config.json") or now
    # Where the best checkpoint is kept, how views are put together decides which one that is.
    free = FREE if run.config.evaluation.checkpoint == "best" else (*FREE, "evaluation.aggregate")
    free += tuple(f"datasets.{name}.command" for name in run.config.datasets)
    before, after = entries(old), entries(now)
    changed = sorted(
        key for key in before | after
        if before.get(key) != after.get(key) and not any((key + ".").startswith(f + ".") for f in free)
    )  # fmt: skip
    if changed:
        raise ValueError(
            f"{run.workdir} was started with another configuration; what differs: "
            + ", ".join(f"{k}={after.get(k)} (was {before.get(k)})" for k in changed[:6])
            + ". Give another --workdir, or the old values."
        )


def remember(run: Run) -> None:
    """Keeps what the run is made of in its workdir.

    Raises ValueError where a run with another configuration or other clips lives.
    """
    config = json.loads(run.config.to_json_best_effort(sort_keys=True))
    data = {name: dataset.info.fingerprint for name, dataset in run.datasets.items()}
    _check_same_config(run, config)
    _check_same_data(run, data)
    sharding.meet("remember")  # nobody reads a file that is being written
    if jax.process_index() == 0:
        files.write_json(run.workdir / "config.json", config)
        files.write_json(run.workdir / "data.json", data)
        subsets.write(run.workdir / "subsets.json", run.datasets["dataset"])


# ---------------------------------------------------------------------------- what is done
def whole(path: pathlib.Path) -> bool:
    """Whether a file of scores or weights is there, and neither cut short nor damaged as far as it can tell."""
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
    """The evaluated splits whose scores are not there, or damaged."""
    scores = run.workdir / segment.name / "scores"
    return [split for split in segment.evaluate if not whole(scores / f"{split}.npz")]


def unmeasured(run: Run, segment: Segment) -> list[str]:
    """The splits whose scores before the first step are not there, or damaged."""
    scores = run.workdir / segment.name / "scores"
    return [split for split in segment.measure if not whole(scores / f"{split}-before.npz")]


def note_key(run: Run, segment: Segment, key: str) -> None:
    """Keeps a segment's key in its folder before it trains. One that goes on under another key (a file
    of weights that it started from was replaced, or mmvid) has none any more: it is never reused."""
    path = run.workdir / segment.name / "key.json"
    if jax.process_index() == 0:
        old = files.read_json(path)
        same = old is None or old["key"] == key
        files.write_json(path, {"key": key if same else "", "scores": keys.of_scores(run.config)})


def ended(run: Run, segment: Segment) -> bool:
    """Whether a segment was trained and scored to its end, whatever got lost later."""
    return (run.workdir / segment.name / "done.json").exists()


def finished(run: Run, segment: Segment) -> bool:
    """Whether nothing is left to do for a segment.

    What got lost of one that has ended is made again from its last checkpoint. Raises ValueError where
    that is gone, too, and something still needs it.
    """
    directory = run.workdir / segment.name
    if not ended(run, segment):
        return False
    missing = [f"scores/{split}.npz" for split in unscored(run, segment)]
    missing += [f"scores/{split}-before.npz" for split in unmeasured(run, segment)]
    if not whole(directory / "weights.safetensors"):
        missing.append("weights.safetensors")
    if not missing:
        return True
    if any((directory / "checkpoints").glob("[0-9]*")):
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
