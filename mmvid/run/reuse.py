"""Copies segments that another run has trained already: those with an equal key, whatever that run's plan was."""

import pathlib
import shutil
from typing import NamedTuple

from mmvid import buckets, files, sharding, transfer, usage
from mmvid.logs import LOG
from mmvid.plans.segment import Segment
from mmvid.run import resume
from mmvid.run.build import Run
from mmvid.scores import file


class _Ended(NamedTuple):
    """A segment that another run has trained to its end: its folder, and the key of how it was scored."""

    directory: pathlib.Path
    scores: str


def _paths(config) -> list[pathlib.Path]:
    """The workdirs that are named, of those in buckets the copies."""
    paths = usage.listed(config.reuse)
    return [transfer.fetched(path) if usage.scheme(path) else pathlib.Path(path) for path in paths]


def all_ended(path: pathlib.Path) -> dict[str, list[_Ended]]:
    """{key: segments} of the segments that the run in ``path`` has ended and not lost. Raises WrongUse where
    ``path`` is not the workdir of a run."""
    if not (path / "config.json").exists():
        problem = "it has no config.json" if path.is_dir() else "there is no such folder"
        raise usage.WrongUse(
            f"--config.reuse: {path} is no run ({problem}): name the --workdir of a run of ours, several with "
            "commas between"
        )
    found: dict[str, list[_Ended]] = {}
    for note in sorted(path.glob("*/key.json")):
        content, directory = files.read_json(note), note.parent
        done = (directory / "done.json").exists() and resume.whole(directory / "weights.safetensors")
        # '' is the key of what nobody can tell from others (`plans.keys.of`, `resume.note_key`).
        if content.get("key") and done:
            found.setdefault(content["key"], []).append(_Ended(directory, content.get("scores", "")))
    return found


def check(config) -> None:
    """Raises WrongUse where ``config.reuse`` names what is not the workdir of a run, or a run that has no segment
    to give: none that has ended with its weights and its key."""

    def look() -> None:
        for path in _paths(config):
            if not all_ended(path):
                raise usage.WrongUse(
                    f"--config.reuse: {path} has no segment that was trained to its end (with done.json, key.json "
                    "and weights.safetensors): give its own command again, it goes on, or leave it out here"
                )

    sharding.on_first(look, "looking at the runs of --config.reuse")


def _is_scored(run: Run, segment: Segment, ended: _Ended) -> bool:
    """Whether an ended segment has every score that this run wants of it, made as this run makes them."""
    wanted = [*segment.scored, *(f"{split}-before" for split in segment.measure)]
    files_there = all(resume.whole(ended.directory / "scores" / f"{name}.npz") for name in wanted)
    return files_there and ended.scores == resume.scores_key(run)


def _rename(directory: pathlib.Path, segment: Segment) -> None:
    """Lets the scores in ``directory`` name the segment that they are of here, in place of the one that they
    were made by."""
    own = {"segment": segment.name, "title": segment.title}
    for path in sorted((directory / "scores").glob("*.npz")):
        if not resume.whole(path):
            continue  # it is made again, or missed where it is asked for
        scores = file.load(path)
        file.save(path, scores._replace(meta=scores.meta | own))
        # What `evaluate` has added stands twice.
        if (numbers := path.with_suffix(".json")).exists():
            found = files.read_json(numbers)
            files.write_json(numbers, found | {"meta": found["meta"] | own})


def _copy(run: Run, segment: Segment, key: str, ended: _Ended) -> None:
    """Copies an ended segment into the workdir, whole or not at all. Scores that were made in another way than
    this run asks for are left out: the run makes them again from its checkpoint."""
    same = ended.scores == resume.scores_key(run)
    directory = run.workdir / segment.name
    with files.whole(directory) as temporary:
        shutil.copytree(ended.directory, temporary)
        if not same:
            shutil.rmtree(temporary / "scores", ignore_errors=True)
        _rename(temporary, segment)
        note = {"key": key, "scores": resume.scores_key(run), "reused": buckets.told(str(ended.directory))}
        files.write_json(temporary / "key.json", note)
    LOG.info("%s: reused from %s%s", segment.name, ended.directory, "" if same else ", to be scored anew")


def _usable(run: Run, segment: Segment, candidates: list[_Ended]) -> _Ended | None:
    """The first candidate that has what this run needs of the segment, or None; those before it are told of."""
    for ended in candidates:
        # Without a checkpoint nothing could be scored anew.
        if resume.has_checkpoints(ended.directory) or _is_scored(run, segment, ended):
            return ended
        LOG.warning(
            "--config.reuse: %s is made of the same as %s, but not taken: it has neither all scores that this run "
            "wants, made as here, nor a checkpoint to make them from", ended.directory, segment.name,
        )  # fmt: skip
    return None


def take(run: Run, known: dict[str, str]) -> None:
    """Copies those of this run's segments that the workdirs named in ``config.reuse`` have trained, unless
    this run's own workdir has a folder of them already. ``known`` is {segment: key}.

    Raises WrongUse for a path that is not the workdir of a run.
    """

    def copy() -> None:
        paths = _paths(run.config)
        found: dict[str, list[_Ended]] = {}
        for path in paths:
            own = all_ended(path)
            if not own.keys() & set(known.values()):
                LOG.warning("--config.reuse: no segment of %s is made of the same as one here", path)
            # Of several workdirs that have it, the first one named comes first.
            for key, candidates in own.items():
                found.setdefault(key, []).extend(candidates)
        for segment in run.segments:
            key = known[segment.name]
            if (run.workdir / segment.name).exists():
                continue
            if ended := _usable(run, segment, found.get(key, [])):
                _copy(run, segment, key, ended)

    sharding.on_first(copy if run.config.reuse else lambda: None, "reusing what other runs have trained")
