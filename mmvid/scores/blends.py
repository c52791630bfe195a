"""What G-Blend's probes leave: the losses of every copy before and after, and the weights that these give."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid import files
from mmvid.methods import gblend
from mmvid.scores import file, metrics
from mmvid.scores.file import Scores

# In the folder of a segment that learns by weights, and of the last segment of a probe: `Probe.note`'s.
NAME = "blend.json"
# A segment that compares the trunks of a super-epoch is called after it, and says in a note what they are.
TRUNK, COMPARED = "trunk", "trunk.json"
# Among what a segment starts from: the probe that gives its losses their weights, and no network any.
WEIGHING = "weights"


# ---------------------------------------------------------------------------- one clip's loss
def _in_head(logits: np.ndarray, label: np.ndarray, curve: str, multi: str) -> np.ndarray:
    """The loss, or the error (1 or 0), of each view: [N, V, K], [N] or [N, K] -> [N, V]."""
    n, views, classes = logits.shape
    flat = logits.reshape(-1, classes).astype(np.float64)
    repeated = np.repeat(label, views, axis=0)
    if curve == "error":
        if label.ndim > 1:
            raise ValueError(
                "labels of several classes have no error rate of a clip: --config.method.gblend.curves=loss"
            )
        return 1.0 - metrics.top_k_hits(flat, repeated, 1).reshape(n, views)
    if label.ndim > 1 and multi == "softmax":
        peak = flat.max(-1, keepdims=True)
        log_sum = peak + np.log(np.exp(flat - peak).sum(-1, keepdims=True))
        return (repeated * (log_sum - flat)).sum(-1).reshape(n, views)
    return metrics.cross_entropy(flat, repeated).reshape(n, views)


def of_clips(scores: Scores, output: str, curve: str = "loss", multi: str = "sigmoid") -> np.ndarray:
    """Computes each clip's cross-entropy, or with ``curve`` 'error' its top-1 error, as training has it: the
    mean over its views and over the heads, [N]. ``multi`` names the loss of several labels. It is nan where a clip
    lacks a label or what the output reads, and inf where a score is not finite."""
    values, there = [], scores.present[output].copy()
    for head, label in scores.label.items():
        logits = scores.logits[output][head]
        finite = metrics.finite(logits)
        has = (label >= 0).all(axis=tuple(range(1, label.ndim)))
        # Numbers that are not used may be anything but what raises an error.
        own = _in_head(np.where(finite[:, None, None], logits, 0), np.where(label >= 0, label, 0), curve, multi)
        values.append(np.where(finite, own.mean(1), np.inf))
        there &= has
    return np.where(there, np.mean(values, axis=0), np.nan)


# ---------------------------------------------------------------------------- a probe
def trunk_of(segment: str) -> str:
    """Names the segment that compares what the super-epoch ``segment`` has made of the encoders."""
    return f"{TRUNK}_{segment}"


def how(options: Mapping) -> dict:
    """Returns those of the method's ``options`` that say how weights follow from losses."""
    return {name: options[name] for name in ("curves", "multi", "endpoint", "clamp", "clamp_absolute")}


class Probe(NamedTuple):
    """Where the copies of a network were measured: the ``segments`` that they were trained in, one after another,
    {part of the network: the copy's output}, the splits ``held`` (V) and ``fixed`` (a part T' of the training
    clips)."""

    segments: tuple[str, ...]
    outputs: Mapping[str, str]
    held: str
    fixed: str

    def paths(self, workdir: pathlib.Path, split: str) -> list[pathlib.Path]:
        """Returns the files of scores of a split, that of each moment: before the first step, between segments,
        at the end."""
        before = [workdir / name / "scores" / f"{split}-before.npz" for name in self.segments]
        return [*before, workdir / self.segments[-1] / "scores" / f"{split}.npz"]

    def basis(self, options: Mapping) -> dict:
        """Returns what a `note` is made of, as it says it itself: two with an equal one have equal weights."""
        splits = {"held": self.held, "fixed": self.fixed}
        return {"options": how(options), "probe": list(self.segments), "splits": splits}

    def losses(self, workdir: pathlib.Path, split: str, curve: str, multi: str) -> tuple[np.ndarray, list[int]]:
        """Reads the loss of each clip at each moment, and the steps of these: ([P, H, N], steps). Raises
        FileNotFoundError or ValueError where scores are missing, or of different clips."""
        found, steps, ids = [], [], None
        for path in self.paths(workdir, split):
            scores = file.load(path)
            if ids is not None and scores.id.tolist() != ids:
                raise ValueError(f"{path} is of other clips than the moment before it: delete it and run again")
            ids = scores.id.tolist()
            found.append([of_clips(scores, output, curve, multi) for output in self.outputs.values()])
            steps.append(scores.meta["step"])
        return np.array(found), steps

    def note(self, workdir: pathlib.Path, options: Mapping) -> dict:
        """Makes the weights of a network's parts by the ``options`` of its method, with all that they follow from,
        as plain data: {'weights': {part: weight}, 'heads': {part: {'weight', 'interval', 'gain', 'overfitting',
        'ogr', 'train', 'held'}}, 'steps', 'clips', ..}."""
        (train, steps), (held, _) = (
            self.losses(workdir, split, options["curves"], options["multi"]) for split in (self.fixed, self.held)
        )
        self._check(train, self.fixed)
        self._check(held, self.held)
        means = np.nanmean(train, -1), np.nanmean(held, -1)
        rule = {name: options[name] for name in ("endpoint", "clamp", "clamp_absolute")}
        weights, bounds = gblend.estimate(*means, **rule), gblend.intervals(means[0], held, **rule)
        heads = {
            part: {"output": output, "weight": float(weights[i]), "interval": bounds[i].tolist()}
            | _measured(means[0][:, i], means[1][:, i], steps, rule["endpoint"])
            for i, (part, output) in enumerate(self.outputs.items())
        }
        return {
            "weights": {part: own["weight"] for part, own in heads.items()},
            "source": gblend.ESTIMATE,
            **self.basis(options),
            "clips": {"held": held.shape[-1], "fixed": train.shape[-1]},
            "steps": steps,
            "heads": heads,
        }

    def _check(self, losses: np.ndarray, split: str) -> None:
        """Raises ValueError where the ``losses`` [P, H, N] of a split's clips give no weights."""
        for own, (part, output) in zip(np.moveaxis(losses, 1, 0), self.outputs.items()):
            if np.isnan(own).all():
                raise ValueError(
                    f"{part!r} cannot be weighed: no clip of {split!r} has what it reads. Give weights as "
                    "numbers, --config.method.gblend.weights"
                )
            if np.isinf(own).any():
                raise ValueError(
                    f"{part!r} cannot be weighed: its copy {output!r} diverged, its scores of {split!r} are not "
                    "finite. Lower --config.schedule.lr, or give weights as numbers, "
                    "--config.method.gblend.weights, and another --workdir"
                )


def _measured(train: np.ndarray, held: np.ndarray, steps: list[int], endpoint: str) -> dict:
    """What a head's mean losses at P moments, [P] each, say of it, as plain data: G, dO and OGR up to its end."""
    at = int(gblend.ends(held, endpoint))
    found = gblend.change(train[0], held[0], train[at], held[at])
    return {
        "gain": float(found.gain),
        "overfitting": float(found.overfitting),
        # Strict JSON knows neither inf nor nan.
        "ogr": float(found.ratio) if np.isfinite(found.ratio) and found.gain > 0 else None,
        "end": steps[at],
        "train": train.tolist(),
        "held": held.tolist(),
    }


def least(note: Mapping) -> float:
    """Returns the least that |dO| counted as in a `note` with heads (`gblend.least_overfitting`)."""
    options, heads = note.get("options", {}), note["heads"].values()
    train, held = ([own[split][0] for own in heads] for split in ("train", "held"))
    clamps = {name: options[name] for name in ("clamp", "clamp_absolute") if name in options}
    return float(gblend.least_overfitting(train, held, **clamps))


def unmeasured(weights: Sequence[float], parts: Sequence[str], source: str) -> dict:
    """Makes the note of weights that nothing was measured for; ``source`` says where they come from."""
    return {"weights": dict(zip(parts, map(float, weights))), "source": source}


def offline(folder: pathlib.Path) -> dict:
    """Reads the note of a run's weights, from its folder or from that of a segment; {} where there are none. Those
    of a super-epoch are for its own few steps: of a run the offline ones count."""
    notes = (files.read_note(folder / name / NAME) for name in ("", "gblend"))
    # That of a probe holds several.
    return next((note for note in notes if "weights" in note), {})


def of_run(folder: pathlib.Path, parts: Sequence[str]) -> list[float]:
    """Reads the weights of an earlier run (`offline`) for the ``parts`` of a network here. Raises ValueError where
    there are none, or those of other parts."""
    known = offline(folder).get("weights", {})
    if not known:
        raise ValueError(
            f"weights={folder}: it is neither numbers nor a run with weights (there is no {NAME}): "
            "name the workdir of a run of configs/gblend.py, write numbers, or estimate, equal or learnt"
        )
    if set(known) != set(parts):
        raise ValueError(f"weights={folder}: it weighs {list(known)}, and the network here has {list(parts)}")
    return [known[part] for part in parts]


def told(note: Mapping) -> str:
    """Says in words what heads weigh and why: 'weights estimated on 200 clips of held: flow 0.83 ..'."""
    if "heads" not in note:
        return f"weights, {note['source']}: " + ", ".join(f"{p} {w:.3f}" for p, w in note["weights"].items())
    each = ", ".join(
        "{} {:.3f} [{:.2f}, {:.2f}]".format(part, own["weight"], *own["interval"])
        for part, own in note["heads"].items()
    )
    return f"weights estimated on {note['clips']['held']} clips of {note['splits']['held']}: {each}"
