"""What large datasets cost, computed from what was measured: the tables of docs/scale.md.

    python -m benchmarks.scale

Constants stand here alone, each with where it is from; `tests/test_benchmarks.py` holds the page to them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Dataset(NamedTuple):
    """A dataset: its clips, those to learn from, and the frames of a clip."""

    name: str
    clips: int
    train: int
    frames: int


DATASETS = (
    Dataset("Something-Something v2", 220_847, 168_913, 41),  # 9 million frames in all (data_prep/README.md)
    Dataset("Kinetics-400", 260_139, 240_258, 300),  # ten seconds at 30 frames a second
    Dataset("ten million clips", 10_000_000, 10_000_000, 300),  # each like one of Kinetics
)

# python -m benchmarks.preparation, 340x256, a core of two busy ones: seconds and bytes of a frame, and of a pair.
RGB = {"JPEG": (0.0025, 45_600), "mp4": (0.0100, 4_800)}
FLOW = {"DIS": 0.0144, "TV-L1, fast": 0.156, "TV-L1": 0.377}
PLANES = {"PNG": 8_200, "JPEG": 5_000}
# TV-L1's default preset on one H100, from and to the host, 256x456 (docs/measured.md); work goes by pixels.
GPU_PAIRS = 681 * (256 * 456) / (256 * 340)
# python -m benchmarks.loader: clips a second of one core, 8 frames, crops of 224 and of 112.
LOADED = {("RGB", 224): 80.2, ("RGB and flow", 224): 28.2, ("RGB", 112): 168.6, ("RGB and flow", 112): 74.9}


class Step(NamedTuple):
    """A joint step of two networks, RGB and flow, on one H100 in bfloat16 (docs/measured.md): clips a second."""

    networks: str
    side: int
    clips: float


STEPS = (
    Step("TSM-R18, 8x112x112", 112, 3331),
    Step("TSM-R50, 8x224x224", 224, 325),
    Step("R(2+1)D-18, 8x112x112", 112, 599),
    Step("ir-CSN-50, 8x224x224", 224, 239),
)

# In passes of a joint step over the training clips, of 50 epochs each. Assumed: a forward is a third of a step,
# one network half of two. Validation and tests are left out.
METHODS = {
    "each alone (CE)": 1.0,
    "DMCL, from scratch": 1.0,
    "MML: CE, then MML": 2.0,
    "distillation: two teachers, then an RGB student": 1 + 1 / 2 + 1 / 3,
    "G-Blend, offline: a probe of copies and the joint one, then the joint one": 2.0 + 1.0,
    "FixMatch, RGB, a labelled clip for three others": (1 + 1 / 3 + 1 / 3) / 2,
}
EPOCHS = 50


def hours(seconds: float) -> str:
    """A time in hours, with two digits that count."""
    return f"{float(f'{seconds / 3600:.2g}'):,.10g}"


def terabytes(size: float) -> str:
    """A size in terabytes, with two digits that count."""
    return f"{float(f'{size / 1e12:.2g}'):,.10g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _frames(dataset: Dataset) -> int:
    return dataset.clips * dataset.frames


def _pairs(dataset: Dataset) -> int:
    return dataset.clips * (dataset.frames - 1)


def preparation() -> Iterator[str]:
    """Hours of one core for phase 1, without and with flow, and hours of an H100 for TV-L1."""
    rows = [
        [d.name, hours(_frames(d) * RGB["JPEG"][0])]
        + [hours(_frames(d) * RGB["JPEG"][0] + _pairs(d) * seconds) for seconds in FLOW.values()]
        + [hours(_pairs(d) / GPU_PAIRS)]
        for d in DATASETS
    ]
    head = ["core-hours", "RGB alone", *(f"with {name}" for name in FLOW), "TV-L1 on one H100, GPU-hours"]
    yield from _table(head, rows)


def storage() -> Iterator[str]:
    """Terabytes of RGB and flow by how they are kept."""
    rows = [
        [d.name]
        + [terabytes(_frames(d) * size) for _, size in RGB.values()]
        + [terabytes(_pairs(d) * size) for size in PLANES.values()]
        for d in DATASETS
    ]
    head = ["TB", *(f"RGB as {name}" for name in RGB), *(f"flow (TV-L1) as {name}" for name in PLANES)]
    yield from _table(head, rows)


def loader() -> Iterator[str]:
    """Cores that make batches as fast as one H100 learns from them."""
    rows = [
        [s.networks, f"{s.clips:,.0f}"]
        + [f"{math.ceil(s.clips / LOADED[streams, s.side]):,}" for streams in ("RGB", "RGB and flow")]
        for s in STEPS
    ]
    yield from _table(["a joint step", "clips/s", "cores, RGB alone", "cores, RGB and flow"], rows)


def training() -> Iterator[str]:
    """GPU-hours of a method's `EPOCHS` epochs, with TSM-R50."""
    step = STEPS[1]
    rows = [
        [f"{method} ({passes:.2g}x)"] + [hours(d.train * EPOCHS * passes / step.clips) for d in DATASETS]
        for method, passes in METHODS.items()
    ]
    yield from _table(["GPU-hours", *(d.name for d in DATASETS)], rows)


TABLES = {"Preparation": preparation, "Storage": storage, "Loader": loader, "Training": training}


def main() -> None:
    """Prints the tables."""
    for title, table in TABLES.items():
        print(f"## {title}\n", *table(), "", sep="\n")


if __name__ == "__main__":
    main()
