"""The sentence that a run comes down to: what was compared, who won, by how much, and how sure that is."""

from collections.abc import Sequence

from mmvid.report.points import Column, Line, Point, lines, main_line, sign, spoken, there
from mmvid.report.rows import Row, error_difference, errors
from mmvid.report.text import difference, distance, listed, percent, value
from mmvid.scores import numbers as numbers_lib


def _measured(point: Point) -> str:
    """Writes a value with its interval, '62.9 [56.7, 68.8]'."""
    bounds = f" [{', '.join(map(percent, point.interval))}]" if point.interval else ""
    return value(point.more) + bounds


def _against(point: Point, base: str, rival: str) -> str:
    """Writes a value and its difference to the ``rival``, which ``base`` describes, in words that say whether
    that is beyond noise."""
    if not point.over:
        return f"{_measured(point)}; {rival} has nothing to pair it with"
    if not sign(point.over):
        return f"{value(point.more)}, within noise of {base} ({difference(point.over)})"
    if sign(point.over) > 0:
        return f"{value(point.more)}, {difference(point.over)} over {base}"
    # With its sign it would be a double negative.
    return f"{value(point.more)}, {distance(point.over)} under {base}"


def calibrated(error: float, over: tuple[float, ...], base: str) -> str:
    """Writes a calibration error and its paired difference to that of ``base``: less is better."""
    said = f"calibration error {percent(error)}"
    if not sign(over):
        return f"{said}, within noise of {base}'s ({difference(over)})"
    return f"{said}, {distance(over)} {'higher' if sign(over) > 0 else 'lower'} than {base}'s"


def _calibration(columns: Sequence[Column], split: str, output: str, baseline: str, how: str) -> str:
    """Writes a student's calibration error against the baseline's; '' where the last column has learnt from no
    teachers."""
    own, base = columns[-1], next(column for column in columns if column.segment == baseline)
    scores = [column.scores[split] for column in (own, base)]
    if "teachers" not in scores[0].meta or scores[0].id.tolist() != scores[1].id.tolist():
        return ""
    both = [Row(c.title, c.segment, (0,), (), {split: [s]}) for c, s in zip((own, base), scores)]
    over = error_difference(*both, split, output, how)
    return calibrated(errors(both[0], split, output, how)[0], over, base.title) if over else ""


def _others(found: Sequence[Line], main: Line, index: int, compared: bool) -> list[str]:
    """Writes what becomes of the other outputs of a column: those beyond noise each with its difference, then
    the rest by name. Of other heads, only the headline's are told."""
    told = [
        (name, line.points[index])
        for name, line in zip(spoken(found), found)
        if line is not main
        and not line.part
        and line.points[index]
        and (line.head == main.head or line.output == main.output)
    ]
    if not compared:
        return [f"{name} {value(point.more)}" for name, point in told]
    clear = [f"{name} {difference(point.over)}" for name, point in told if sign(point.over)]
    noise = [name for name, point in told if point.over and not sign(point.over)]
    return clear + ([f"{listed(noise)} within noise"] if noise else [])


def _higher(main: Line, own: Point, base: str) -> list[str]:
    """Names the columns with the highest value, where that is above the run's own and not that of the one it is
    compared with."""
    rivals = [p for p in main.points if p and p.title != base and p.value is not None and p.value > own.value]
    highest = max((p.value for p in rivals), default=None)
    best = [p for p in rivals if p.value == highest]
    return [f"the highest is {listed([p.title for p in best])}'s {value(best[0].more)}"] if best else []


def _rival(columns: Sequence[Column], main: Line, split: str, how: str) -> tuple[str, Point]:
    """Pairs the last column with the best of the others, for runs without a baseline: (its title, the last
    column's point)."""
    own, best = (
        main.points[-1],
        max(
            (i for i, p in enumerate(main.points[:-1]) if p and p.value is not None),
            key=lambda i: main.points[i].value,
            default=None,
        ),
    )
    if best is None:
        return "", own
    scores = [columns[i].scores[split] for i in (-1, best)]
    return columns[best].title, own._replace(over=numbers_lib.difference(*scores, main.output, main.head, how))


def told(
    found: Sequence[Line], main: Line, index: int, words: str, rival: str, *, others: bool, opening: str = ""
) -> str:
    """Writes the sentence about the column number ``index``: what ``main`` says of it against a ``rival``, which
    ``words`` describe ('' for none), then the other lines and whoever is higher. ``others`` tells whether the
    differences of the other lines are to that rival, too. The ``opening`` is 'MML: rgb' where none is given."""
    own = main.points[index]
    name = spoken(found)[list(found).index(main)]
    if own.value is None:
        return f"{own.title}: {name} mAP -, as no class has a positive clip"
    said = _against(own, words, rival) if words else _measured(own)
    lost = own.more.get("not_finite", 0)
    spoilt = [f"{lost} clips have scores that are not finite"] if lost else []
    rest = [*_others(found, main, index, others), *_higher(main, own, rival), *spoilt]
    return "; ".join([f"{opening or f'{own.title}: {name}'} {said}", *rest])


def named(line: Line) -> str:
    """Names a line of a table of one head: 'rgb', or 'rgb (noun and verb)' where that is several together."""
    return f"{line.output} ({line.head})" if line.joint else line.output


def tie(main: Line, leaders: Sequence[Point], base: str) -> str:
    """Writes that several columns have the highest value, and how far each is from the ``base``."""
    # More of them would hide the sentence; the table below has them all.
    few = len(leaders) < 5
    who = listed([p.title for p in leaders]) if few else f"{len(leaders)} rows"
    said = f"no row leads in {named(main)}: {who} tie at {value(leaders[0].more)}"
    # Where the base is one of them, it has none.
    if not few or not all(p.over for p in leaders):
        return said
    return f"{said}, {listed([difference(p.over) for p in leaders])} over {base}"


def verdict(
    columns: Sequence[Column],
    split: str,
    *,
    headline: str,
    baseline: str = "",
    how: str = numbers_lib.HOW,
    found: Sequence[Line] | None = None,
) -> str:
    """Writes what the last column is worth on a split, in one sentence.

    'MML: rgb 62.9, +7.9 [+3.3, +12.9] over CE continued with the same updates; flow within noise'. Without a
    ``baseline`` the last column is compared with the best of the others, and one alone is told as it is.
    ``found`` are the split's `lines`, where they have been computed.
    """
    shown, title = there(columns, split), columns[-1].title
    found = lines(columns, split, headline=headline, baseline=baseline, how=how) if found is None else found
    main = main_line(found, headline)
    if main is None or main.points[-1] is None:
        return f"{title}: no clip of {split} has a label, so nothing can be counted"
    base = next((c.title for c in shown[:-1] if c.segment == baseline), "")
    if base:
        # Plans train their baselines as long as what is compared with them (`plans.BASELINES`).
        said = told(found, main, -1, f"{base} with the same updates", base, others=True)
        return "; ".join(filter(None, [said, _calibration(shown, split, main.output, baseline, how)]))
    rival, own = _rival(shown, main, split, how)
    paired = main._replace(points=(*main.points[:-1], own))
    found = [paired if line is main else line for line in found]
    return told(found, paired, -1, f"{rival}, the best of the others" if rival else "", rival, others=False)


def short(
    columns: Sequence[Column], split: str, *, headline: str, baseline: str, how: str, found: Sequence[Line]
) -> list[str]:
    """Says what a student is worth on a split against the ``baseline``, in a line on its accuracy and one on its
    calibration error; [] where the last column has learnt from no teachers, or there is nothing to say."""
    shown, main = there(columns, split), main_line(found, headline)
    base = next((c.title for c in shown[:-1] if c.segment == baseline), "")
    taught = "teachers" in shown[-1].scores[split].meta
    if not base or not taught or main is None or main.points[-1] is None:
        return []
    own, name = main.points[-1], spoken(found)[list(found).index(main)]
    said = f"{own.title}: {name} {_against(own, base, base)}"
    return [said, *filter(None, [_calibration(shown, split, main.output, baseline, how)])]
