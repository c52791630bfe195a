"""A run as its configuration alone describes it, for questions that need no clip: what it costs and how long it
takes. A dataset that is there is opened; of one that is not, what has to be known is assumed, and said."""

import pathlib
from typing import NamedTuple

from mmvid import buckets, sharding, usage
from mmvid.data import records, rules
from mmvid.data.records import Dataset, Info
from mmvid.report import text
from mmvid.run import build, checks
from mmvid.run.build import Run
from mmvid.streams import Head

# Clips of a split whose number nobody knows, and the sides of its pictures, in pixels.
CLIPS = 10_000
HEIGHT, WIDTH = 256, 456


class Outline(NamedTuple):
    """A run that may lack its data: what was ``assumed``, in lines for people, and the splits whose number of
    clips is a guess."""

    run: Run
    assumed: tuple[str, ...] = ()
    guessed: frozenset[str] = frozenset()


def _there(spec) -> bool:
    return records.is_at(spec.path)


def _without_stills(config):
    config = config.copy_and_resolve_references().unlock()
    config.stills.steps = "0"
    return config.lock()


def _spaces(config) -> dict[str, dict]:
    """The label spaces that the configuration names, as a dataset's Info has them. Raises WrongUse where it names
    none: then the dataset alone knows them."""
    if config.heads:
        return {name: {"classes": n, "kind": kind, "names": []} for name, (n, kind) in config.heads.items()}
    command = checks.made_by(config.dataset) or "python -m data_prep.build --folder YOUR_VIDEOS"
    raise usage.WrongUse(
        f"{config.dataset.path} is not there to say its label spaces: make it first\n  {command}\nor name them, "
        "--config.heads=\"{'verb': (20, 'single')}\""
    )


def _splits(config) -> list[str]:
    """The splits that a configuration names and no rule makes."""
    spec = config.evaluation
    named = [
        config.split,
        spec.during,
        *spec.splits,
        *(rule.get("of", "train") for rule in config.subsets.values()),
    ]
    return [split for split in dict.fromkeys(named) if split not in config.subsets]


def _size(rule: rules.Rule, known: dict[str, int], head: Head | None) -> int:
    """About how many clips a rule takes, of splits that have as many as ``known``."""
    left = known[rule.of] - (known[rule.without] if rule.without else 0)
    if rule.per_class is not None:
        return min(left, rule.per_class * head.classes)
    return max(left if rule.share is None else round(rule.share * left), 1)


def _made_up(config, name: str, spec) -> Dataset:
    """Stands in for a dataset that is not there: it has an Info, and no clip."""
    clips = {split: spec.get("clips", {}).get(split, CLIPS) for split in _splits(config)}
    path, heads = buckets.located(spec.path), _spaces(config)
    info = Info(
        name=path.name or name,
        version=records.SCHEMA,
        heads=heads,
        splits=clips,
        expected=clips,
        modalities={},
        fingerprint="",
        height=HEIGHT,
        width=WIDTH,
        fps=12.0,
        settings={},
    )
    return Dataset(path, info)


def _with_subsets(config, datasets: dict[str, Dataset]) -> dict[str, Dataset]:
    """Counts the subsets of ``config.subsets`` as splits of their datasets."""
    spaces = {name: build.label_spaces(dataset.info) for name, dataset in datasets.items()}
    infos = {name: dataset.info for name, dataset in datasets.items()}
    for name, rule in rules.rules(config.subsets, infos, spaces).items():
        own = datasets[rule.dataset].info.splits
        count = {name: _size(rule, own, spaces[rule.dataset].get(rule.head))}
        for key in {rule.dataset, "dataset"}:
            info = datasets[key].info
            info = info._replace(splits=info.splits | count, expected=info.expected | count)
            datasets = datasets | {key: datasets[key]._replace(info=info)}
    return datasets


def _said(spec, dataset: Dataset) -> str:
    """What was assumed of a dataset that is not there."""
    told = spec.get("clips", {})
    counts = [f"{count} {split} clips" for split, count in dataset.info.splits.items() if split in told]
    if guessed := [split for split in dataset.info.splits if split not in told]:
        counts.append(f"(a guess) {CLIPS} each of {text.listed(guessed)}")
    return (
        f"{spec.path} is not there; it is taken to have {text.listed(counts)}, of {HEIGHT} x {WIDTH} pixels. "
        "--config.dataset.clips=\"{'train': 9000}\" says what you know."
    )


def outline(config, workdir: pathlib.Path) -> Outline:
    """Builds the run of a configuration as far as it goes without making a dataset or writing a file.

    Raises WrongUse for a name that nothing has, and where only a dataset that is not there could tell the label
    spaces; ValueError or FileNotFoundError for whatever else cannot work.
    """
    build.check_alone(config, workdir)
    lines, absent = [], [name for name, spec in build.wanted(config).items() if not _there(spec)]
    if "stills" in absent:
        lines.append(f"{config.stills.path} is not there: the segment that learns from stills is left out.")
        config = _without_stills(config)
        absent.remove("stills")
    if not absent:
        return Outline(build.build(config, workdir), tuple(lines))
    datasets, guessed = {}, set()
    for name, spec in build.wanted(config).items():
        datasets[name] = _made_up(config, name, spec) if name in absent else build.open_dataset(spec)
        if name in absent:
            lines.append(_said(spec, datasets[name]))
            guessed |= set(datasets[name].info.splits) - set(spec.get("clips", {}))
    datasets = _with_subsets(config, datasets)
    segments = build.planned(config, datasets)
    with usage.wrong_use():
        mesh = sharding.make_mesh(fsdp=config.mesh.fsdp)
        checks.check_groups(segments, datasets, build.label_spaces)
        checks.check_batches(config, mesh, segments)
    return Outline(Run(config, workdir, mesh, datasets, segments, {}, {}), tuple(lines), frozenset(guessed))
