"""What data_prep says of a dataset: counts, a histogram, what was rejected, what to run next."""

import csv
import pathlib
import shlex
from collections.abc import Iterator, Sequence

from data_prep.manifest import Manifest
from data_prep.readers import ntu
from mmvid.data import records

# Those that configs/dmcl.py has a variant for.
WITH_DEPTH = ("nwucla", "uwa3d", *ntu.ACTIONS)


def write_rejected(root: pathlib.Path, source: Manifest, reasons: dict[str, str]) -> None:
    """Writes ``root/rejected.csv``: id, split, path and reason of every clip that cannot be used."""
    with (root / "rejected.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["id", "split", "path", "reason"])
        for item in source.items:
            if item.id in reasons:
                table.writerow([item.id, item.split, item.path, reasons[item.id]])


def _histogram(info: records.Info) -> Iterator[str]:
    for head, spec in info.heads.items():
        counts = list(zip(info.classes[head], spec["names"]))
        top = max([c for c, _ in counts], default=1) or 1
        yield f"  {head}: {spec['classes']} classes"
        for count, name in counts[:40]:
            yield f"    {name[:32]:32s} {'#' * round(30 * count / top):30s} {count}"
        if len(counts) > 40:
            yield f"    ... and {len(counts) - 40} more; the rarest has {min(counts)[0]}"


def _variant(info: records.Info) -> str:
    """Of configs/dmcl.py: 'ntu120_mini' of 'ntu120_mini-1', '' of Tabletop."""
    dataset = info.name.split("-")[0]
    return f":{dataset}" if dataset in WITH_DEPTH else "" if dataset == "tabletop" else ":own"


def has_depth(info: records.Info) -> bool:
    """Whether any clip has depth."""
    return any(have.get("depth") for have in info.modalities.values())


def _command(config: str, info: records.Info, root: pathlib.Path, workdir: str) -> str:
    words = [f"--config={config}", f"--config.dataset.path={root}", f"--workdir=runs/{workdir}"]
    # The variant of SSv2 is scored on val by itself.
    val = "test" not in info.splits and info.name != "ssv2"
    told = " --config.evaluation.splits=\"('val',)\"" if val else ""
    return f"python -m mmvid.main {' '.join(map(shlex.quote, words))}{told}"


def _has(info: records.Info, *modalities: str) -> bool:
    return all(info.modalities.get("train", {}).get(modality) for modality in modalities)


def _next(info: records.Info, root: pathlib.Path) -> Iterator[str]:
    """The commands that can be run now, and why others cannot."""
    if info.name == "tabletop-stills":
        return
    if missing := [split for split in ("train", "val") if split not in info.splits]:
        yield (
            f"note: training reads the splits 'train' and 'val', and there is no {' and no '.join(missing)} (only "
            f"{', '.join(sorted(info.splits))}): name some clips so in the column split, or in folders"
        )
        return
    own = "" if info.name.startswith("tabletop") else ":own"
    name, commands = root.resolve().name, []
    if _has(info, "rgb", "flow"):
        variant = ":ssv2" if info.name == "ssv2" else own
        commands.append(_command(f"configs/mml.py{variant}", info, root, name))
    else:
        lacking = " or ".join(m for m in ("rgb", "flow") if not _has(info, m))
        hint = ": build without --flow none" if info.settings.get("flow") == "none" else ""
        yield f"note: configs/mml.py learns from RGB and optical flow; no training clip has {lacking}{hint}"
    if _has(info, "rgb", "depth"):
        commands.append(_command(f"configs/dmcl.py{_variant(info)}", info, root, f"{name}-dmcl"))
    for lead, command in zip(("next:", "  or:"), commands):
        yield f"{lead} {command}"


def of(info: records.Info, root: pathlib.Path, notes: Sequence[str] = ()) -> str:
    """N of M clips, per split and modality, a class histogram, ``notes`` on what was read, and what to run
    next."""
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
    lines += [f"note: {note}" for note in dict.fromkeys((*notes, *info.settings.get("notes", ())))]
    return "\n".join([*lines, *_next(info, root)])
