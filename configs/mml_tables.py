"""MML's tables 1 to 8 and 10 as grids: which segments each needs, how it is printed, what Komkov et al. print.

Top-1 / top-5 in % on Something-Something v2's validation clips, TSM-ResNet-50 of 8 frames, one uniform clip, a
crop of 224. "RGB <- IN" reads: RGB, which starts from ImageNet (here from still images). Every segment stands here
once; those of a table and all that they start from make its grid: tables share what they have in common, and a
run of one can take it from a run of another (--config.reuse).
"""

from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

# What networks start from: still images, or the same learnt another time (the paper's second ImageNet start).
IN, IN2 = "stills", "stills_2"
# The weights of the first segments, and of others that tables start from again.
RGB, RGB2, FLOW, DIFF = "ce.rgb", "ce2.rgb2", "ce.flow", "ce.diff"
A, B = "mml.rgb", "mml_from_a.rgb"
C, C2 = "ml_rgb.rgb", "ml_rgb.rgb2"


def trained(title: str, method: str, starts: Mapping[str, str], **more) -> dict:
    """A segment in which networks learn from ``starts`` {network: where from}; ``more`` are further entries."""
    spec = dict(networks=tuple(starts), starts=dict(starts), method=method, title=title)
    return {**spec, **more}


def _both(start: str) -> dict[str, str]:
    """RGB and flow from the same weights."""
    return {"rgb": start, "flow": start}


def _taught(title: str, method: str, student: str, start: str, teacher: str, taught: str) -> dict:
    """A segment in which ``student`` imitates ``teacher``, which begins as ``taught`` and learns no more."""
    spec = trained(title, method, {student: start}, teacher=teacher)
    return spec | dict(networks=(student, teacher), starts={student: start, teacher: taught})


def _mutual() -> dict[str, dict]:
    """Table 3's nine pairs of starts: {'mml_in_flow': RGB from ImageNet, flow from flow, ..}. Of RGB and flow that
    both start from RGB it is the run's own, 'mml'."""
    from_ = {"in": IN, "rgb": RGB, "flow": FLOW}
    named = {"in": "IN", "rgb": "RGB", "flow": "Flow"}
    found = {}
    for rgb, rgb_start in from_.items():
        for flow, flow_start in from_.items():
            name = "mml" if rgb == flow == "rgb" else f"mml_{rgb}_{flow}"
            title = f"MML, RGB <- {named[rgb]}, Flow <- {named[flow]}"
            found[name] = trained(title, "mml", {"rgb": rgb_start, "flow": flow_start})
    return found


def _mimicry() -> dict[str, dict]:
    """Table 2's eight, by names such as 'mars_rgb_in' and 'd3d_flow_rgb': who learns, and from what."""
    found = {}
    for method, called in (("mars", "MARS"), ("d3d", "D3D"), ("kd", "KD")):
        for student, teacher, taught in (("rgb", "flow", FLOW), ("flow", "rgb", RGB)):
            for start, source in (("in", IN), ("rgb", RGB)):
                says = {"rgb": "RGB", "flow": "Flow"}
                title = f"{called}, {says[student]} <- {'IN' if start == 'in' else 'RGB'}, {says[teacher]}"
                found[f"{method}_{student}_{start}"] = _taught(title, method, student, source, teacher, taught)
    return found


# Two networks of one modality, which start from two trainings.
SAME = {
    "ml_in": trained("ML, RGB <- IN, RGB <- IN2", "mml", {"rgb": IN, "rgb2": IN2}),
    "ml_mixed": trained("ML, RGB <- RGB, RGB <- IN", "mml", {"rgb": RGB, "rgb2": IN}),
    "ml_rgb": trained("ML, RGB <- RGB, RGB <- RGB2", "mml", {"rgb": RGB, "rgb2": RGB2}),
    "ml_flow_in": trained("ML, Flow <- IN, Flow <- IN2", "mml", {"flow": IN, "flow2": IN2}),
    "ml_flow": trained("ML, Flow <- RGB, Flow <- RGB2", "mml", {"flow": RGB, "flow2": RGB2}),
    "ml_diff": trained("ML, Diff <- RGB, Diff <- RGB2", "mml", {"diff": RGB, "diff2": RGB2}),
}
# Joint training started again from its own results (table 7), and of other modalities (table 8).
AGAIN = {
    "mml_rgb2": trained("MML, RGB <- RGB, Flow <- RGB2", "mml", {"rgb": RGB, "flow": RGB2}),
    "mml_from_a": trained("MML, both <- A(RGB)", "mml", _both(A)),
    "mml_from_b": trained("MML, both <- B(RGB)", "mml", _both(B)),
    "ml_again": trained("ML, RGB <- C(RGB), RGB <- C2(RGB)", "mml", {"rgb": C, "rgb2": C2}),
    "mml_from_c": trained("MML, both <- C(RGB)", "mml", _both(C)),
    "mml_diff": trained("MML, RGB and Diff", "mml", {"rgb": RGB, "diff": RGB}),
    "mml_three": trained("MML, RGB, Flow and Diff", "mml", {"rgb": RGB, "flow": RGB, "diff": RGB}),
}
SEGMENTS = {
    "ce": trained("CE", "single", {"rgb": IN, "flow": IN, "diff": IN}),
    "ce2": trained("", "single", {"rgb2": IN2}, batches="ce2"),
    # What others gain by their method, this gains by its further updates.
    "ce_continued": trained("CE continued", "single", {"rgb": RGB, "flow": RGB, "diff": RGB}),
    "ce_continued_2": trained("CE continued twice", "single", _both("ce_continued.rgb")),
    "ce_continued_3": trained("CE continued three times", "single", _both("ce_continued_2.rgb")),
    "rgb_from_flow": trained("CE, RGB <- Flow", "single", {"rgb": FLOW}),
    **_mimicry(), **_mutual(), **SAME, **AGAIN,
}  # fmt: skip
# Table 2, which has no KD.
_IMITATED = (
    ("RGB <- IN, Flow", "rgb_in", "rgb", ("57.56 / 84.39", "58.99 / 85.18", "")),
    ("RGB <- RGB, Flow", "rgb_rgb", "rgb", ("59.11 / 85.24", "59.95 / 85.86", "")),
    ("Flow <- IN, RGB", "flow_in", "flow", ("57.46 / 85.01", "55.04 / 83.36", "")),
    ("Flow <- RGB, RGB", "flow_rgb", "flow", ("58.23 / 85.37", "56.41 / 83.98", "")),
)
_T3 = (
    ("56.25 / 84.07", "60.02 / 86.08", "58.70 / 85.18"),
    ("60.80 / 86.47", "60.94 / 86.67", "60.82 / 86.75"),
    ("58.37 / 84.82", "58.56 / 85.28", "58.62 / 85.36"),
)
_T4 = (
    ("54.94 / 83.82", "57.06 / 84.87", "57.84 / 85.15"),
    ("54.76 / 83.61", "56.74 / 84.78", "57.95 / 85.44"),
    ("55.85 / 84.33", "56.86 / 84.80", "57.79 / 85.34"),
)


def _square(output: str, published: Iterable[Iterable[str]]) -> tuple:
    """The rows of tables 3 and 4: what RGB starts from, and in columns what flow starts from."""
    rows = []
    for (rgb, title), numbers in zip((("in", "IN"), ("rgb", "RGB"), ("flow", "Flow")), published):
        names = ["mml" if rgb == flow == "rgb" else f"mml_{rgb}_{flow}" for flow in ("in", "flow", "rgb")]
        cells = tuple((name, output, number) for name, number in zip(names, numbers))
        rows.append((f"RGB <- {title}", cells))
    return tuple(rows)


def _line(title: str, *cells: tuple[str, str, str]) -> tuple:
    return (title, cells)


# A cell of which there is none.
NONE = ("", "", "")
CONTINUED = ("CE continued", (("ce_continued", "rgb", ""), ("ce_continued", "flow", "")))
# {table: (title, columns, rows of (title, cells of (segment, output, what the paper prints)))}
TABLES = {
    "table1": (
        "Table 1, cross-entropy", ("IN", "RGB", "Flow"),
        (
            _line("RGB", ("ce", "rgb", "58.10 / 84.61"), ("ce_continued", "rgb", ""),
                  ("rgb_from_flow", "rgb", "57.53 / 84.42")),
            _line("Flow", ("ce", "flow", "52.32 / 81.84"), ("ce_continued", "flow", "55.19 / 84.14")),
            _line("Diff", ("ce", "diff", "58.74 / 84.39"), ("ce_continued", "diff", "58.98 / 86.33")),
        ),
    ),
    "table2": (
        "Table 2, students that imitate", ("MARS", "D3D", "KD", "CE, as many updates"),
        tuple(
            _line(title, *((f"{method}_{cell}", output, number)
                           for method, number in zip(("mars", "d3d", "kd"), numbers)),
                  *((("ce_continued", output, ""),) if cell.endswith("_rgb") else (("ce", output, ""),)))
            for title, cell, output, numbers in _IMITATED
        ),
    ),
    "table3": (
        "Table 3, RGB after MML", ("Flow <- IN", "Flow <- Flow", "Flow <- RGB", "CE alone"),
        tuple(
            (title, (*cells, (segment, "rgb", "")))
            for (title, cells), segment in zip(_square("rgb", _T3), ("ce", "ce_continued", "rgb_from_flow"))
        ),
    ),
    "table4": (
        "Table 4, Flow after MML", ("Flow <- IN", "Flow <- Flow", "Flow <- RGB"),
        (*_square("flow", _T4), _line("CE alone", ("ce", "flow", ""), NONE, ("ce_continued", "flow", ""))),
    ),
    "table5": (
        "Table 5, ML of two networks", ("first", "second"),
        (
            _line("RGB <- IN, RGB <- IN2", ("ml_in", "rgb", "57.76 / 84.42"), ("ml_in", "rgb2", "58.15 / 84.64")),
            # As the paper's text tells: the network that starts from RGB is the better.
            _line("RGB <- RGB, RGB <- IN (halves exchanged in print)", ("ml_mixed", "rgb", "60.20 / 86.33"),
                  ("ml_mixed", "rgb2", "57.84 / 84.55")),
            _line("RGB <- RGB, RGB <- RGB2", ("ml_rgb", "rgb", "60.54 / 86.23"),
                  ("ml_rgb", "rgb2", "60.47 / 86.08")),
            _line("Flow <- IN, Flow <- IN2", ("ml_flow_in", "flow", "52.94 / 82.21"),
                  ("ml_flow_in", "flow2", "53.44 / 82.50")),
            _line("Flow <- RGB, Flow <- RGB2", ("ml_flow", "flow", "57.58 / 85.17"),
                  ("ml_flow", "flow2", "57.71 / 85.26")),
            _line("CE, RGB <- IN", ("ce", "rgb", "")),
            _line("CE continued, RGB <- RGB", ("ce_continued", "rgb", "")),
            _line("CE, Flow <- IN", ("ce", "flow", "")),
            _line("CE continued, Flow <- RGB", ("ce_continued", "flow", "")),
        ),
    ),
    "table7": (
        "Table 7, which starts", ("RGB", "Flow, or RGB2"),
        (
            _line("MML, RGB <- RGB, Flow <- RGB (A)", ("mml", "rgb", "60.82 / 86.75"),
                  ("mml", "flow", "57.95 / 85.44")),
            _line("MML, RGB <- RGB, Flow <- RGB2", ("mml_rgb2", "rgb", "60.88 / 86.86"),
                  ("mml_rgb2", "flow", "57.87 / 85.53")),
            _line("MML, both <- A(RGB) (B)", ("mml_from_a", "rgb", "61.18 / 86.81"),
                  ("mml_from_a", "flow", "58.02 / 85.49")),
            _line("MML, both <- B(RGB)", ("mml_from_b", "rgb", "61.15 / 86.81"),
                  ("mml_from_b", "flow", "57.96 / 85.30")),
            _line("ML, RGB <- RGB, RGB2 <- RGB2 (C)", ("ml_rgb", "rgb", "60.54 / 86.23"),
                  ("ml_rgb", "rgb2", "60.47 / 86.08")),
            _line("ML, from C and C2", ("ml_again", "rgb", "60.68 / 86.35"),
                  ("ml_again", "rgb2", "60.88 / 86.44")),
            _line("MML, both <- C(RGB)", ("mml_from_c", "rgb", "61.30 / 86.99"),
                  ("mml_from_c", "flow", "58.36 / 85.49")),
            CONTINUED,
            # As many updates as A and B, C and what starts from C, and as B's own.
            _line("CE continued twice", ("ce_continued_2", "rgb", ""), ("ce_continued_2", "flow", "")),
            _line("CE continued three times", ("ce_continued_3", "rgb", ""), ("ce_continued_3", "flow", "")),
        ),
    ),
    "table8": (
        "Table 8, with Diff", ("RGB", "RGB2", "Flow", "Flow2", "Diff", "Diff2"),
        (
            _line("ML, RGB <- RGB, RGB <- RGB2", ("ml_rgb", "rgb", "60.54 / 86.23"),
                  ("ml_rgb", "rgb2", "60.47 / 86.08")),
            _line("MML, RGB and Flow", ("mml", "rgb", "60.82 / 86.75"), NONE, ("mml", "flow", "57.95 / 85.44")),
            _line("ML, Flow <- RGB, Flow <- RGB2", NONE, NONE, ("ml_flow", "flow", "57.58 / 85.17"),
                  ("ml_flow", "flow2", "57.71 / 85.26")),
            _line("ML, Diff <- RGB, Diff <- RGB2", NONE, NONE, NONE, NONE, ("ml_diff", "diff", "60.66 / 87.65"),
                  ("ml_diff", "diff2", "61.07 / 87.73")),
            _line("MML, RGB and Diff", ("mml_diff", "rgb", "60.52 / 86.52"), NONE, NONE, NONE,
                  ("mml_diff", "diff", "62.13 / 87.57")),
            _line("MML, RGB, Flow and Diff", ("mml_three", "rgb", "61.03 / 86.71"), NONE,
                  ("mml_three", "flow", "58.03 / 85.61"), NONE, ("mml_three", "diff", "62.51 / 87.95")),
            _line("CE continued", ("ce_continued", "rgb", ""), NONE, ("ce_continued", "flow", ""), NONE,
                  ("ce_continued", "diff", "")),
        ),
    ),
}  # fmt: skip


# Of Charades (table 6): I3D from Kinetics-400, mAP.
TABLES["table6"] = (
    "Table 6, several labels a clip, mAP", ("RGB", "Flow"),
    (
        _line("CE", ("ce", "rgb", "33.72"), ("ce", "flow", "15.81")),
        _line("MARS, RGB <- IN", ("mars_rgb_in", "rgb", "28.74")),
        _line("MARS, RGB <- RGB", ("mars_rgb_rgb", "rgb", "34.40")),
        _line("D3D, RGB <- IN", ("d3d_rgb_in", "rgb", "33.03")),
        _line("D3D, RGB <- RGB", ("d3d_rgb_rgb", "rgb", "35.48")),
        _line("MML, both <- IN", ("mml_in_in", "rgb", "33.84"), ("mml_in_in", "flow", "17.34")),
        _line("MML, both <- RGB", ("mml", "rgb", "35.96"), ("mml", "flow", "29.12")),
        CONTINUED,
    ),
)  # fmt: skip
# How a network was trained: (segment, network, what it is called, kind of its clips, row of the paper), medians.
TABLE_10 = (
    ("dense", "rgb_dense", "trained dense", "dense",
     ("57.33 / 84.51", "58.79 / 85.68", "57.61 / 84.98", "58.70 / 85.66", "59.71 / 86.57", "60.07 / 86.47",
      "60.11 / 86.56", "60.27 / 86.61")),
    ("uniform", "rgb_uniform", "trained uniform", "uniform",
     ("59.86 / 86.14", "61.16 / 87.03", "56.25 / 83.72", "56.20 / 84.18", "60.64 / 85.58", "59.69 / 86.38",
      "61.50 / 87.32", "61.03 / 87.10")),
    ("both", "rgb", "trained both", "mixed",
     ("60.11 / 85.79", "61.38 / 86.82", "57.80 / 85.05", "58.66 / 85.32", "61.10 / 86.66", "61.01 / 86.57",
      "61.71 / 87.40", "61.59 / 86.97")),
)  # fmt: skip
# The segment of each that names the run: nothing else starts from it, and CE continued has as many updates.
LAST = dict(
    table1="rgb_from_flow", table2="d3d_rgb_rgb", table3="mml", table4="mml", table5="ml_rgb", table7="mml_rgb2",
    table8="mml_three", table6="mml",
)  # fmt: skip


def needed(names: Iterable[str]) -> dict[str, dict]:
    """The segments ``names`` and all that they start from, {name: spec}, in the order of SEGMENTS."""
    waiting, found = [*names], set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            sources = (start.partition(".")[0] for start in SEGMENTS[name]["starts"].values())
            waiting += [source for source in sources if source in SEGMENTS]
    return {name: spec for name, spec in SEGMENTS.items() if name in found}


def networks(c: ConfigDict) -> list[str]:
    """The networks that a grid's segments train or learn from, in the order of their names."""
    return sorted({name for spec in c.grid.segments.values() for name in spec.networks})


def protocols(c: ConfigDict) -> None:
    """Makes the run table 10: three trainings of RGB, each tested by eight protocols from one pass."""
    segments = staged(
        {segment: trained(title, "single", {network: IN}) for segment, network, title, _, _ in TABLE_10}
    )
    rows = tuple((title, segment, network, printed) for segment, network, title, _, printed in TABLE_10)
    c.plan = "grid"
    c.grid.update(dict(segments=segments, last="both", protocols=("Table 10, protocols of test", rows)))
    c.evaluation.update(dict(protocol="T10", crops="full_res"))


def use(c: ConfigDict, table: str, only: str = "", without: Iterable[str] = ()) -> None:
    """Makes the run the grid of a ``table``, or of its rows of one method ``only``, whose name segments begin
    with, beside those of CE; the networks ``without`` are left out of all segments."""
    title, columns, rows = TABLES[table]
    kept = tuple(row for row in rows if row[1][0][0].startswith((only, "ce")))
    cells = [name for _, own in kept for name, *_ in own if name]
    last = f"{only}_rgb_rgb" if only else LAST[table]
    c.plan = "grid"
    segments = {name: _leaving(spec, without) for name, spec in staged(needed([*cells, last])).items()}
    c.grid.update(dict(segments=segments, last=last, tables=((title, columns, kept),)))


def staged(segments: Mapping[str, dict]) -> dict[str, dict]:
    """Gives segments that stand equally far from ImageNet the same batches and steps, as each stage is a whole
    training of the paper; one that names its batches keeps them."""

    def stage(name: str) -> int:
        # A teacher learns no more.
        spec = segments[name]
        learning = [told for network, told in spec["starts"].items() if network != spec.get("teacher")]
        sources = {told.partition(".")[0] for told in learning}
        return 1 + max((stage(source) for source in sources if source in segments), default=0)

    return {name: {"batches": f"stage {stage(name)}", "steps": "ce", **spec} for name, spec in segments.items()}


def _leaving(spec: Mapping, networks: Iterable[str]) -> dict:
    """A segment without some of its ``networks``."""
    starts = {name: start for name, start in spec["starts"].items() if name not in networks}
    return {**spec, "starts": starts, "networks": tuple(n for n in spec["networks"] if n not in networks)}
