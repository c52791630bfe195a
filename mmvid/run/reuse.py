"""Copies segments ('stages') that another run has trained already: those with an equal key, whatever that
run's plan was."""

import pathlib
import shutil
from typing import NamedTuple

from mmvid import files, sharding
from mmvid.logs import LOG
from mmvid.plans.segment import Segment
from mmvid.run import resume
from mmvid.run.build import Run


class _Stage(NamedTuple):
    """A segment that another run has trained to its end: its folder, and the key of how it was scored."""

    directory: pathlib.Path
    scores: str


def _stages(path: pathlib.Path) -> dict[str, _Stage]:
    """{key: stage} of the segments that the run in ``path`` has ended and not lost. Raises ValueError where
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
        # '' is the key of what nobody can tell from others (`plans.keys.of`, `resume.note_key`).
        if content.get("key") and done:
            found[content["key"]] = _Stage(directory, content.get("scores", ""))
    return found


def _is_scored(run: Run, segment: Segment, stage: _Stage) -> bool:
    """Whether a stage holds every score that this run wants of the segment, made as this run makes them."""
    wanted = [*segment.evaluate, *(f"{split}-before" for split in segment.measure)]
    files_there = all(resume.whole(stage.directory / "scores" / f"{name}.npz") for name in wanted)
    return files_there and stage.scores == resume.scores_key(run)


def _copy(run: Run, segment: Segment, key: str, stage: _Stage) -> None:
    """Copies a stage into the workdir, whole or not at all. Scores that were made in another way than this run
    asks for are left out: the run makes them again from the stage's checkpoint."""
    same = stage.scores == resume.scores_key(run)
    directory = run.workdir / segment.name
    with files.whole(directory) as temporary:
        shutil.copytree(stage.directory, temporary)
        if not same:
            shutil.rmtree(temporary / "scores", ignore_errors=True)
        note = {"key": key, "scores": resume.scores_key(run), "reused": str(stage.directory)}
        files.write_json(temporary / "key.json", note)
    LOG.info("%s: reused from %s%s", segment.name, stage.directory, "" if same else ", to be scored anew")


def take(run: Run, known: dict[str, str]) -> None:
    """Copies those of this run's segments that the workdirs named in ``config.reuse`` have trained, unless
    this run's own workdir has a folder of them already. ``known`` is {segment: key}.

    Raises ValueError for a path that is not the workdir of a run.
    """
    paths = [pathlib.Path(path.strip()) for path in run.config.reuse.split(",") if path.strip()]

    def copy() -> None:
        stages: dict[str, _Stage] = {}
        for path in paths:
            stages = _stages(path) | stages  # of several workdirs that have it, the first one named
        for segment in run.segments:
            stage = stages.get(known[segment.name])
            if stage is None or (run.workdir / segment.name).exists():
                continue
            # Without a checkpoint nothing could be scored anew.
            if resume.has_checkpoints(stage.directory) or _is_scored(run, segment, stage):
                _copy(run, segment, known[segment.name], stage)

    sharding.on_first(copy if paths else lambda: None, "reusing what other runs have trained")
