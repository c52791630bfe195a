"""Ensembles of teachers: what a run has noted of their weights, and their scores added up by these."""

import contextlib
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mmvid import files
from mmvid.methods import distill
from mmvid.scores import combine, effort, file, imported
from mmvid.scores.file import Scores

# In the folder of a segment that learns from teachers: {'gamma', 'scheme', 'weight' (lambda), 'split', 'clips',
# 'weights': {head: {output: weight}}, 'cross_entropy': {head: {output: mean}}, 'outputs': the teachers' names,
# 'teachers': {output: {'scores': folder, 'output', 'weights': file}}}.
NAME = "teachers.json"
# Those of the paper's table 1.
GAMMAS = (30.0, 1.0)
OUTPUT = "ensemble"


def weights(cross_entropy: Mapping[str, Mapping[str, float]], gamma: float) -> dict[str, dict[str, float]]:
    """Weighs teachers in each head: {head: {output: mean cross-entropy}} -> {head: {output: weight}}."""
    found = {}
    for head, own in cross_entropy.items():
        shares = distill.ensemble_weights(np.array([*own.values()], np.float32), gamma=gamma)
        found[head] = dict(zip(own, np.asarray(shares).tolist()))
    return found


def without_effect(note: Mapping) -> bool:
    """Whether lambda is 0, so that a student learns from labels alone."""
    return note.get("weight") == 0


def told(note: Mapping) -> str:
    """Says in words what teachers weigh: 'teachers weighed on 80 clips of held, gamma 1: verb: teacher_rgb 0.31,
    ..'; or that they have no effect."""
    if without_effect(note):
        return "its teachers have no effect, as lambda (method.distillation.weight) is 0"
    each = "; ".join(
        f"{head}: " + ", ".join(f"{output} {weight:.3f}" for output, weight in own.items())
        for head, own in note["weights"].items()
    )
    if note["scheme"] == "weighted":
        held = f"{note['clips']} clips of {note['split']}"
        return f"teachers weighed on {held}, gamma {float(note['gamma']):g}: {each}"
    return f"teachers weighed {'alike' if each else 'example by example'}" + (f": {each}" if each else "")


def of_all(scores: Sequence[Scores]) -> list[str]:
    """Says what the teachers of some scores weigh, each text once; [] where none learnt from any."""
    return list(dict.fromkeys(told(own.meta["teachers"]) for own in scores if "teachers" in own.meta))


def is_one(scores: Scores) -> bool:
    """Tells whether scores are those of an ensemble of teachers."""
    return "teachers" in scores.meta and list(scores.logits) == [OUTPUT]


def _variants(note: Mapping) -> dict[str, dict]:
    """The notes of the ensembles of a segment's teachers, {how they are weighed: note}: those of the paper's
    gammas and of its own, or all alike where nothing was weighed."""
    # Lambda is the student's: what its teachers say does not depend on it.
    note = {name: own for name, own in note.items() if name != "weight"}
    if not note["cross_entropy"]:
        alike = {head: own for head, own in note["weights"].items() if own}
        return {"alike": {**note, "weights": alike}} if alike else {}
    gammas = dict.fromkeys((*GAMMAS, float(note["gamma"])))
    made = {gamma: weights(note["cross_entropy"], gamma) for gamma in gammas}
    return {f"gamma {g:g}": {**note, "scheme": "weighted", "gamma": g, "weights": own} for g, own in made.items()}


def _combined(workdir: pathlib.Path, note: Mapping, like: Mapping) -> Scores:
    """The scores of an ensemble, its teachers' added up, made as the meta ``like`` tells. Raises FileNotFoundError
    or ValueError where one has none, or those of other clips."""
    scores = {output: imported.scores_of(workdir, where, like) for output, where in note["teachers"].items()}
    own = {output: {head: by[output] for head, by in note["weights"].items()} for output in scores}
    # As the student is taught: absent teachers' weights are shared out.
    return combine.combine(scores, own, name=OUTPUT, share_out=True)


def _made(workdir: pathlib.Path, note: Mapping) -> dict:
    """What made an ensemble is what made its first teacher; it has cost nothing of its own."""
    first = next(iter(note["teachers"].values()))
    known = files.read_note((workdir / first["scores"]).parent / "cost.json")
    return {name: known[name] for name in ("code", "machine", "versions") if name in known}


def _effort(workdir: pathlib.Path, note: Mapping) -> dict:
    """What the only output of an ensemble takes: all of its teachers; {} where one has not been counted."""
    found = []
    for where in note["teachers"].values():
        folder = (workdir / where["scores"]).parent
        own = effort.read(folder).get(where["output"])
        # Networks of two segments are two, though their names may be the same.
        found.append(own and {**own, "network": f"{folder} {own['network']}"})
    whole = effort.together(found)
    return {} if whole is None else {OUTPUT: {"network": OUTPUT, **whole}}


def _unshown(segment: str, note: Mapping) -> str:
    """Says why there is no ensemble of a segment's teachers; '' where there is one."""
    if _variants(note):
        return ""
    return (
        f"{segment} has no row for its teachers together: with scheme={note['scheme']} each clip's own label "
        "weighs them, which at test nobody knows"
    )


def write(
    workdir: pathlib.Path,
    segment: str,
    likes: Sequence[Mapping],
    also: Sequence[Mapping] = (),
    *,
    prefix: str = "",
    made: set[str] | None = None,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Writes the scores of the ensembles of a segment's teachers, as if each were a segment, made as the metas
    ``likes`` (one a split) tell, and ``also`` these where they can be.

    Returns them, [(title, folder)], and a line for what cannot be shown, with the reason; nothing where the
    segment learns from no teachers. ``prefix`` goes before titles and folders where a run has several such
    segments; an ensemble that is ``made`` already, of the same teachers with the same weights, is left out, others
    are added to these.
    """
    note, made, found = files.read_note(workdir / segment / NAME), set() if made is None else made, []
    if not note:
        return [], []
    for how, own in _variants(note).items():
        what = json.dumps([own["teachers"], own["weights"]], sort_keys=True)
        if what in made:
            continue
        title, folder = f"{prefix}Teachers, {how}", f"{prefix}ensemble-{how.rpartition(' ')[2]}".replace(" ", "-")
        try:
            scores = [_combined(workdir, own, like) for like in likes]
        except (FileNotFoundError, ValueError) as error:
            return found, [f"{segment} has no row for its teachers together: {error}"]
        scores += _where_possible(workdir, own, also)
        _save(workdir, folder, title, own, scores)
        found.append((title, folder))
        made.add(what)
    return found, list(filter(None, [_unshown(segment, note)]))


def _where_possible(workdir: pathlib.Path, note: Mapping, likes: Sequence[Mapping]) -> list[Scores]:
    found = []
    for like in likes:
        with contextlib.suppress(FileNotFoundError, ValueError):
            found.append(_combined(workdir, note, like))
    return found


def _save(workdir: pathlib.Path, folder: str, title: str, note: Mapping, scores: Sequence[Scores]) -> None:
    meta = {"title": title, "segment": folder, "teachers": {k: v for k, v in note.items() if k != "teachers"}}
    for own in scores:
        file.save(workdir / folder / "scores" / f"{own.meta['split']}.npz", own._replace(meta=own.meta | meta))
    files.write_json(workdir / folder / "cost.json", _made(workdir, note))
    files.write_json(workdir / folder / effort.NAME, _effort(workdir, note))
