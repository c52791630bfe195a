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
# Rows are flow's (Diff's) networks, columns RGB's.
TABLE_11 = (
    (
        "63.67 / 88.41",
        "60.40 / 86.68",
        "61.72 / 87.15",
        "62.65 / 88.03",
        "62.56 / 88.02",
        "64.62 / 89.14",
        "64.33 / 88.76",
        "64.45 / 88.82",
        "64.42 / 88.97",
        "62.70 / 88.09",
        "62.96 / 88.19",
        "63.77 / 88.64",
        "63.31 / 88.29",
    ),
    (
        "63.74 / 88.73",
        "61.18 / 87.42",
        "62.12 / 87.91",
        "62.89 / 88.59",
        "62.79 / 88.41",
        "64.34 / 89.44",
        "64.39 / 89.21",
        "64.52 / 89.45",
        "64.45 / 89.35",
        "62.94 / 88.68",
        "63.14 / 88.68",
        "64.00 / 88.94",
        "63.18 / 88.73",
    ),
    (
        "62.26 / 87.81",
        "61.61 / 87.24",
        "61.92 / 87.66",
        "62.37 / 88.25",
        "62.50 / 88.19",
        "63.57 / 88.84",
        "63.42 / 88.57",
        "63.62 / 88.75",
        "63.58 / 88.71",
        "62.78 / 88.42",
        "62.88 / 88.49",
        "62.98 / 88.44",
        "62.62 / 88.37",
    ),
    (
        "62.57 / 87.67",
        "61.28 / 87.21",
        "61.92 / 87.71",
        "62.55 / 88.08",
        "62.61 / 88.02",
        "63.73 / 88.80",
        "63.61 / 88.62",
        "63.76 / 88.76",
        "63.70 / 88.81",
        "62.92 / 88.26",
        "62.96 / 88.38",
        "63.28 / 88.47",
        "62.72 / 88.31",
    ),
    (
        "63.41 / 88.44",
        "60.73 / 86.72",
        "62.24 / 87.35",
        "63.13 / 88.26",
        "63.03 / 88.25",
        "64.88 / 89.23",
        "64.67 / 88.93",
        "64.64 / 89.13",
        "64.57 / 89.33",
        "63.32 / 88.43",
        "63.64 / 88.46",
        "64.31 / 88.79",
        "63.56 / 88.38",
    ),
    (
        "63.97 / 88.93",
        "61.91 / 87.78",
        "62.78 / 88.31",
        "63.74 / 89.01",
        "63.60 / 88.91",
        "65.19 / 89.77",
        "64.98 / 89.45",
        "65.20 / 89.74",
        "65.06 / 89.72",
        "63.74 / 89.09",
        "64.08 / 89.20",
        "64.66 / 89.22",
        "64.16 / 89.16",
    ),
    (
        "64.23 / 88.99",
        "62.04 / 87.82",
        "62.93 / 88.31",
        "63.89 / 88.93",
        "63.66 / 88.94",
        "65.24 / 89.72",
        "65.11 / 89.48",
        "65.08 / 89.78",
        "65.09 / 89.77",
        "64.02 / 89.19",
        "64.21 / 89.16",
        "64.83 / 89.41",
        "64.28 / 89.09",
    ),
    (
        "63.47 / 88.41",
        "61.86 / 87.62",
        "62.62 / 88.03",
        "63.22 / 88.53",
        "63.38 / 88.55",
        "64.79 / 89.35",
        "64.45 / 88.91",
        "64.75 / 89.32",
        "64.55 / 89.21",
        "63.53 / 88.75",
        "63.91 / 88.72",
        "64.32 / 88.81",
        "63.82 / 88.78",
    ),
    (
        "63.78 / 88.65",
        "62.08 / 87.69",
        "62.89 / 88.21",
        "63.57 / 88.83",
        "63.60 / 88.71",
        "64.98 / 89.47",
        "64.71 / 89.24",
        "64.87 / 89.48",
        "64.96 / 89.40",
        "63.57 / 88.88",
        "64.04 / 88.91",
        "64.35 / 89.16",
        "63.85 / 88.99",
    ),
    (
        "63.81 / 88.73",
        "62.20 / 87.71",
        "62.95 / 88.04",
        "63.70 / 88.76",
        "63.74 / 88.70",
        "64.90 / 89.37",
        "64.79 / 89.20",
        "64.88 / 89.27",
        "64.81 / 89.40",
        "63.98 / 88.78",
        "64.00 / 88.84",
        "64.28 / 88.95",
        "64.08 / 88.97",
    ),
    (
        "63.62 / 88.61",
        "61.94 / 87.56",
        "62.57 / 88.14",
        "63.41 / 88.64",
        "63.50 / 88.64",
        "64.90 / 89.55",
        "64.71 / 89.20",
        "64.76 / 89.42",
        "64.50 / 89.48",
        "63.59 / 88.81",
        "63.82 / 88.89",
        "64.43 / 89.06",
        "63.64 / 88.83",
    ),
)
TABLE_12 = (
    (
        "63.26 / 88.46",
        "63.24 / 88.29",
        "63.55 / 88.59",
        "63.97 / 88.89",
        "63.90 / 88.77",
        "64.54 / 89.33",
        "64.26 / 89.01",
        "64.52 / 89.27",
        "64.48 / 89.14",
        "64.15 / 89.03",
        "64.03 / 89.07",
        "63.94 / 88.86",
        "63.95 / 88.98",
    ),
    (
        "63.10 / 88.37",
        "63.24 / 88.44",
        "63.57 / 88.66",
        "63.64 / 88.61",
        "63.86 / 88.59",
        "64.37 / 88.91",
        "64.03 / 88.70",
        "64.55 / 88.95",
        "64.16 / 88.90",
        "63.87 / 88.91",
        "64.00 / 88.80",
        "63.85 / 88.55",
        "63.83 / 88.59",
    ),
    (
        "63.68 / 88.45",
        "64.13 / 88.83",
        "64.11 / 88.88",
        "64.49 / 89.13",
        "64.52 / 89.06",
        "64.87 / 89.38",
        "64.51 / 88.96",
        "65.05 / 89.22",
        "64.86 / 89.22",
        "64.63 / 89.19",
        "64.74 / 89.32",
        "64.30 / 88.92",
        "64.41 / 88.95",
    ),
    (
        "63.87 / 88.59",
        "64.29 / 89.03",
        "64.33 / 89.05",
        "64.56 / 89.33",
        "64.75 / 89.25",
        "64.93 / 89.33",
        "64.86 / 89.04",
        "65.08 / 89.26",
        "64.87 / 89.36",
        "65.02 / 89.43",
        "64.92 / 89.36",
        "64.64 / 89.13",
        "64.77 / 89.29",
    ),
    (
        "62.75 / 88.12",
        "63.70 / 88.62",
        "63.73 / 88.66",
        "63.59 / 88.71",
        "63.92 / 88.73",
        "64.35 / 89.07",
        "63.69 / 88.61",
        "64.30 / 88.89",
        "64.30 / 88.90",
        "64.13 / 88.83",
        "64.04 / 89.00",
        "63.54 / 88.47",
        "63.72 / 88.64",
    ),
    (
        "63.48 / 88.40",
        "63.38 / 88.40",
        "63.61 / 88.61",
        "64.13 / 88.97",
        "64.15 / 88.91",
        "64.89 / 89.42",
        "64.46 / 88.99",
        "64.91 / 89.35",
        "64.52 / 89.32",
        "64.30 / 89.12",
        "64.48 / 89.20",
        "64.18 / 88.91",
        "64.18 / 89.01",
    ),
)
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
    c.grid.update(dict(pairs=pairs, ranks=("Table 13, sums of places in ensembles of three", ranks)))


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
