"""Finds copies among the clips of a dataset: those of the same bytes, and those that look alike."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import spatial

from mmvid.data.examine import LIKE, Clip

# The split that is learnt from; all others are for evaluation.
LEARNT = "train"
# Of 255: in films whose sketches vary by less, another brightness cannot be told from another scene.
PLAIN = 8.0
# Training clips that a film is compared with when it may have been mirrored or brightened: those nearest to it.
NEAREST = 8


def same(clips: Iterable[Clip]) -> Iterator[tuple[Clip, Clip]]:
    """Finds clips that are in two splits, by their content: pairs of one and the first that it is equal to, a
    training clip where there is one."""
    groups = collections.defaultdict(list)
    for clip in clips:
        groups[clip.content].append(clip)
    for group in groups.values():
        # A training clip leads: what it is equal to in an evaluation makes a score false.
        first, *rest = sorted(group, key=lambda clip: (clip.split != LEARNT, clip.split, clip.id))
        for clip in rest:
            # One id in both is meant: EPIC's 'unseen' is a part of its 'val'.
            meant = clip.id == first.id and "unseen" in (clip.split, first.split)
            if clip.split != first.split and (first.split == LEARNT or not meant):
                yield clip, first


def alike(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Clip, bool]]:
    """Finds clips of evaluation that look like a training clip whose content is another one: copies that were
    encoded anew or scaled. With each pair, whether it is sure: where the training clip looks like others, too, as
    with a camera that stands still, it may be none."""
    known = [clip for clip in clips if clip.sketch is not None]
    learnt = [clip for clip in known if clip.split == LEARNT]
    if not learnt:
        return
    copied, every = {clip.content for clip in learnt}, np.stack([clip.sketch for clip in learnt])
    # Means of squares differ by no more than their pixels do: whoever is no neighbour in the tree is no copy.
    tree = spatial.KDTree(_coarse(every))

    def around(sketch: np.ndarray, limit: int) -> list[int]:
        """Lists the training clips whose sketches differ by up to ``limit``, the nearest first."""
        near = np.array(tree.query_ball_point(_coarse(sketch[None])[0], limit, p=np.inf), int)
        apart = np.abs(every[near].astype(int) - sketch).max((1, 2, 3))
        return near[np.argsort(apart, kind="stable")][: np.count_nonzero(apart <= limit)].tolist()

    for clip in (clip for clip in known if clip.split != LEARNT and clip.content not in copied):
        if near := around(clip.sketch, LIKE):
            first = learnt[near[0]]
            # What separates a copy is that other clips are farther off.
            others = {learnt[row].content for row in around(first.sketch, 2 * LIKE)} - {first.content}
            yield clip, first, not others


def contradict(clip: Clip, first: Clip) -> bool:
    """Tells whether two clips have labels in one head that have no class in common: what looks alike may then be
    two films of one place."""
    pairs = [(clip.classes[head], first.classes[head]) for head in {*clip.classes} & {*first.classes}]
    return any(one and other and not {*one} & {*other} for one, other in pairs)


def altered(clips: Sequence[Clip]) -> Iterator[tuple[Clip, Clip, str]]:
    """Finds clips of evaluation that look like a training clip once they are mirrored, or made as bright and as
    strong in contrast, or both, and how they differ. None where the training clip looks like others, too."""
    known = [clip for clip in clips if clip.sketch is not None and clip.sketch.std() >= PLAIN]
    learnt = [clip for clip in known if clip.split == LEARNT]
    if not learnt:
        return
    copied, nearest = {clip.content for clip in learnt}, _nearest_of([clip.sketch for clip in learnt])
    for clip in (clip for clip in known if clip.split != LEARNT and clip.content not in copied):
        for way, sketch in (("brightness", clip.sketch), ("mirrored", clip.sketch[:, :, ::-1])):
            rows, apart = nearest(sketch)
            if apart[0] <= LIKE:
                first = learnt[rows[0]]
                others, far = nearest(first.sketch)
                if all(learnt[row].content == first.content for row in others[far <= 2 * LIKE]):
                    yield clip, first, way
                break


def _nearest_of(sketches: Sequence[np.ndarray]) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns a function that lists which of the ``sketches`` are near another one, the nearest first, and by how
    much of 255 they differ at most, once all have the mean 0 and the deviation 1 of a film however bright."""
    every = np.stack(sketches)
    means, strengths = (np.array([f(own) for own in sketches]) for f in (np.mean, np.std))
    tree = spatial.KDTree((_coarse(every) - means[:, None]) / strengths[:, None])

    def nearest(sketch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, strength = sketch.mean(), sketch.std()
        place = (_coarse(sketch[None])[0] - mean) / strength
        rows = tree.query(place, range(1, 1 + min(NEAREST, len(every))), p=np.inf)[1]
        theirs = (every[rows] - means[rows, None, None, None]) / strengths[rows, None, None, None]
        apart = np.abs(theirs - (sketch - mean) / strength).max((1, 2, 3)) * np.maximum(strengths[rows], strength)
        order = np.argsort(apart, kind="stable")
        return rows[order], apart[order]

    return nearest


def _coarse(sketches: np.ndarray) -> np.ndarray:
    """Averages sketches, [N, n, 16, 16], over squares of 8 x 8: [N, n 4]."""
    return sketches.reshape(*sketches.shape[:2], 2, 8, 2, 8).mean((3, 5)).reshape(len(sketches), -1)
