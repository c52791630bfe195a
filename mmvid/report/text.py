"""What a number looks like."""

from collections.abc import Collection, Mapping, Sequence


def percent(value: float | None) -> str:
    """Writes a fraction in percent, as '62.1'; '-' where it is undefined."""
    return "-" if value is None else f"{100 * value:.1f}"


def top(one: float | None, five: float | None = None) -> str:
    """Writes top-1 and top-5 as '62.1 / 91.3'; the first alone, or a mAP, where there is no ``five``."""
    return percent(one) + ("" if five is None else f" / {percent(five)}")


def value(numbers: Mapping | None) -> str:
    """Writes top-1 as '62.1' or mAP as 'mAP 35.9'; '-' where it is undefined."""
    if numbers is None:
        return "-"
    if "top1" in numbers:
        return percent(numbers["top1"])
    return "-" if numbers["map"] is None else f"mAP {percent(numbers['map'])}"


def difference(over: tuple[float, ...]) -> str:
    """Writes a difference in points, as '+2.5 [-0.4, +5.4]'; '-' where there is none."""
    if not over:
        return "-"
    mean, *interval = (f"{100 * v:+.1f}" for v in over)
    return f"{mean} [{', '.join(interval)}]" if interval else mean


def distance(over: tuple[float, ...]) -> str:
    """Writes how far a difference is from 0, whatever its sign, as '15.1 [6.8, 22.1]'."""
    mean, *interval = over if over[0] > 0 else (-over[0], *(-bound for bound in over[:0:-1]))
    return f"{percent(mean)} [{', '.join(map(percent, interval))}]" if interval else percent(mean)


def listed(texts: Sequence[str]) -> str:
    """Writes 'a, b and c'."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Writes a table: the header ``rows[0]``, a line, the other rows; the columns ``right`` stand at their right
    edge."""
    widths = [max(map(len, column)) for column in zip(*rows)]

    def line(row: Sequence[str]) -> str:
        cells = (cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows[1:])])
