"""Inflation: an image network's kernels become those of a network that convolves over time (Carreira and Zisserman
2017, section 2.4; SlowFast's and mmaction2's code)."""

from collections.abc import Mapping

import numpy as np

from mmvid.weights.sources import Found
from mmvid.weights.trees import Path


def flat(placed: Mapping[Path, np.ndarray], wanted: Mapping) -> list[Path]:
    """Returns the paths of kernels [k, k, C, F] in ``placed`` where ``wanted`` has some of [t, k, k, C, F]."""
    return [p for p, v in placed.items() if np.ndim(v) == 4 and p in wanted and len(wanted[p].shape) == 5]


def inflated(kernel: np.ndarray, taps: int) -> np.ndarray:
    """Repeats a kernel [k, k, C, F] ``taps`` times over time and divides it by as much: [taps, k, k, C, F].

    Of equal frames it makes what the kernel makes of one, except where zeros stand before or after the clip.
    """
    kernel = np.asarray(kernel)
    return np.repeat((kernel / taps).astype(kernel.dtype)[None], taps, axis=0)


def over_time(have: Found, wanted: Mapping, source: str) -> Found:
    """Returns ``have`` with every kernel of pictures inflated where ``wanted`` has one of clips.

    Raises ValueError where there is none.
    """
    paths = flat(have.placed, wanted)
    if not paths:
        raise ValueError(
            f"{source}: there is nothing to inflate, as no kernel of pictures in it stands where the model has "
            "one of clips: leave out 'inflated:', or give an image network of the model's kind and depth"
        )
    made = {path: inflated(have.placed[path], wanted[path].shape[0]) for path in paths}
    return have._replace(placed={**have.placed, **made})
