"""Copies segments that another run has trained already: those with an equal key, whatever that run's plan was."""

import pathlib
import shutil
from typing import NamedTuple

from mmvid import files, sharding
from mmvid.logs import LOG
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run import resume
from mmvid.run.build import Run


class _Ended(NamedTuple):
    """A segment that another run has trained to its end: its folder, and the key of how it was scored."""

    directory: pathlib.Path
    scores: str


def _all_ended(path: pathlib.Path) -> dict[str, _Ended]:
    """{key: segment} of the segments that the run in ``path`` has ended and not lost. Raises ValueError where
    ``path`` is not the workdir of a run."""
    if not (path / "config.json").exists():
        raise ValueError(
            f"--config.reuse: {path} is no run (it has no config.json): name the --workdir of a run of ours, "
            "several with commas between"
        )
    found = {}
    for note in sorted(path.glob("*/key.json")):
        content, directory = files.read_json(note), note.parent
        done = (directory / "done.json").exists() and resume.whole(directory / "weights.safetensors")
        # '' is the key of what nobody can tell from others (`keys.of`, `resume.note_key`).
        if content.get("key") and done:
            found[content["key"]] = _Ended(directory, content.get("scores", ""))
    return found


def _has_checkpoints(directory: pathlib.Path) -> bool:
    return any((directory / "checkpoints").glob("[0-9]*"))


def _is_scored(run: Run, segment: Segment, ended: _Ended) -> bool:
    """Whether an ended segment has every score that this run wants of it, made as this run makes them."""
    wanted = [*segment.evaluate, *(f"{split}-before" for split in segment.measure)]
    files_there = all(resume.whole(ended.directory / "scores" / f"{name}.npz") for name in wanted)
    return files_there and ended.scores == keys.of_scores(run.config)


def _copy(run: Run, segment: Segment, key: str, ended: _Ended) -> None:
    """Copies an ended segment into the workdir, whole or not at all. Scores that were made in another way than
    this run asks for are left out: the run makes them again from its checkpoint."""
    same = ended.scores == keys.of_scores(run.config)
    directory = run.workdir / segment.name
    with files.whole(directory) as temporary:
        shutil.copytree(ended.directory, temporary)
        if not same:
            shutil.rmtree(temporary / "scores", ignore_errors=True)
        note = {"key": key, "scores": keys.of_scores(run.config), "reused": str(ended.directory)}
        files.write_json(temporary / "key.json", note)
    LOG.info("%s: reused from %s%s", segment.name, ended.directory, "" if same else ", to be scored anew")


def take(run: Run, known: dict[str, str]) -> None:
    """Copies those of this run's segments that the workdirs named in ``config.reuse`` have trained, unless
    this run's own workdir has a folder of them already. ``known`` is {segment: key}.

    Raises ValueError for a path that is not the workdir of a run.
    """
    paths = [pathlib.Path(path.strip()) for path in run.config.reuse.split(",") if path.strip()]

    def copy() -> None:
        found: dict[str, _Ended] = {}
        for path in paths:
            found = _all_ended(path) | found  # of several workdirs that have it, the first one named
        for segment in run.segments:
            ended = found.get(known[segment.name])
            if ended is None or (run.workdir / segment.name).exists():
                continue
            # Without a checkpoint nothing could be scored anew.
            if _has_checkpoints(ended.directory) or _is_scored(run, segment, ended):
                _copy(run, segment, known[segment.name], ended)

    sharding.on_first(copy if paths else lambda: None, "reusing what other runs have trained")
