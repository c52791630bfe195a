"""Shows a dataset as one page: clips in every modality, labels, classes, and what
a build could not use.

    python -m mmvid browse data/mine
    python -m mmvid browse data/mine --config=configs/mml.py:own --draws=4

The page is one file that needs neither a server nor a network, about 15 kB a
clip: films, flow in colours, depth in greys (near is white), boxes drawn, sound
as a spectrogram. Its filters choose by split, label and id. By default the
clips are spread evenly over all splits; --ids names others, as 'mmvid doctor'
does. With --config, each clip is also shown as networks see it in training, in
several draws; --config.NAME=VALUE changes entries of that configuration.
"""

import argparse
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmvid import configuration, usage
from mmvid.commands import datasets
from mmvid.data.records import Dataset
from mmvid.plans.segment import headline_network
from mmvid.report import browse
from mmvid.report.browse import Chosen, Trained
from mmvid.run import build, outline

CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which dataset is shown, which clips of it, and where the page goes."""
    add = parser.add_argument
    add("data", type=usage.on_disk, metavar="DATA", help="the folder of a dataset (--out of data_prep)")
    add("--out", type=usage.on_disk, metavar="FILE", help="the page; default DATA/browse.html")
    add("--clips", type=int, default=32, metavar="N", help="how many; default 32")
    add("--splits", metavar="A,B", help="of these splits alone")
    add("--ids", metavar="A,B", help="these clips, in place of some of all")
    add("--config", metavar="FILE", help="FILE[:VARIANT]: also as its networks see them in training")
    add("--draws", type=int, default=3, metavar="N", help="of each clip, with --config; default 3")


# ---------------------------------------------------------------------------- which clips
def evenly(sizes: Mapping[str, int], count: int) -> dict[str, list[int]]:
    """Chooses ``count`` rows of splits with so many clips, as equally many of each as there are, from its first to
    its last; {split: rows}."""
    found = {}
    # From the smallest on, so that what it lacks is taken from the others.
    for i, (split, size) in enumerate(sorted(sizes.items(), key=lambda own: own[1])):
        share = min(size, count // (len(sizes) - i))
        found[split] = np.linspace(0, size - 1, share).round().astype(int).tolist()
        count -= share
    return {split: found[split] for split in sizes}


def _named(dataset: Dataset, splits: Sequence[str], ids: Sequence[str]) -> dict[str, list[int]]:
    """Finds the rows of clips by their ids. Raises WrongUse for one that no split has, and for none."""
    if not ids:
        raise usage.WrongUse("--ids names no clip: give ids with commas between, or leave it out")
    known = datasets.index_of(dataset, splits)
    if lacking := [name for name in ids if not any(name in own for own in known.values())]:
        raise usage.WrongUse(f"--ids: there is no clip {lacking[0]!r} in {', '.join(splits)} of {dataset.root}")
    wanted = set(ids)
    return {split: [row for row, name in enumerate(own) if name in wanted] for split, own in known.items()}


def _chosen(arguments: argparse.Namespace, dataset: Dataset) -> dict[str, list[int]]:
    sizes = {split: n for split in datasets.splits_of(dataset) if (n := dataset.info.splits[split])}
    splits = [*sizes]
    if arguments.splits is not None:
        splits = usage.chosen("--splits", arguments.splits, sizes, "splits with clips")
    if arguments.ids is not None:
        return _named(dataset, splits, usage.listed(arguments.ids))
    return evenly({split: sizes[split] for split in splits}, arguments.clips)


def _read(dataset: Dataset, chosen: Mapping[str, Sequence[int]]) -> Iterator[Chosen]:
    for split, rows in chosen.items():
        source = dataset.split(split)
        yield from ((split, row, functools.partial(source.__getitem__, row)) for row in rows)


# ---------------------------------------------------------------------------- as networks see them
def trained(text: str, data: pathlib.Path, draws: int, overrides: Sequence[str]) -> Trained:
    """Reads how the configuration FILE[:VARIANT] shows the clips of ``data`` to the network of its headline, when
    that learns last."""
    config = configuration.overridden(
        configuration.read(text), [f"--config.dataset.path={data.as_posix()}", *overrides]
    )
    run = outline.outline(config, pathlib.Path()).run
    name = headline_network(run.config)
    learns = [s for s in run.segments if any(n.name == name and not n.frozen for n in s.networks)]
    segment = learns[-1]
    groups = {name: group for name, group in segment.groups.items() if group.dataset == "dataset"}
    return Trained(groups, tuple(segment.streams.values()), segment.heads, run.config.size, segment.seed, draws)


def _checked(arguments: argparse.Namespace) -> None:
    """Raises WrongUse for numbers that make no sense, and for a configuration that is changed and not named."""
    if arguments.clips < 1 or arguments.draws < 1:
        raise usage.WrongUse("--clips and --draws are 1 or more")
    if arguments.overrides and not arguments.config:
        raise usage.WrongUse(f"{arguments.overrides[0]}: --config=FILE says which configuration it changes")


def execute(arguments: argparse.Namespace) -> None:
    """Writes the page of the dataset."""
    _checked(arguments)
    dataset = datasets.opened(arguments.data)
    own = dataset.root / "browse.html"
    path = arguments.out or own
    reads = [dataset.root, *([pathlib.Path(usage.parted(arguments.config)[0])] if arguments.config else [])]
    datasets.check_target("--out", path, reads, own)
    chosen, how = _chosen(arguments, dataset), None
    if arguments.config:
        how = trained(arguments.config, arguments.data, arguments.draws, arguments.overrides)
    path.parent.mkdir(parents=True, exist_ok=True)
    heads, refused = build.label_spaces(dataset.info), datasets.rejected(dataset.root)
    size = browse.write(path, dataset, _read(dataset, chosen), heads, refused, how, arguments.config or "")
    clips = sum(map(len, chosen.values()))
    print(f"{clips} of {sum(dataset.info.splits.values())} clips, {size / 1000:.0f} kB: {path}")
