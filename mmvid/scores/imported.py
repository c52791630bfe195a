"""Teachers that earlier runs have trained: where their scores lie, and their rows beside those of a run's own."""

import contextlib
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmvid import files
from mmvid.scores import effort, file
from mmvid.scores.file import Scores
from mmvid.weights import files as weight_files
from mmvid.weights import seen


class Imported(NamedTuple):
    """A teacher of an earlier run as a row of a table: its ``title``, the ``folder`` of its scores in this run's
    workdir, and the clips that it has ``learnt`` from, in words ('' where its file does not tell)."""

    title: str
    folder: str
    learnt: str


def alike(meta: Mapping, how: Mapping, key: str = "") -> bool:
    """Whether scores were made as ``how`` says (a run's ``config.evaluation``, or the meta of other scores), of
    the weights of ``key``. Older files do not tell everything."""
    same = all(meta.get(name) == how[name] for name in ("protocol", "crops"))
    told = [name for name in ("variant", "resize") if name in how]
    same = same and all(meta.get(name, how[name]) == how[name] for name in told)
    return same and (not key or meta.get("key", "") in ("", key))


def paths(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    """Lists the files of scores of a split in a folder, the run's own before those of `mmvid evaluate`."""
    found = (folder / f"{split}.npz", *sorted(folder.glob(f"{split}@*.npz")))
    return [path for path in found if path.exists()]


def _readable(paths: Sequence[pathlib.Path]):
    # A damaged file must not hide a good one beside it.
    for path in paths:
        with contextlib.suppress(ValueError):
            yield file.load(path)


def find(folder: pathlib.Path, split: str, how: Mapping, weights: pathlib.Path) -> Scores | None:
    """Finds the scores of a split in ``folder`` that are made as ``how`` says (`alike`), of the ``weights`` that
    lie in that file now; None where there are none."""
    key = weight_files.metadata(weights).get("key", "") if weights.exists() else ""
    found = [scores for scores in _readable(paths(folder, split)) if alike(scores.meta, how, key)]
    return max(found, key=lambda scores: precedence(scores, key), default=None)


def precedence(scores: Scores, key: str) -> tuple[bool, int]:
    """Ranks several files of scores, which older runs may have left: those of the very weights of ``key`` come
    first, then those of the latest step; the largest counts."""
    return scores.meta.get("key") == key, scores.meta.get("step", 0)


def scores_of(workdir: pathlib.Path, where: Mapping, like: Mapping) -> Scores:
    """Returns the scores of a teacher, {'scores': folder, 'output', 'weights'}, on the split and made in the way
    that the meta ``like`` tells. Raises FileNotFoundError or ValueError, with the command that makes them, where
    there are none."""
    folder, split = workdir / where["scores"], like["split"]
    found = find(folder, split, like, _weights(workdir, where))
    if found is None:
        raise FileNotFoundError(
            f"{folder} has no scores of {split!r} made as these; {_remedy(workdir, folder.parent, like)}"
        )
    return file.only(found, where["output"])


def evaluation(segment: pathlib.Path, split: str, how: Mapping) -> str:
    """Writes the command that scores a segment of a run on a split as ``how`` says (see `alike`)."""
    asked = [f"--splits={split}", f"--segments={segment.name}"]
    asked += [f"--protocol={how['protocol']}", f"--crops={how['crops']}"]
    asked += [f"--config.evaluation.{name}={how[name]}" for name in ("variant", "resize") if name in how]
    return " ".join(["python -m mmvid evaluate", shlex.quote(str(segment.parent)), *asked])


def _remedy(workdir: pathlib.Path, segment: pathlib.Path, like: Mapping) -> str:
    if not (segment.parent / "config.json").exists():
        return "its weights lie in no run's workdir, and without a run nothing can be scored"
    made = evaluation(segment, like["split"], like)
    return f"{made} makes them, and python -m mmvid report {shlex.quote(str(workdir))} then shows them"


def _weights(workdir: pathlib.Path, where: Mapping) -> pathlib.Path:
    # Older notes do not name the file: then it has the name that runs give it.
    return workdir / where.get("weights", pathlib.Path(where["scores"]).parent / "weights.safetensors")


def comes_from_elsewhere(where: Mapping) -> bool:
    """Whether a teacher's scores lie in another run's workdir."""
    return pathlib.Path(where["scores"]).is_absolute()


def is_one(scores: Scores) -> bool:
    """Tells whether scores are those of a teacher that an earlier run has trained."""
    return "imported" in scores.meta


def _learnt(weights: pathlib.Path) -> str:
    """Says which clips the networks of another run's file learnt from, '320 taught'."""
    trained = seen.of_file(weights)["trained"] if weights.exists() else []
    # The first entry is its own, the others are of what it started from.
    return next((f"{own['clips']} {own['split']}" for own in trained), "")


def write(
    workdir: pathlib.Path, teachers: Mapping[str, Mapping], likes: Sequence[Mapping], also: Sequence[Mapping] = ()
) -> tuple[list[Imported], list[str]]:
    """Writes the scores of those ``teachers`` {output: {'scores', ..}} that earlier runs have trained, as if
    each were a segment, made as the metas ``likes`` (one a split) tell, and ``also`` these where they are there.

    Returns their rows, and a line for each that has none, with the reason.
    """
    rows, missing = [], []
    for output, where in teachers.items():
        if not comes_from_elsewhere(where):
            continue
        try:
            found = [_renamed(scores_of(workdir, where, like), output, where) for like in likes]
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"{output} has no row: {error}")
            continue
        for like in also:
            own = find(workdir / where["scores"], like["split"], like, _weights(workdir, where))
            if own is not None:
                found.append(_renamed(file.only(own, where["output"]), output, where))
        rows.append(_written(workdir, output, where, found))
    return rows, missing


def _renamed(scores: Scores, output: str, where: Mapping) -> Scores:
    """Scores of one output under the name that it has as a teacher."""
    meta = {"title": output, "segment": f"imported-{output}", "members": [output], "imported": where["scores"]}
    return scores._replace(
        present={output: scores.present[where["output"]]},
        logits={output: scores.logits[where["output"]]},
        meta=scores.meta | meta,
    )


def _written(workdir: pathlib.Path, output: str, where: Mapping, found: Sequence[Scores]) -> Imported:
    own, source = workdir / f"imported-{output}", pathlib.Path(where["scores"])
    for scores in found:
        file.save(own / "scores" / f"{scores.meta['split']}.npz", scores)
    # What made it and what it takes stand beside it, as for any segment.
    files.write_json(own / "cost.json", files.read_note(source.parent / "cost.json"))
    taken = effort.read(source.parent).get(where["output"])
    files.write_json(own / effort.NAME, {output: taken} if taken else {})
    return Imported(output, own.name, _learnt(_weights(workdir, where)))
