"""Tables as texts: which rows and columns there are, and how they stand in a terminal."""

from collections.abc import Callable, Iterable, Sequence

from mmvid.report import points
from mmvid.report.points import Column, Line, Point
from mmvid.report.rows import lines_of, of_which, taught_by, titled
from mmvid.report.text import aligned, difference, listed, percent, value
from mmvid.scores import ensembles, file, temperature
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


def _both(*values: float | None) -> str:
    """Writes fractions in percent beside each other, as '62.1 / 91.3'; '-' where all are undefined."""
    return " / ".join(map(percent, values)) if any(v is not None for v in values) else "-"


# ---------------------------------------------------------------------------- cells
def _main_cell(point: Point) -> str:
    """Writes '62.1 [59.0, 65.2]'."""
    bounds = f" [{', '.join(map(percent, point.interval))}]" if point.interval else ""
    return percent(point.value) + (bounds if point.value is not None else "")


def _further_cell(point: Point) -> str:
    """Writes '91.3; 8.6', top-5 and calibration error, or the latter alone where there is no top-5."""
    if "ece" not in point.more:
        return "-"
    five = point.more.get("top5")
    return ("" if five is None else f"{percent(five)}; ") + percent(point.more["ece"])


def _scaled_cell(point: Point) -> str:
    """Writes '3.1 (T 1.8)', the calibration error after temperature scaling and the temperature."""
    if point.more.get("ece_scaled") is None:
        return "-"
    return f"{percent(point.more['ece_scaled'])} (T {temperature.told(point.more['temperature'])})"


def _view_cell(point: Point) -> str:
    """Writes top-1 / top-5 over single views. Heads taken together ('noun and verb') have none."""
    return _both(point.more.get("clip_top1"), point.more.get("clip_top5"))


def _lost_cell(point: Point) -> str:
    count = point.more.get("not_finite", 0)
    return f"{count} of {point.more['n']}" if count else "-"


def _covered_cell(point: Point) -> str:
    return f"{percent(point.more['covered'])} %" if point.more.get("covered", 1) < 1 else "-"


def _measures(line: Line, views: int) -> dict[str, Callable]:
    """Returns {measure: what writes its cell} of the measures below a line's first two."""
    if line.multi:
        return {"mAUC": lambda point: percent(point.more.get("mauc"))}
    five = "top-5; " if any(p and p.more.get("top5") is not None for p in line.points) else ""
    single = {"single views: top-1 / top-5": _view_cell} if views > 1 else {}
    scaled = {f"calibration error, temperature fitted on {temperature.FITTED}": _scaled_cell}
    return {f"{five}calibration error": _further_cell} | scaled | single


def _oracle(line: Line, columns: Sequence[Column], split: str) -> list[str]:
    """Writes how often any member of each column is right, on the line of the sum of all of them."""
    found = []
    for column in columns:
        own = line.output == points.whole_sum(column.scores[split])
        found.append(percent(column.numbers[split].get("oracle", {}).get(line.head)) if own else "-")
    return found


def _row(output: str, measure: str, cells: list[str], **marks) -> dict:
    return {"output": output, "measure": measure, "cells": cells, **marks}


def _line_rows(name: str, line: Line, columns: Sequence[Column], split: str, base: str) -> list[dict]:
    """Makes the rows of one line. What no column has is left out, but the first row stays: it shows that there is
    nothing."""

    def each(form: Callable) -> list[str]:
        return [form(point) if point else "-" for point in line.points]

    shares = [point.value if point else None for point in line.points]
    first = _row(name, f"{'mAP' if line.multi else 'top-1'} [95 %]", each(_main_cell), shares=shares)
    views = max(column.scores[split].meta.get("views", 1) for column in columns)
    rows = []
    if base:
        cells = ["" if p and p.title == base else difference(p.over) if p else "-" for p in line.points]
        signs = [points.sign(p.over) if p else 0 for p in line.points]
        rows.append(_row(name, f"over {base}", cells, signs=signs))
    forms = _measures(line, views) | {"misses: scores not finite": _lost_cell}
    forms |= {"clips that have some of it": _covered_cell}
    rows += [_row(name, measure, each(form)) for measure, form in forms.items()]
    if line.sum and not line.part:
        rows.append(_row(name, "oracle top-1 (any of them)", _oracle(line, columns, split)))
    return [first, *(row for row in rows if set(row["cells"]) - {"-", ""})]


def rows(
    columns: Sequence[Column],
    split: str,
    *,
    headline: str = "",
    baseline: str = "",
    how: str = numbers_lib.HOW,
    found: Sequence[Line] | None = None,
    parts: bool = False,
) -> list[dict]:
    """Makes the table of a split: a dict for each row, of output (with its head), measure and cells (a text for
    each column that has the split).

    The measures are top-1 or mAP with its 95 % interval (these rows also hold ``shares``, the fractions), the
    paired difference to the column whose segment is ``baseline`` (with ``signs``: 1 or -1 where it is beyond
    noise), top-5, the calibration error, single views where there are several, mAUC, and the number of clips
    whose scores are not finite. A row that is a sum, named by its members, also says how often any of these is
    right. With ``parts``, sums of some members stand there, too; of several heads, for all of them together.
    ``found`` are the split's `points.lines`.
    """
    shown = [points.counted(column, how) for column in points.there(columns, split)]
    if found is None:
        found = points.lines(shown, split, headline=headline, baseline=baseline, how=how)
    base = next((c.title for c in shown if c.segment == baseline), "")
    named, kept = zip(points.names(found), found), points.together(found)
    return [
        row
        for name, line in named
        if not line.part or (parts and line in kept)
        for row in _line_rows(name, line, shown, split, base)
    ]


# ---------------------------------------------------------------------------- as papers print it
def _outputs(columns: Sequence[Column], split: str, headline: str) -> list[str]:
    """Lists the outputs of all columns, the headline first."""
    found = {o for c in columns if split in c.scores for o in c.scores[split].logits}
    return sorted(found, key=lambda o: (o != headline, o))


def overview(columns: Sequence[Column], split: str, headline: str, how: str = numbers_lib.HOW) -> list[dict]:
    """Makes the table as multimodal papers print it, with modalities as columns (DMCL's tables 1 and 2).

    Each column of the run becomes a row {'title', 'cells': {output, 'sum' or 'oracle': text}}; the result is
    [] where none has several outputs. Where there are several heads, the numbers are those of all heads of
    single labels together ('noun and verb'), or else of the first head.
    """
    found, shown = [], points.there(columns, split)
    widest = max((len(file.members(c.scores[split])) for c in shown), default=0)
    for column in (points.counted(c, how) for c in shown if len(c.scores[split].logits) > 1):
        scores, numbers = column.scores[split], column.numbers[split]
        head = file.joint_head(scores) or next(iter(scores.label))
        cells = {o: value(numbers.get(o, {}).get(head)) for o in _outputs([column], split, headline)}
        # Where a frozen teacher has no scores, a sum would be one of other members.
        whole = len(file.members(scores)) == widest > 1
        cells["sum"] = value(numbers.get("fused", {}).get(head) if whole else None)
        if head in numbers.get("oracle", {}):
            cells["oracle"] = percent(numbers["oracle"][head]) if whole else "-"
        found.append({"title": column.title, "cells": cells})
    return found


def taught(columns: Sequence[Column], split: str, how: str = numbers_lib.HOW) -> list[dict]:
    """Makes the table as multimodal distillation prints it (tables 1 to 3), with heads as columns: a row for each
    output of each column, {'title', 'cells': {head: 'accuracy / calibration error'}}, where all heads of single
    labels together are an action; [] where no column has learnt from teachers."""
    shown = [points.counted(column, how) for column in points.there(columns, split)]
    if not any("teachers" in column.scores[split].meta for column in shown):
        return []
    teachers = taught_by(column.scores[split] for column in shown)

    def title(column: Column, output: str) -> str:
        own = column.scores[split]
        return titled(column.title, own, output, teachers) if len(own.logits) > 1 else column.title

    return [
        {
            "title": title(column, output),
            "cells": {head: _head_cell(own) for head, own in column.numbers[split].get(output, {}).items()},
        }
        for column in shown
        for output in column.scores[split].logits
    ]


def _head_cell(numbers: dict) -> str:
    return _both(numbers["top1"], numbers.get("ece")) if "top1" in numbers else value(numbers)


def taught_text(columns: Sequence[Column], split: str, how: str = numbers_lib.HOW) -> str:
    """Writes `taught` as aligned text, below the line of `denominators`; '' where it has no rows."""
    shown, found = points.there(columns, split), taught(columns, split, how)
    if not found:
        return ""
    heads = list(dict.fromkeys(head for row in found for head in row["cells"]))
    body = [["", *heads], *([row["title"], *(row["cells"].get(head, "-") for head in heads)] for row in found)]
    about = [denominators(shown[-1].scores[split]), *column_known(shown, split), "accuracy / calibration error"]
    return "\n".join([*about, aligned(body)])


def overview_text(columns: Sequence[Column], split: str, headline: str, how: str = numbers_lib.HOW) -> str:
    """Writes `overview` as aligned text; '' where it has no rows."""
    found = overview(columns, split, headline, how)
    if not found:
        return ""
    names = list(dict.fromkeys(name for row in found for name in row["cells"]))
    body = [["", *names]] + [[r["title"], *(r["cells"].get(n, "-") for n in names)] for r in found]
    several = any(text.startswith("mAP") for row in found for text in row["cells"].values())
    which = of_which(points.there(columns, split)[-1].scores[split])
    return f"{split}, {'mAP' if several else 'top-1'}{which}\n" + aligned(body)


# ---------------------------------------------------------------------------- text
def denominators(scores: Scores) -> str:
    """Says of how many clips, by which protocol and on which data the scores are: the line above a table."""
    # A percentage without these can be compared with nothing.
    meta = scores.meta
    return (
        f"{meta['split']}: {meta['clips_used']} of {meta['clips_expected']} clips, "
        f"{meta['views']} view{'s' * (meta['views'] != 1)}, protocol {meta['protocol']}, crop {meta['crops']}, "
        f"{meta['dataset']} ({meta['fingerprint']})"
        + (f", best checkpoint (step {meta['step']})" if meta.get("checkpoint") == "best" else "")
    )


def weights(scores: Iterable[tuple[str, Sequence[Scores]]]) -> list[str]:
    """Says what the teachers of each title's scores weigh, in a line for all that have the same."""
    found: dict[str, list[str]] = {}
    for title, own in scores:
        for said in ensembles.of_all(own):
            found.setdefault(said, []).append(title)
    return [f"{listed(titles)}: {said}" for said, titles in found.items()]


def column_weights(columns: Sequence[Column], split: str) -> list[str]:
    """Says what the teachers of the columns weigh."""
    return weights((column.title, [column.scores[split]]) for column in points.there(columns, split))


def known(scores: Iterable[tuple[str, Sequence[Scores]]], split: str) -> list[str]:
    """Says whose networks have learnt from clips of the split that their scores are of: no test of those."""
    rows = list(scores)
    teachers = taught_by(each for _, own in rows for each in own)
    met = [(title, own[0]) for title, own in rows if any(each.meta.get("met") for each in own)]
    titles = [name for title, own in met for name in lines_of(title, own, teachers)]
    return [f"{listed(titles)} learnt from clips of {split}: these numbers are no test of that"] if titles else []


def column_known(columns: Sequence[Column], split: str) -> list[str]:
    """Says which columns have learnt from clips of a split."""
    return known(((column.title, [column.scores[split]]) for column in points.there(columns, split)), split)


def table(
    columns: Sequence[Column],
    split: str,
    *,
    headline: str = "",
    baseline: str = "",
    how: str = numbers_lib.HOW,
    found: Sequence[Line] | None = None,
) -> str:
    """Writes `rows` as aligned text, below the lines of `denominators`, of who `known` its clips, and of teachers'
    `weights`."""
    shown = points.there(columns, split)
    body = [["", "", *(c.title for c in shown)]]
    last = None
    for row in rows(columns, split, headline=headline, baseline=baseline, how=how, found=found):
        body.append([row["output"] if row["output"] != last else "", row["measure"], *row["cells"]])
        last = row["output"]
    above = [*column_known(shown, split), *column_weights(shown, split)]
    return "\n".join([denominators(shown[-1].scores[split]), *above, aligned(body)])
