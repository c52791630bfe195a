"""Tables: what a number looks like, which rows and columns there are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


class Column(NamedTuple):
    """A column of the table: its title, the segment it is of, and that segment's scores by split. ``parts`` are
    the names of the segments that it went on from, the first one first, and its own last; () where it began
    by itself."""

    title: str
    segment: str
    scores: dict[str, Scores]
    parts: tuple[str, ...] = ()


def percent(value: float | None) -> str:
    """Writes a fraction in percent, as '62.1'; '-' where it is undefined."""
    return "-" if value is None else f"{100 * value:.1f}"


def _both(*values: float | None) -> str:
    """Writes fractions in percent beside each other, as '62.1 / 91.3'; '-' where all are undefined."""
    return " / ".join(map(percent, values)) if any(v is not None for v in values) else "-"


def _cell(numbers: dict | None) -> str:
    """Writes '62.1 [59.0, 65.2] / 91.3' (top-1 with its interval, top-5) for single labels, 'mAP / mAUC' for
    labels of several classes, and '-' where there are no ``numbers``."""
    if numbers is None:
        return "-"
    if "map" in numbers:
        return _both(numbers["map"], numbers["mauc"])
    low, high = numbers["top1_interval"]
    text = f"{percent(numbers['top1'])} [{percent(low)}, {percent(high)}]"
    return text + (f" / {percent(numbers['top5'])}" if numbers.get("top5") is not None else "")


def _clip_cell(numbers: dict | None) -> str:
    # Heads taken together ('noun + verb') have a top-1 alone, and so no numbers of single views.
    if numbers is None or "clip_top1" not in numbers:
        return "-"
    five = "" if numbers["clip_top5"] is None else f" / {percent(numbers['clip_top5'])}"
    return f"{percent(numbers['clip_top1'])}{five}; {percent(numbers['ece'])}"


def _lost_cell(numbers: dict | None) -> str:
    count = (numbers or {}).get("not_finite", 0)
    return f"{count} of {numbers['n']}" if count else "-"


def _measures(numbers: Sequence[dict | None]) -> dict[str, list[str]]:
    """Returns {measure: the texts of all columns} for one output and head; ``numbers`` has an entry for each
    column. Top-5 is left out where there are five classes or fewer."""
    five = " / top-5" if any(n and n.get("top5") is not None for n in numbers) else ""
    if any(n and "map" in n for n in numbers):
        forms = {"video mAP / mAUC": _cell}
    else:
        forms = {f"video top-1 [95 %]{five}": _cell, f"clip top-1{five}; ECE": _clip_cell}
    forms["misses: scores not finite"] = _lost_cell
    return {name: [form(n) for n in numbers] for name, form in forms.items()}


def _difference(scores: Scores, base: Scores, output: str, head: str, how: str) -> str:
    """Writes the difference in top-1 to the baseline on the same labelled clips as '+2.5 [-0.4, +5.4]', in points
    with a 95 % interval; '-' where the two cannot be paired."""
    scores, base = file.labelled(scores), file.labelled(base)
    # Two sums over different outputs are different things, though both are called 'fused'.
    alike = file.members(scores) == file.members(base) if output == "fused" else output in base.logits
    if not alike or scores.id.tolist() != base.id.tolist():
        return "-"
    # Labels of several classes have no hit or miss that could be paired by clip.
    if " + " not in head and scores.label[head].ndim > 1:
        return "-"
    pair = (numbers_lib.hits(s, output, head, 1, how) for s in (scores, base))
    mean, low, high = metrics.paired_interval(*pair)
    return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _key(scores: Scores, name: str) -> str:
    """Names the output of ``scores`` that belongs into the row ``name``: 'fused' where the row is the sum of
    exactly its members ('flow + rgb'), else ``name`` itself."""
    members = file.members(scores)
    return "fused" if name == " + ".join(members) and len(members) > 1 else name


def rows(
    columns: Sequence[Column], split: str, *, baseline: str = "", how: str = "logits"
) -> list[dict]:
    """Makes the table of a split: a dict for each row, of output (with its head), measure and cells (a text for
    each column).

    The measures are video top-1 with its 95 % interval and top-5, or mAP and mAUC; clip top-1, top-5 and the
    calibration error; the number of clips whose scores are not finite; and the paired difference of top-1 to
    the column whose segment is ``baseline``. A row that is a sum, named by its members, also says how often
    any of these is right.
    """
    there = [c.scores[split] for c in columns if split in c.scores]
    segments = [c.segment for c in columns if split in c.scores]
    summaries = [numbers_lib.summary(s, how) for s in there]
    single = list(dict.fromkeys(o for s in there for o in s.logits))
    # By its members, as columns may sum different ones: sums that differ do not share a row.
    fused = list(dict.fromkeys(" + ".join(file.members(s)) for s in there if len(file.members(s)) > 1))
    base = next((s for s, name in zip(there, segments) if name == baseline), None)
    over = next((f"top-1 over {c.title}" for c in columns if c.segment == baseline), "")
    table = []
    for output in single + fused:
        keys = [_key(s, output) for s in there]
        found = [summary.get(key, {}) for summary, key in zip(summaries, keys)]
        heads = list(dict.fromkeys(head for numbers in found for head in numbers))
        for head in heads:
            numbers = [n.get(head) for n in found]
            measures = _measures(numbers)
            first = next(iter(measures))
            if base is not None:
                measures[over] = [
                    "" if n is None or name == baseline
                    else _difference(s, base, key, head, how)
                    for s, name, key, n in zip(there, segments, keys, numbers)
                ]  # fmt: skip
            if output in fused:
                measures["oracle top-1 (any of them)"] = [
                    percent(s["oracle"][head]) if key == "fused" and head in s.get("oracle", {}) else "-"
                    for s, key in zip(summaries, keys)
                ]
            name = output + (f" ({head})" if len(heads) > 1 else "")
            # A measure that no column has is left out, but the first one stays: it shows that there is nothing.
            table += [
                {"output": name, "measure": m, "cells": c}
                for m, c in measures.items() if m == first or set(c) - {"-", ""}
            ]  # fmt: skip
    return table


def _outputs(columns: Sequence[Column], split: str, headline: str) -> list[str]:
    """Lists the outputs of all columns, the headline first."""
    found = {o for c in columns if split in c.scores for o in c.scores[split].logits}
    return sorted(found, key=lambda o: (o != headline, o))


def value(numbers: dict | None) -> str:
    """Writes top-1 as '62.1' or mAP as 'mAP 35.9'; '-' where it is undefined."""
    if numbers is None:
        return "-"
    if "top1" in numbers:
        return percent(numbers["top1"])
    return "-" if numbers["map"] is None else f"mAP {percent(numbers['map'])}"


def overview(columns: Sequence[Column], split: str, headline: str, how: str = "logits") -> list[dict]:
    """Makes the table as multimodal papers print it, with modalities as columns (DMCL's tables 1 and 2).

    Each column of the run becomes a row {'title', 'cells': {output, 'sum' or 'oracle': text}}; the result is
    [] where none has several outputs. Where there are several heads, the numbers are those of all heads of
    single labels together ('noun + verb'), or else of the first head.
    """
    found, there = [], [c.scores[split] for c in columns if split in c.scores]
    widest = max((len(file.members(s)) for s in there), default=0)
    for column in columns:
        scores = column.scores.get(split)
        if scores is None or len(scores.logits) < 2:
            continue
        numbers = numbers_lib.summary(scores, how)
        heads = list(next(iter(numbers.values()), {"": None}))
        head = heads[-1] if " + " in heads[-1] else heads[0]
        cells = {o: value(numbers.get(o, {}).get(head)) for o in _outputs([column], split, headline)}
        # Where a frozen teacher has no scores, a sum would be one of other members.
        whole = len(file.members(scores)) == widest > 1
        cells["sum"] = value(numbers.get("fused", {}).get(head) if whole else None)
        if head in numbers.get("oracle", {}):
            cells["oracle"] = percent(numbers["oracle"][head]) if whole else "-"
        found.append({"title": column.title, "cells": cells})
    return found


def overview_text(columns: Sequence[Column], split: str, headline: str, how: str = "logits") -> str:
    """Writes `overview` as aligned text; '' where it has no rows."""
    found = overview(columns, split, headline, how)
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found for name in row["cells"]))
    body = [["", *names]] + [[r["title"], *(r["cells"].get(n, "-") for n in names)] for r in found]
    several = any(text.startswith("mAP") for row in found for text in row["cells"].values())
    return f"{split}, {'mAP' if several else 'top-1'}\n" + aligned(body)


def aligned(body: list[list[str]], right: int | None = None) -> str:
    """Sets rows of texts in columns, with a line below the first row. The columns from number ``right`` on are
    flush right, those before it (all, where it is None) flush left."""
    widths = [max(len(line[i]) for line in body) for i in range(len(body[0]))]
    left = len(widths) if right is None else right
    lines = [
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in body
    ]
    lines = [line.rstrip() for line in lines]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]])


def fraction(numbers: dict | None) -> float:
    """Returns top-1 or mAP as a fraction; NaN, which figures leave out, where it is undefined."""
    value = (numbers or {}).get("top1", (numbers or {}).get("map"))
    return np.nan if value is None else value


def denominators(scores: Scores) -> str:
    """Says of how many clips, by which protocol and on which data the scores are: the line above a table."""
    # A percentage without these can be compared with nothing.
    meta = scores.meta
    return (
        f"{meta['split']}: {meta['clips_used']} of {meta['clips_expected']} clips, "
        f"{meta['views']} view(s), protocol {meta['protocol']}, crop {meta['crops']}, "
        f"{meta['dataset']} ({meta['fingerprint']})"
        + (f", best checkpoint (step {meta['step']})" if meta.get("checkpoint") == "best" else "")
    )


def table(
    columns: Sequence[Column], split: str, *, baseline: str = "", how: str = "logits"
) -> str:
    """Writes `rows` as aligned text, below the line of `denominators`."""
    there = [c for c in columns if split in c.scores]
    body = [["", ""] + [c.title for c in there]]
    last = None
    for row in rows(columns, split, baseline=baseline, how=how):
        name = row["output"] if row["output"] != last else ""
        last = row["output"]
        body.append([name, row["measure"], *row["cells"]])
    return denominators(there[-1].scores[split]) + "\n" + aligned(body)


def published_outputs(columns, split: str, headline: str, published) -> list[str]:
    """Lists the columns of the overview: the run's outputs, those that the paper prints besides, then 'sum' and
    'oracle'."""
    printed = [name for _, numbers in published for name in numbers]
    # Sorting is stable, so that all others keep their order before these two.
    last = {"sum": 1, "oracle": 2}
    names = dict.fromkeys([*_outputs(columns, split, headline), *printed, "sum", "oracle"])
    return sorted(names, key=lambda name: last.get(name, 0))
