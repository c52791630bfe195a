"""The ensembles of MML's appendix: who is in tables 11 to 13, what is printed there, and the pipeline of 3.3.

Top-1 / top-5 in % on Something-Something v2's validation clips, TSM-ResNet-50 of 8 frames. The tables' own tags:
their A is MML of RGB and flow from RGB, their B the ML of two RGB networks, which table 7 calls C.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from configs import mml_tables as tables

# {modality: {what the paper calls it: (segment, output)}}, in the order of the tables' columns and rows.
MEMBERS = {
    "RGB": {
        "CE from ImageNet": ("ce", "rgb"),
        "MARS from RGB": ("mars_rgb_rgb", "rgb"),
        "D3D from RGB": ("d3d_rgb_rgb", "rgb"),
        "MML with Flow from RGB (A)": ("mml", "rgb"),
        "MML from RGB with Flow from Flow": ("mml_rgb_flow", "rgb"),
        "ML from RGB 1 (B)": ("ml_rgb", "rgb"),
        "ML from RGB 2": ("ml_rgb", "rgb2"),
        "ML from B 1": ("ml_again", "rgb"),
        "ML from B 2": ("ml_again", "rgb2"),
        "MML with Flow from A": ("mml_from_a", "rgb"),
        "MML with Flow from B": ("mml_from_c", "rgb"),
        "MML with Diff from RGB": ("mml_diff", "rgb"),
        "MML with Flow and Diff from RGB": ("mml_three", "rgb"),
    },
    "Flow": {
        "CE from ImageNet": ("ce", "flow"),
        "CE from RGB": ("ce_continued", "flow"),
        "MARS from RGB": ("mars_flow_rgb", "flow"),
        "MARS from ImageNet": ("mars_flow_in", "flow"),
        "ML with Flow from ImageNet": ("ml_flow_in", "flow"),
        "ML Flow from RGB 1": ("ml_flow", "flow"),
        "ML Flow from RGB 2": ("ml_flow", "flow2"),
        "MML with RGB from RGB": ("mml", "flow"),
        "MML with RGB from A": ("mml_from_a", "flow"),
        "MML with RGB from B": ("mml_from_c", "flow"),
        "MML with RGB and Diff from RGB": ("mml_three", "flow"),
    },
    "Diff": {
        "CE from ImageNet": ("ce", "diff"),
        "CE from RGB": ("ce_continued", "diff"),
        "ML from RGB 1": ("ml_diff", "diff"),
        "ML from RGB 2": ("ml_diff", "diff2"),
        "MML with RGB from RGB": ("mml_diff", "diff"),
        "MML with RGB and Flow from RGB": ("mml_three", "diff"),
    },
}


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    """Reads rows of 'top-1 / top-5', each written as a line of the first and a line of the second."""
    lines = [line.split() for line in text.strip().splitlines()]
    return tuple(tuple(map(" / ".join, zip(*pair))) for pair in zip(lines[::2], lines[1::2]))


# Rows are flow's (Diff's) networks, columns RGB's.
TABLE_11 = _table("""
    63.67 60.40 61.72 62.65 62.56 64.62 64.33 64.45 64.42 62.70 62.96 63.77 63.31
    88.41 86.68 87.15 88.03 88.02 89.14 88.76 88.82 88.97 88.09 88.19 88.64 88.29
    63.74 61.18 62.12 62.89 62.79 64.34 64.39 64.52 64.45 62.94 63.14 64.00 63.18
    88.73 87.42 87.91 88.59 88.41 89.44 89.21 89.45 89.35 88.68 88.68 88.94 88.73
    62.26 61.61 61.92 62.37 62.50 63.57 63.42 63.62 63.58 62.78 62.88 62.98 62.62
    87.81 87.24 87.66 88.25 88.19 88.84 88.57 88.75 88.71 88.42 88.49 88.44 88.37
    62.57 61.28 61.92 62.55 62.61 63.73 63.61 63.76 63.70 62.92 62.96 63.28 62.72
    87.67 87.21 87.71 88.08 88.02 88.80 88.62 88.76 88.81 88.26 88.38 88.47 88.31
    63.41 60.73 62.24 63.13 63.03 64.88 64.67 64.64 64.57 63.32 63.64 64.31 63.56
    88.44 86.72 87.35 88.26 88.25 89.23 88.93 89.13 89.33 88.43 88.46 88.79 88.38
    63.97 61.91 62.78 63.74 63.60 65.19 64.98 65.20 65.06 63.74 64.08 64.66 64.16
    88.93 87.78 88.31 89.01 88.91 89.77 89.45 89.74 89.72 89.09 89.20 89.22 89.16
    64.23 62.04 62.93 63.89 63.66 65.24 65.11 65.08 65.09 64.02 64.21 64.83 64.28
    88.99 87.82 88.31 88.93 88.94 89.72 89.48 89.78 89.77 89.19 89.16 89.41 89.09
    63.47 61.86 62.62 63.22 63.38 64.79 64.45 64.75 64.55 63.53 63.91 64.32 63.82
    88.41 87.62 88.03 88.53 88.55 89.35 88.91 89.32 89.21 88.75 88.72 88.81 88.78
    63.78 62.08 62.89 63.57 63.60 64.98 64.71 64.87 64.96 63.57 64.04 64.35 63.85
    88.65 87.69 88.21 88.83 88.71 89.47 89.24 89.48 89.40 88.88 88.91 89.16 88.99
    63.81 62.20 62.95 63.70 63.74 64.90 64.79 64.88 64.81 63.98 64.00 64.28 64.08
    88.73 87.71 88.04 88.76 88.70 89.37 89.20 89.27 89.40 88.78 88.84 88.95 88.97
    63.62 61.94 62.57 63.41 63.50 64.90 64.71 64.76 64.50 63.59 63.82 64.43 63.64
    88.61 87.56 88.14 88.64 88.64 89.55 89.20 89.42 89.48 88.81 88.89 89.06 88.83
""")
TABLE_12 = _table("""
    63.26 63.24 63.55 63.97 63.90 64.54 64.26 64.52 64.48 64.15 64.03 63.94 63.95
    88.46 88.29 88.59 88.89 88.77 89.33 89.01 89.27 89.14 89.03 89.07 88.86 88.98
    63.10 63.24 63.57 63.64 63.86 64.37 64.03 64.55 64.16 63.87 64.00 63.85 63.83
    88.37 88.44 88.66 88.61 88.59 88.91 88.70 88.95 88.90 88.91 88.80 88.55 88.59
    63.68 64.13 64.11 64.49 64.52 64.87 64.51 65.05 64.86 64.63 64.74 64.30 64.41
    88.45 88.83 88.88 89.13 89.06 89.38 88.96 89.22 89.22 89.19 89.32 88.92 88.95
    63.87 64.29 64.33 64.56 64.75 64.93 64.86 65.08 64.87 65.02 64.92 64.64 64.77
    88.59 89.03 89.05 89.33 89.25 89.33 89.04 89.26 89.36 89.43 89.36 89.13 89.29
    62.75 63.70 63.73 63.59 63.92 64.35 63.69 64.30 64.30 64.13 64.04 63.54 63.72
    88.12 88.62 88.66 88.71 88.73 89.07 88.61 88.89 88.90 88.83 89.00 88.47 88.64
    63.48 63.38 63.61 64.13 64.15 64.89 64.46 64.91 64.52 64.30 64.48 64.18 64.18
    88.40 88.40 88.61 88.97 88.91 89.42 88.99 89.35 89.32 89.12 89.20 88.91 89.01
""")
# {modality: {who: the sum of places}} of all 858 ensembles of three; the smaller, the better.
TABLE_13 = {
    "RGB": {
        "ML from B 1": "9486",
        "ML from RGB 1 (B)": "10711",
        "ML from B 2": "13112",
        "ML from RGB 2": "15670",
        "MML with Diff from RGB": "26918",
        "MML with Flow from B": "28069",
        "MML with Flow and Diff from RGB": "31281",
        "CE from ImageNet": "31793",
        "MML with Flow from A": "31968",
        "MML from RGB with Flow from Flow": "35475",
        "MML with Flow from RGB (A)": "36167",
        "D3D from RGB": "46044",
        "MARS from RGB": "50959",
    },
    "Flow": {
        "ML Flow from RGB 2": "22434",
        "ML Flow from RGB 1": "25793",
        "MML with RGB from A": "28193",
        "MML with RGB from B": "28954",
        "ML with Flow from ImageNet": "28972",
        "CE from ImageNet": "29238",
        "CE from RGB": "32372",
        "MML with RGB and Diff from RGB": "32659",
        "MML with RGB from RGB": "34290",
        "MARS from ImageNet": "50577",
        "MARS from RGB": "54171",
    },
    "Diff": {
        "ML from RGB 2": "42079",
        "ML from RGB 1": "49533",
        "CE from RGB": "67475",
        "MML with RGB from RGB": "67528",
        "MML with RGB and Flow from RGB": "69895",
        "CE from ImageNet": "71179",
    },
}


# ---------------------------------------------------------------------------- grids
def _members(modality: str) -> tuple:
    return tuple((title, *own) for title, own in MEMBERS[modality].items())


def use(c: ConfigDict) -> None:
    """Makes the run a grid of all models of tables 11 to 13, which end it."""
    cells = [segment for own in MEMBERS.values() for segment, _ in own.values()]
    pairs = (
        ("Table 11, RGB + Flow", _members("Flow"), _members("RGB"), TABLE_11),
        ("Table 12, RGB + Diff", _members("Diff"), _members("RGB"), TABLE_12),
    )
    ranks = tuple((modality, _members(modality), tuple(TABLE_13[modality].items())) for modality in MEMBERS)
    c.plan = "grid"
    c.grid.update(dict(segments=tables.staged(tables.needed(cells)), last="mml_three", tables=()))
    c.grid.update(
        dict(
            pairs=pairs,
            ranks=("Table 13, sums of places in ensembles of three (of Diff's one is misprinted, by 36)", ranks),
        )
    )


def _launch(batches: str) -> dict:
    starts = {"rgb": tables.RGB, "rgb2": tables.RGB2}
    return tables.trained("", "mml", starts, batches=batches)


def _last(title: str, modality: str) -> dict:
    """ML of two networks of a modality, one from each launch."""
    starts = {modality: "launch_1.rgb", f"{modality}2": "launch_2.rgb2"}
    return tables.trained(f"ML, {title}", "mml", starts)


# Appendix 3.3. Of one launch the two networks agree already: ML of these would have little left to teach.
PIPELINE: Mapping[str, dict] = {
    "ce": tables.SEGMENTS["ce"], "ce2": tables.SEGMENTS["ce2"],
    # As many updates as a launch and what starts from it.
    "ce_again": tables.trained("", "single", {"rgb": tables.RGB}),
    "ce_continued": tables.trained(
        "CE continued", "single", {"rgb": "ce_again.rgb", "flow": "ce_again.rgb", "diff": "ce_again.rgb"}
    ),
    "launch_1": _launch("launch_1"), "launch_2": _launch("launch_2"),
    "ml_flow": _last("Flow", "flow"), "ml_diff": _last("Diff", "diff"), "ml_rgb": _last("RGB", "rgb"),
}  # fmt: skip


def pipeline(c: ConfigDict, published: tuple[str, str] = ("", "")) -> None:
    """Makes the run the pipeline of the paper's best ensemble (figure 3); ``published`` are table 9's numbers of
    RGB + Flow and of all three, which are of R101 and 16 frames."""
    own = {m: (f"ml_{m}", m) for m in ("rgb", "flow", "diff")}
    twice = {m: (f"ml_{m}", f"{m}2") for m in own}
    plain = {m: ("ce_continued", m) for m in own}
    sums = (
        ("RGB", (own["rgb"],), ""),
        ("RGB + Flow", (own["rgb"], own["flow"]), published[0]),
        ("RGB + Flow + Diff", (*own.values(),), published[1]),
        ("RGB + Flow, both of each", (own["rgb"], twice["rgb"], own["flow"], twice["flow"]), ""),
        ("all six", (*own.values(), *twice.values()), ""),
        ("RGB + Flow, CE continued", (plain["rgb"], plain["flow"]), ""),
        ("RGB + Flow + Diff, CE continued", (*plain.values(),), ""),
    )
    c.plan = "grid"
    c.grid.update(dict(segments=tables.staged(PIPELINE), last="ml_rgb", tables=()))
    c.grid.update(dict(sums=("Table 9, ensembles", sums)))
