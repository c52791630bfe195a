"""What Xu et al. print (CMPL, tables 1 to 6, A1, A3 and A4, figure 4): rows (what, {output: text}) for reports.

Top-1 in %, of table 6 top-1 / top-5. The mean of three labelled draws, the primary network alone, ten clips of
three crops. Rows that the paper takes over from others' papers, and did not run, are marked 'quoted'.
"""

from collections.abc import Mapping

# {row: (1 % of UCF-101's labels, 10 %, 1 % of Kinetics-400's, 10 %)}, 200 epochs; '' where nothing is printed. The
# text of the paper has lost the blank cells of S4L's row: 29.1 is of UCF-101, from VideoSSL's paper.
TABLE_1 = {
    "supervised, 3D-ResNet-50": ("6.5", "32.4", "4.4", "36.2"),
    "FixMatch, 3D-ResNet-50": ("14.8", "49.8", "8.6", "46.9"),
    "FixMatch, SlowFast-R50": ("16.1", "55.1", "10.1", "49.4"),
    "S4L, 3D-ResNet-18, 16 frames, quoted": ("", "29.1", "", ""),
    "VideoSSL, 3D-ResNet-18, 16 frames, quoted": ("", "42.0", "", ""),
    "TCL, TSM-R18, 400 epochs, quoted": ("", "", "8.5", ""),
    "MvPL, RGB + flow + gradients, 600 epochs, quoted": ("22.8", "80.5", "17.0", "58.2"),
    "CMPL, 3D-ResNet-18": ("23.8", "67.6", "16.5", "53.7"),
    "CMPL, 3D-ResNet-50": ("25.1", "79.1", "17.6", "58.4"),
}
COLUMNS = ("UCF-101, 1 %", "UCF-101, 10 %", "Kinetics-400, 1 %", "Kinetics-400, 10 %")

# All of the following but table A3: 1 % of Kinetics-400's labels, 50 epochs, and, where no temporal locations are
# said, table 5's offset of one second, as the equal numbers tell.
TABLE_2 = {
    "FixMatch": "6.78",
    "FixMatch + frame rates": "7.12",
    "FixMatch + frame rates + temporal locations": "7.68",
    "CMPL, both 8x8": "12.04",
    "CMPL + frame rates": "12.90",
    "CMPL + frame rates + temporal locations": "13.71",
}
# Beside each row stand the GFLOPs of both networks as they are printed, by what definition the paper does not say.
TABLE_3 = {
    "the primary one, 8 frames (FixMatch), 146 G": "6.78",
    "the primary one, 16 frames (FixMatch), 168 G": "7.12",
    "3D-ResNet-50, 16 frames, 187 G": "9.97",
    "3D-ResNet-18, 16 frames, 132 G": "10.63",
    "3D-ResNet-10, 16 frames, 108 G": "10.88",
    "3D-ResNet-50 x 1/2, 16 frames, 112 G": "11.57",
    "3D-ResNet-50 x 1/4, 16 frames, 94 G": "12.90",
    "3D-ResNet-50 x 1/8, 16 frames, 87 G": "12.08",
}
TABLE_4 = {"8x8": "12.04", "16x4": "12.90", "32x2": "12.94"}
TABLE_5 = {"1 s": "12.90", "2 s": "12.64", "5 s": "13.44", "10 s": "13.71"}
TABLE_6 = {
    "nothing (FixMatch)": "6.78 / 17.92",
    "labels alone": "10.57 / 25.53",
    "pseudo-labels alone": "10.32 / 24.46",
    "both": "12.90 / 28.19",
}
TABLE_A1 = {
    "FixMatch": "6.78",
    "self-first": "10.80",
    "opposite-first": "11.13",
    "maximum": "11.85",
    "average": "12.16",
    "cross": "12.90",
}
# All of UCF-101's labels, Kinetics-400 without labels; the others learn from Kinetics first, then from UCF-101.
TABLE_A3 = {
    "supervised, 3D-ResNet-50": "61.1",
    "supervised, 3D-ResNet-50 from ImageNet": "86.2",
    "MotionPred, C3D, 16 frames, quoted": "61.2",
    "RotNet3D, 3D-ResNet-18, 16 frames, quoted": "62.9",
    "ST-Puzzle, 3D-ResNet-18, 16 frames, quoted": "65.8",
    "ClipOrder, R(2+1)D-18, quoted": "72.4",
    "DPC, 3D-ResNet-34, quoted": "75.7",
    "AoT, T-CAM, quoted": "79.4",
    "SpeedNet, I3D, 64 frames, quoted": "81.1",
    "VTHCL, 3D-ResNet-50, 8 frames, quoted": "82.1",
    "PacePrediction, S3D-G, 64 frames, quoted": "87.1",
    "CoCLR, S3D-G, 32 frames, quoted": "87.6",
    "CMPL, 3D-ResNet-50": "88.9",
}
TABLE_A4 = {"as many of every class": "12.90", "in proportion to the classes": "12.68"}
# Figure 4 has curves without numbers; these are the best of each, and what was tried.
FIGURE_4 = {"threshold": 0.9, "unlabelled clips for each labelled one": 5, "strength": 5}
RATIOS = (1, 2, 5, 10)


def of(table: str, what: str, rows: Mapping[str, str], output: str = "rgb") -> tuple:
    """The ``rows`` {row: number} of a ``table`` as the report takes them, for the column of an ``output``;
    ``what`` they are of."""
    return tuple((f"{what}, {row} ({table})", {output: number}) for row, number in rows.items())


def table_1(column: str, output: str = "rgb") -> tuple:
    """The rows of table 1 that print something of ``column`` (one of COLUMNS)."""
    place = COLUMNS.index(column)
    return of("T1", column, {row: own[place] for row, own in TABLE_1.items() if own[place]}, output)


# What a run of 50 epochs with 1 % of Kinetics-400's labels compares with.
_FEW = "Kinetics-400, 1 %, 50 epochs"
COMPONENTS = of("T2", _FEW, TABLE_2)
CATEGORIES = of("A4", f"{_FEW}, labelled", TABLE_A4)
ABLATIONS = (
    *COMPONENTS,
    *of("T3", f"{_FEW}, auxiliary network", TABLE_3),
    *of("T4", f"{_FEW}, auxiliary network sees", TABLE_4),
    *of("T5", f"{_FEW}, offset", TABLE_5),
    *of("T6", f"{_FEW}, auxiliary network learns from", TABLE_6),
    *of("A1", f"{_FEW}, scheme", TABLE_A1),
    *CATEGORIES,
)
FROM_KINETICS = of("A3", "UCF-101, all labels", TABLE_A3)
