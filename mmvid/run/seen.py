"""Which clips a segment trains on, and which splits it never meets: what its file of weights will tell."""

import functools
from collections.abc import Callable

from mmvid.plans.segment import Segment
from mmvid.run.build import Run
from mmvid.weights import files
from mmvid.weights import seen as seen_lib
from mmvid.weights.seen import Shown


def _shown(run: Run, dataset: str, split: str) -> Shown:
    source = run.datasets[dataset].split(split)
    return Shown(dataset, split, source.info.fingerprint, seen_lib.clips(source.ids()))


def shower(run: Run) -> Callable[[str, str], Shown]:
    """Returns shown(dataset, split), which looks at the ids of each once: of ten million clips it takes some ten
    seconds, and each segment asks. What it keeps of them is eight bytes a clip."""
    return functools.cache(functools.partial(_shown, run))


def of(run: Run, segment: Segment, shown: Callable[[str, str], Shown] | None = None) -> dict:
    """What a segment's networks will have seen when it ends, as `weights.seen.of_clips` says it: its own clips,
    and what anything that it starts from has seen. Teachers count, since students learn what these know.

    ``shown`` is the `shower` that the segments of a run share.
    """
    shown = shown or shower(run)
    trained = dict.fromkeys((group.dataset, group.split) for group in segment.groups.values())
    every = [(name, split) for name, dataset in run.datasets.items() for split in dataset.info.splits]
    own = seen_lib.of_clips((shown(*key) for key in trained), (shown(*key) for key in every))
    # Without a spec nobody knows what it starts from.
    if not segment.spec:
        return own | {"unproven": [f"segment {segment.name!r}"]}
    starts = segment.spec.get("starts", {}).values()
    return seen_lib.joined(own, [_before(run, start) for start in starts])


def _before(run: Run, start: dict) -> dict:
    """What a start has seen. That of a segment is a file of ours: whatever else lies in its place (nothing, a
    damaged file, another's) proves nothing."""
    if not start.get("segment"):
        return seen_lib.of_file(start["file"])
    path = run.workdir / start["segment"] / "weights.safetensors"
    try:
        ours = bool(files.metadata(path))
    except ValueError:
        ours = False
    return seen_lib.of_file(path) if ours else seen_lib.unproven(str(path))
