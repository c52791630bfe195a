"""Says what a configuration's networks cost at test: parameters, FLOPs,
milliseconds and memory of one view of a clip, for the network of the headline
(a distilled student) and for its teachers, flow included.

    python -m mmvid cost --config=configs/mml.py:ssv2 --counts

FLOPs are counted from the program and need neither weights nor data; --counts
runs nothing. A dataset is needed only where the configuration names no label
spaces (config.heads). --config.NAME=VALUE changes entries of the configuration.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from mmvid import configuration, files, flops, logs, usage
from mmvid.network import Network
from mmvid.plans.segment import Segment, headline_network
from mmvid.report import text
from mmvid.run import inference, outline
from mmvid.run.build import Run
from mmvid.run.inference import Computed, Pipeline

CONFIG = True
# Of RAFT with 10 refinements on 256 x 456 pixels, as the paper of the distilled students prints it: 584.36 GFLOPs
# are three teachers of 140.33 and this. Quoted, not counted: TV-L1, which stands in its place here, is no network.
RAFT_GFLOPS = 163.37


class Cost(NamedTuple):
    """What the ``student`` costs, the network of the headline, and what those cost that it is held against: its
    teachers, or, where nobody is frozen, all networks of its segment. ``views`` of a clip are shown at test."""

    student: Pipeline
    others: Pipeline
    views: int

    @property
    def alone(self) -> bool:
        """Whether there is nobody to hold it against."""
        return [effort.name for effort in self.others.efforts] == [self.student.name]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which configuration, and whether anything is run."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the experiment, FILE[:VARIANT]")
    parser.add_argument("--counts", action="store_true", help="count alone: run nothing, measure no time")
    parser.add_argument("--json", type=usage.on_disk, metavar="FILE", help="also write everything as JSON")


# ---------------------------------------------------------------------------- what is counted
def _last(run: Run) -> Segment:
    """The last segment that trains the network of the headline."""
    name = headline_network(run.config)
    return [s for s in run.segments if any(n.name == name and not n.frozen for n in s.networks)][-1]


def _student(run: Run, segment: Segment, name: str) -> Network:
    """The network of the headline, ``name``, with those of its reads alone that the headline is made of."""
    (network,) = (n for n in segment.networks if n.name == name)
    if len(network.reads) == 1:
        return network
    # One that reads its streams in turn says the headline from one of them.
    return network._replace(reads=(network.reads[network.outputs.index(run.config.headline)],))


def _teachers(run: Run) -> dict[str, tuple[Network, Segment]]:
    """{name: (network, a segment that it teaches in)} of all frozen networks."""
    return {network.name: (network, s) for s in run.segments for network in s.networks if network.frozen}


def cost_of(run: Run, *, measure: bool) -> Cost:
    """Counts, and where ``measure`` also runs, what one view of a clip costs."""
    segment, teachers = _last(run), _teachers(run)
    views, shown, side = inference.shown(run, segment)
    others = teachers or {network.name: (network, segment) for network in segment.networks}
    read = {name: stream for _, s in others.values() for name, stream in s.streams.items()} | segment.streams
    effort = inference.measured if measure else inference.counted

    def pipeline(name: str, networks: Sequence[Network]) -> Pipeline:
        info = run.datasets[segment.dataset].info
        computed = inference.computed(networks, read, views, info, run=measure)
        return Pipeline(name, tuple(effort(network, read, side) for network in networks), computed)

    student = _student(run, segment, headline_network(run.config))
    name = "teachers" if teachers else "all networks"
    return Cost(pipeline(student.name, [student]), pipeline(name, [n for n, _ in others.values()]), shown)


# ---------------------------------------------------------------------------- in words
HEADER = ("", "reads", "parameters", "linear+conv", "attention", "GFLOPs", "ms", "memory")


def _or_dash(value: float | None, form: str, unit: float = 1.0) -> str:
    return "-" if value is None else form.format(value / unit)


def _row(own: Pipeline) -> tuple[str, ...]:
    """A row of the table: what a pipeline takes in all."""
    work, computed = own.products, f" + {own.computed.how}" if own.computed else ""
    return (
        f"{own.name}{computed}",
        " + ".join(own.reads),
        f"{own.parameters:,}",
        f"{work.weighted / 1e9:.3f} G",
        f"{work.attention / 1e9:.3f} G",
        f"{work.flops / 1e9:.2f}",
        _or_dash(own.milliseconds, "{:.1f}"),
        _or_dash(own.peak, "{:.0f} MB", 1e6),
    )


def _computed_row(own: Computed) -> tuple[str, ...]:
    what = f"{own.pairs} pairs, {own.height}x{own.width}"
    return (own.how, what, "-", "-", "-", "-", _or_dash(own.milliseconds, "{:.1f}"), "-")


def _rows(cost: Cost) -> list[tuple[str, ...]]:
    """The headline's network, the others one by one, what is computed for them, and the others together."""
    student, others = cost.student, cost.others
    rows = [_row(student._replace(name=f"{student.name} (headline)"))]
    rows += [_row(Pipeline(own.name, (own,))) for own in others.efforts if own.name != student.name]
    if others.computed:
        rows.append(_computed_row(others.computed))
    if len(others.efforts) > 1 or (others.computed and not cost.alone):
        rows.append(_row(others))
    return rows


def saved(own: float, other: float) -> str:
    """How much less than ``other`` the number ``own`` is, in words: '75.98 % less'."""
    share = 1 - own / other
    return f"{100 * abs(share):.2f} % {'less' if share >= 0 else 'more'}"


def as_printed(cost: Cost) -> tuple[float, float]:
    """The FLOPs of the headline's network and those of the others as the paper of the distilled students counts
    them: without attention, and with RAFT where anything is computed of the pictures."""
    student, others = (2 * own.products.weighted for own in (cost.student, cost.others))
    return student, others + (RAFT_GFLOPS * 1e9 if cost.others.computed else 0.0)


def _verdict(cost: Cost) -> list[str]:
    """What the headline's network saves over the others, in sentences."""
    student, others = cost.student, cost.others
    if cost.alone:
        return []
    own, work = student.products.flops, others.products.flops
    lines = [f"{student.name} takes {saved(own, work)} computation (FLOPs) than {others.name}."]
    if others.milliseconds is not None:
        lines.append(f"It takes {saved(student.milliseconds, others.milliseconds)} time, flow included.")
    if student.name in (effort.name for effort in others.efforts):
        # They learn together: what each costs of it.
        lines.append(f"Of the computation of all networks: {inference.said(inference.shares(others.efforts))}.")
    if others.computed:
        with_raft, (less, all_less) = work + RAFT_GFLOPS * 1e9, as_printed(cost)
        lines.append(
            f"With RAFT for {others.computed.how} ({RAFT_GFLOPS} GFLOPs, quoted: 10 refinements, 256x456) "
            f"{others.name} would take {with_raft / 1e9:.2f} GFLOPs, and {student.name} {saved(own, with_raft)}. "
            f"As the paper counts, without attention: {all_less / 1e9:.2f} GFLOPs, and {student.name}, with "
            f"{less / 1e9:.2f}, {saved(less, all_less)} (the paper's Swin-T: 584.36, 140.33, 75.98 % less)."
        )
    return lines


def _of_clips(cost: Cost) -> list[str]:
    """What a whole clip takes, where it is shown in several views."""
    if cost.views == 1:
        return []
    parts = (
        f"{own.name} {cost.views * own.products.flops / 1e9:.2f} GFLOPs"
        + ("" if own.milliseconds is None else f", {cost.views * own.milliseconds:.0f} ms")
        for own in ((cost.student,) if cost.alone else (cost.student, cost.others))
    )
    return [f"A whole clip, {cost.views} views: {'; '.join(parts)}."]


def said(run: Run, cost: Cost) -> str:
    """The table, what it means, and how it was counted, in words."""
    spec, efforts = run.config.evaluation, (*cost.student.efforts, *cost.others.efforts)
    unknown = flops.add(effort.products for effort in efforts).unknown
    lines = [
        f"One view of a clip at a time; protocol {spec.protocol}, crops {spec.crops}: {cost.views} of each clip. "
        "'linear+conv' and 'attention' are multiply-adds.",
        *_of_clips(cost),
        *_verdict(cost),
        flops.CONVENTION,
    ]
    if cost.student.milliseconds is not None:
        lines.append(f"Times on {logs.machine()}, with drawn weights; reading and cutting clips is not in them.")
    if unknown:
        lines.append(f"Not counted in full: {text.listed(unknown)}.")
    first, *rest = (usage.folded("", line) for line in lines)
    return "\n".join([first, "", text.aligned([HEADER, *_rows(cost)], right=range(2, 8)), "", *rest])


def plain(cost: Cost) -> dict:
    """The same as plain data, for JSON."""

    def pipeline(own: Pipeline) -> dict:
        efforts = [
            effort._asdict() | {"products": effort.products._asdict(), "flops": effort.products.flops}
            for effort in own.efforts
        ]
        computed = own.computed and own.computed._asdict()
        whole = {"parameters": own.parameters, "flops": own.products.flops, "milliseconds": own.milliseconds}
        return {"name": own.name, **whole, "peak": own.peak, "networks": efforts, "computed": computed}

    printed = dict(zip(("student", "others"), as_printed(cost)))
    return {
        "convention": flops.CONVENTION,
        "machine": logs.machine(),
        "views": cost.views,
        "student": pipeline(cost.student),
        "others": pipeline(cost.others),
        "raft_gflops_quoted": RAFT_GFLOPS,
        "flops_as_the_paper_counts": printed,
    }


def execute(arguments: argparse.Namespace) -> None:
    """Prints the table of the configuration of the command line, and writes it where --json says."""
    config = configuration.overridden(configuration.read(arguments.config), arguments.overrides)
    if arguments.json:
        files.check_target("--json", arguments.json, [pathlib.Path(usage.parted(arguments.config)[0])])
    found = outline.outline(config, pathlib.Path())
    for line in found.assumed:
        print(usage.folded("", line))
    cost = cost_of(found.run, measure=not arguments.counts)
    print(said(found.run, cost))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(arguments.json, plain(cost))
