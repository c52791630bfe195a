"""Writes what a build says at its end: counts, a histogram, what was rejected, what to run next."""

import csv
import pathlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from data_prep.manifest import Manifest
from data_prep.readers import CMPL, DISTILL, DMCL, GBLEND, MML, OWN, Reader
from mmvid.data import records
from mmvid.files import whole


class Training(NamedTuple):
    """A configuration that the summary can offer: the modalities that training clips need for it and the ending
    of its workdir. ``learns_from`` says in words what it learns from, for the note that it cannot be offered;
    '' where no such note is wanted. ``spare`` {variant: modalities} have networks of their own, called
    ``network``, that are left out where clips lack them; ``least`` of these must be there. ``heads`` {variant: the
    label spaces that it needs}."""

    config: str
    needs: tuple[str, ...]
    ending: str = ""
    learns_from: str = ""
    spare: Mapping[str, tuple[str, ...]] = {}
    network: str = "{}"
    least: int = 0
    heads: Mapping[str, tuple[str, ...]] = {}


_SPECIALISTS = ("", "own", "nwucla", "uwa3d", "ntu60", "ntu120", "ntu120_mini")
_TEACHERS = {"": ("flow", "audio", "boxes"), "epic100": ("flow", "audio"), "ssv2": ("flow", "boxes"),
             "something_else": ("flow", "boxes")}  # fmt: skip
TRAININGS = (
    Training(MML, ("rgb", "flow"), learns_from="RGB and optical flow"),
    # Most datasets have no depth, and nobody expects it of them.
    Training(DMCL, ("rgb", "depth"), "-dmcl", spare=dict.fromkeys(_SPECIALISTS, ("flow",))),
    Training(
        DISTILL, ("rgb",), "-distill", spare=_TEACHERS, network="teacher_{}", least=1, heads={"": ("noun", "verb")}
    ),
    Training(GBLEND, ("rgb", "audio"), "-gblend"),
    Training(CMPL, ("rgb",), "-cmpl"),
)
# Classes that the histogram shows of a head, and the columns of a full bar.
SHOWN, BAR = 40, 30


def write_rejected(root: pathlib.Path, source: Manifest, reasons: dict[str, str]) -> None:
    """Writes ``root/rejected.csv``: id, split, path and reason of every clip that cannot be used."""
    rows = [(item.id, item.split, item.path, reasons[item.id]) for item in source.items if item.id in reasons]
    with (
        whole(root / "rejected.csv") as path,
        # A path may hold bytes that are no UTF-8.
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        table = csv.writer(file)
        table.writerow(["id", "split", "path", "reason"])
        table.writerows(rows)


def _histogram(info: records.Info) -> Iterator[str]:
    """Yields a line for each class with a bar of its number of clips, up to SHOWN classes of each head."""
    for head, spec in info.heads.items():
        counts = list(zip(info.classes[head], spec["names"]))
        most = max(info.classes[head], default=1) or 1
        yield f"  {head}: {spec['classes']} classes"
        for count, name in counts[:SHOWN]:
            yield f"    {name[:32]:32s} {'#' * round(BAR * count / most):{BAR}s} {count}"
        if len(counts) > SHOWN:
            yield f"    ... and {len(counts) - SHOWN} more; the rarest has {min(info.classes[head])}"


# ---------------------------------------------------------------------------- what to run next
def _command(training: Training, info: records.Info, root: pathlib.Path, reader: Reader) -> str:
    """Writes the command that trains on the dataset at ``root``, quoted for a shell."""
    variant, workdir = reader.variants[training.config], root.resolve().name + training.ending
    config = f"{training.config}:{variant}" if variant else training.config
    words = [f"--config={config}", f"--config.dataset.path={root}", f"--workdir=runs/{workdir}"]
    if without := [training.network.format(modality) for modality in _absent(training, info, reader)]:
        words.append(f"--config.without={','.join(without)}")
    scored = "test" if variant in OWN.values() else reader.scored
    # Without the split that the variant is scored on, the run would end before it begins.
    others = tuple(split for split in ("val", "unseen") if split in info.splits)
    told = "" if scored in info.splits else f' --config.evaluation.splits="{others}"'
    return f"python -m mmvid train {' '.join(map(shlex.quote, words))}{told}"


def _lacking(training: Training, info: records.Info) -> list[str]:
    """Lists the modalities that the training needs and no training clip has."""
    have = info.modalities.get("train", {})
    return [modality for modality in training.needs if not have.get(modality)]


def _absent(training: Training, info: records.Info, reader: Reader) -> list[str]:
    """Lists the modalities that the training can do without and no training clip has."""
    spare = training.spare.get(reader.variants[training.config], ())
    return [modality for modality in spare if not info.modalities.get("train", {}).get(modality)]


def _offered(training: Training, info: records.Info, reader: Reader) -> bool:
    """Tells whether a training is for this dataset, whatever its clips lack: for its label spaces, and with enough
    beside what is left out."""
    if training.config not in reader.variants:
        return False
    variant = reader.variants[training.config]
    left = len(training.spare.get(variant, ())) - len(_absent(training, info, reader))
    return left >= training.least and set(training.heads.get(variant, info.heads)) == set(info.heads)


def _next(info: records.Info, root: pathlib.Path, reader: Reader) -> Iterator[str]:
    """Yields lines with the commands that can be run now, and notes on why others cannot."""
    offered = [training for training in TRAININGS if _offered(training, info, reader)]
    missing = [split for split in ("train", reader.during) if split not in info.splits]
    if offered and missing:
        yield (
            f"note: training reads the splits 'train' and {reader.during!r}, and there is no "
            f"{' and no '.join(missing)} (only {', '.join(sorted(info.splits))}): name some clips so in the "
            "column split, or in folders"
        )
        return
    commands = []
    for training in offered:
        lacking = _lacking(training, info)
        if not lacking:
            commands.append(_command(training, info, root, reader))
        elif training.learns_from:
            hint = ": build without --flow none" if info.settings.get("flow") == "none" else ""
            yield (
                f"note: {training.config} learns from {training.learns_from}; no training clip has "
                f"{' or '.join(lacking)}{hint}"
            )
    for lead, command in zip(("next:", *["  or:"] * len(commands)), commands):
        yield f"{lead} {command}"


# ---------------------------------------------------------------------------- everything
def of(info: records.Info, root: pathlib.Path, reader: Reader, notes: Sequence[str] = ()) -> str:
    """Writes the text that a build ends with: how many of the clips could be used, by split and modality, a
    histogram of the classes, ``notes`` on what was read, and what to run next. ``reader`` is the dataset's row,
    which says what can be trained on it."""
    used, expected = sum(info.splits.values()), sum(info.expected.values())
    lines = [f"{info.name}: {used} of {expected} clips (fingerprint {info.fingerprint})"]
    for split in sorted(info.expected):
        n = info.splits.get(split, 0)
        have = info.modalities.get(split, {})
        parts = ", ".join(f"{m} {c} of {n}" for m, c in have.items() if c)
        lines.append(f"  {split:8s} {n} of {info.expected[split]}: {parts or 'nothing'}")
    lines += _histogram(info)
    if used < expected:
        lines.append(f"  {expected - used} rejected, reasons in {root / 'rejected.csv'}")
    # What is found again in this run stands in the dataset's own notes, too.
    lines += [f"note: {note}" for note in dict.fromkeys((*notes, *info.settings.get("notes", ())))]
    return "\n".join([*lines, *_next(info, root, reader)])
