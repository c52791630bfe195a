"""The teachers of a plan: where each comes from, the proof that it never saw the clips on which it is weighed, and
what it weighs."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mmvid import files, usage
from mmvid.logs import LOG
from mmvid.network import Beginning
from mmvid.plans import keys
from mmvid.plans import starts as starts_lib
from mmvid.scores import ensembles, imported, numbers
from mmvid.scores import file as file_lib
from mmvid.scores.file import Scores
from mmvid.weights import files as weight_files
from mmvid.weights import seen


class Teacher(NamedTuple):
    """A teacher: the ``output`` that teaches, its ``network``, and where that was trained: a ``segment`` of this
    run, or a ``file`` of an earlier one ('path#network')."""

    output: str
    network: str
    segment: str = ""
    file: str = ""

    def weights(self, workdir: pathlib.Path) -> pathlib.Path:
        """Returns the path of the file that holds its weights."""
        return weight_files.split(self.file)[0] if self.file else workdir / self.segment / "weights.safetensors"

    @property
    def scored(self) -> str:
        """Returns the name that its output has where it was trained."""
        own = weight_files.split(self.file)[1] if self.file else ""
        return (own or self.network) + self.output.removeprefix(self.network)


def trained(config, network: str, heads) -> str:
    """Returns the file ('path#network') in which a teacher comes trained; '' where it is to be trained here.

    ``config.networks.NETWORK.weights`` is such a file, or the workdir of such a run, where a run with these label
    spaces has written it; any other file is what the teacher starts from. Raises ValueError for a folder in which
    the network is not found, or is found twice.
    """
    source = config.networks[network].weights
    if not isinstance(source, str) or not source:
        return ""
    path, name = weight_files.split(source)
    if path.is_dir():
        path = _in_run(path, network)
    if not starts_lib.same_heads(path, heads):
        return ""
    networks = _networks(path)
    return f"{path}#{name or (networks[0] if len(networks) == 1 else network)}"


def _networks(path: pathlib.Path) -> list[str]:
    # What is in it: the metadata name frozen teachers as well.
    return list(weight_files.parameters(path))


def _in_run(folder: pathlib.Path, network: str) -> pathlib.Path:
    """The file of weights in a workdir, or in the folder of one of its segments, that holds a network."""
    found = [path for path in _files(folder) if network in _networks(path)]
    if len(found) == 1:
        return found[0]
    option = f"--config.networks.{network}.weights"
    if found:
        several = " and ".join(str(path) for path in found)
        raise ValueError(f"{option}={folder} has {network!r} in {several}: name one of these files")
    there = [f"{path}#{name}" for path in _files(folder) for name in _networks(path)]
    if not there:
        raise ValueError(
            f"{option}={folder} holds no weights.safetensors: name the workdir of a run that has ended"
        )
    raise ValueError(
        f"{option}={folder} has no network {network!r}; there are {', '.join(there)}: name one of them, "
        f"as in {option}={there[0]}"
    )


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted({*folder.glob("weights.safetensors"), *folder.glob("*/weights.safetensors")})


# ---------------------------------------------------------------------------- the proof
def check(config, teachers: Sequence[Teacher], starts: Mapping) -> Callable:
    """Returns a ``check(run)`` of a segment that learns from ``teachers``, which begin with ``starts``: whatever
    would keep them from being weighed on ``config.teachers.held`` is found before anything is trained.

    It raises ValueError for a teacher that learns from such clips, or starts from weights that have seen any, or
    cannot prove that they have not, and FileNotFoundError for one without scores of them.
    """

    def checked(run) -> None:
        held, ids = config.teachers.held, _ids(run, config.teachers.held)
        if any(teacher.segment for teacher in teachers):
            own = set(_ids(run, config.teachers.split)) & ids
            if own:
                raise usage.WrongUse(
                    f"teachers learn from {config.teachers.split!r}, which has {len(own)} of the {len(ids)} clips "
                    f"of {held!r}, on which they are weighed. Set teachers.split to a subset without them: "
                    f"c.subsets.NAME = dict(of={config.split!r}, without={held!r})"
                )
        for teacher in teachers:
            if teacher.file:
                _prove(teacher.output, teacher.file, held, ids)
                _held_scores(run, teacher, held, ids)
            else:
                _check_start(run, teacher, starts, held, ids)

    return checked


def _ids(run, split: str) -> set[str]:
    return set(run.datasets["dataset"].split(split).ids())


def _check_start(run, teacher: Teacher, starts: Mapping, held: str, ids: set[str]) -> None:
    """Raises ValueError where what a teacher will start from has seen the held clips, or cannot prove that it has
    not. What nobody of ours has trained, such as ImageNet's weights, is taken to have seen none."""
    for target, start in starts.items():
        if target.partition(".")[0] != teacher.network:
            continue
        path = start.file or str(run.workdir / start.segment / "weights.safetensors")
        # An earlier segment of this run that has not ended tells what it has seen when it has: `weigh` asks.
        file, _ = weight_files.split(path)
        # A file of ours that started from a published one has itself seen clips, too.
        if not file.is_file() or str(file) in seen.of_file(path)["published"]:
            continue
        _prove(f"what {teacher.output} starts from", path, held, ids)


def _prove(what: str, path: str | pathlib.Path, held: str, ids: set[str]) -> None:
    if seen.saw(path, held, ids, published=True):
        raise ValueError(
            f"{what}, {path}, was trained on clips of {held!r}, on which teachers are weighed, or started from "
            "weights that were: it would look better than it is. Train it without them (this plan does, where no "
            f"file is given), or weigh all alike: --config.method.distillation.scheme=equal"
        )


# ---------------------------------------------------------------------------- what they weigh
def _held_scores(run, teacher: Teacher, held: str, ids: set[str]) -> Scores:
    """The scores of a teacher on the held clips, as its run has left them, or `mmvid evaluate` has added them.
    Raises FileNotFoundError where there are none, ValueError where they are of other clips."""
    spec, weights = run.config.evaluation, teacher.weights(run.workdir)
    folder, again = weights.parent / "scores", imported.evaluation(weights.parent, held, spec)
    paths = imported.paths(folder, held)
    if not paths:
        raise FileNotFoundError(
            f"no scores of {teacher.output!r} on {held!r} at {folder / held}.npz: make them with {again}, or "
            "weigh all teachers alike, --config.method.distillation.scheme=equal"
        )
    key = weight_files.metadata(weights).get("key", "") if weights.exists() else ""
    fingerprint = run.datasets["dataset"].split(held).info.fingerprint
    found, wrong = [], []
    for path in paths:
        try:
            found.append(_fitting(path, teacher, spec, key, ids, fingerprint))
        except ValueError as error:
            wrong.append(f"{path}: {error}")
    if not found:
        # What a run lacks of its own, it makes.
        cure = (
            f"Delete {folder / held}.npz, and the same command makes it again"
            if teacher.segment
            else f"Score again with {again}"
        )
        raise ValueError(f"{'; '.join(wrong)}. {cure}")
    return max(found, key=lambda scores: imported.precedence(scores, key))


def _fitting(path: pathlib.Path, teacher: Teacher, spec, key: str, ids: set[str], fingerprint: str) -> Scores:
    """Reads the scores of a teacher from ``path``. Raises ValueError, which does not name that file, where they
    are not those of the weights of ``key`` on the clips ``ids``, made as ``spec`` says."""
    try:
        scores = file_lib.load(path)
    except ValueError:
        raise ValueError("damaged, or no file of scores") from None
    if not imported.alike(scores.meta, spec, key):
        raise ValueError("scored in another way than this run's, or with other weights than the teacher has now")
    if set(scores.id.tolist()) != ids or scores.meta.get("fingerprint") != fingerprint:
        raise ValueError(
            f"scores of other clips than the {len(ids)} that teachers are weighed on here; its run must have the "
            "same data and subset"
        )
    return file_lib.only(scores, teacher.scored)


def _cross_entropy(run, teacher: Teacher, held: str, ids: set[str], heads) -> dict[str, float]:
    """{head: mean cross-entropy} of a teacher on the held clips. Raises ValueError where it has none."""
    scores = _held_scores(run, teacher, held, ids)
    found = {head: numbers.cross_entropy(scores, teacher.scored, head) for head in heads}
    if bad := [head for head, value in found.items() if value is None or not np.isfinite(value)]:
        raise ValueError(
            f"teacher {teacher.output!r} cannot be weighed: no clip of {held!r} has what it reads, or its scores "
            f"of {bad[0]!r} are not finite. Leave it out of --config.method.distillation.teachers"
        )
    return found


def weigh(run, teachers: Sequence[Teacher], heads, *, gamma: float) -> dict:
    """Weighs teachers by their cross-entropies on ``config.teachers.held``, as plain data for `ensembles.NAME`.

    Each file of weights must prove that no clip of it was seen. Raises ValueError or FileNotFoundError as `check`.
    """
    held = run.config.teachers.held
    ids = _ids(run, held)
    for teacher in teachers:
        _prove(teacher.output, teacher.file or teacher.weights(run.workdir), held, ids)
    errors = {teacher.output: _cross_entropy(run, teacher, held, ids, heads) for teacher in teachers}
    found = {head: {output: own[head] for output, own in errors.items()} for head in heads}
    weights = ensembles.weights(found, gamma)
    return {"split": held, "clips": len(ids), "weights": weights, "cross_entropy": found}


def _unweighed(teachers: Sequence[Teacher], heads, scheme: str) -> dict:
    """The same of teachers that nothing is weighed on: all alike, or example by example, which leaves none."""
    one = {teacher.output: 1 / len(teachers) for teacher in teachers}
    weights = {head: dict(one) for head in heads} if scheme == "equal" else {}
    return {"split": "", "clips": 0, "weights": weights, "cross_entropy": {}}


def weighing(enter: Callable, segment: str, teachers: Sequence[Teacher], heads, options: Mapping) -> Callable:
    """Returns ``enter`` followed by the weighing of ``teachers``: the weights go into the method's state and, with
    what they were made from, into ``segment``'s `ensembles.NAME`."""
    gamma, scheme = options["gamma"], options["scheme"]

    @starts_lib.afresh
    def weighed(beginning: Beginning, run) -> Beginning:
        if scheme == "weighted":
            own = weigh(run, teachers, heads, gamma=gamma)
        else:
            own = _unweighed(teachers, heads, scheme)
        for teacher in (t for t in teachers if t.file):
            LOG.info("%s comes trained, from %s", teacher.output, teacher.file)
        if jax.process_index() == 0:
            where = {t.output: _where(run, t) for t in teachers}
            # Strict JSON knows no infinity.
            note = {"gamma": gamma if np.isfinite(gamma) else str(gamma), "scheme": scheme}
            note |= own | {"weight": options["weight"], "outputs": list(where), "teachers": where}
            files.write_json(run.workdir / segment / ensembles.NAME, note)
            LOG.info("%s: %s", segment, ensembles.told(note))
        if scheme == "per_sample":
            return beginning
        weights = {head: np.array([*found.values()], np.float32) for head, found in own["weights"].items()}
        return beginning._replace(method={"weights": weights})

    return starts_lib.in_turn(enter, weighed)


def _where(run, teacher: Teacher) -> dict[str, str]:
    """Where a teacher's scores and weights lie, and under which name."""
    path = teacher.weights(run.workdir)
    # A run that is moved takes its own segments along.
    path = path.relative_to(run.workdir) if teacher.segment else path.absolute()
    return {"scores": str(path.parent / "scores"), "output": teacher.scored, "weights": str(path)}


def spec(config) -> dict:
    """The plain data that weights follow from, beside the teachers themselves: on which clips they are scored, and
    how."""
    how = {name: config.evaluation[name] for name in ("protocol", "variant", "crops", "resize")}
    return keys.plain({"held": config.teachers.held, "rules": config.subsets, "scored": how})
