"""What Wang et al. print (Gradient-Blending, tables 2 to 8): rows (what, {output: text}) for reports, and weights.

Rows are of clip top-1, or of video top-1 / top-5, in %; those of several labels of mAP / mAUC.
"""

# Clip top-1, video top-1 / top-5. The naive network of sound and RGB has 71.4 / 89.3 in table 4, 71.7 / 89.3 in
# table 5 and 71.7 / 89.6 in table 2.
FLOW_AUDIO = (
    (
        "Kinetics, flow + sound, video top-1 / top-5 (T4, T5)",
        {"audio": "19.7 / 33.6", "flow": "62.1 / 82.6", "naive": "58.3 / 79.9", "av.joint": "66.3 / 86.0"},
    ),
    (
        "Kinetics, flow + sound, clip top-1 (T4, T5)",
        {"audio": "13.9", "flow": "49.2", "naive": "46.2", "av.joint": "54.4"},
    ),
)
RGB_ROWS = (
    (
        "Kinetics, RGB + sound, video top-1 / top-5 (T4, T5)",
        {"audio": "19.7 / 33.6", "rgb": "72.6 / 90.1", "naive_ra": "71.4 / 89.3", "ra.joint": "74.7 / 91.5"},
    ),
    (
        "Kinetics, RGB + sound, clip top-1 (T4, T5)",
        {"audio": "13.9", "rgb": "63.5", "naive_ra": "61.8", "ra.joint": "65.9"},
    ),
    (
        "Kinetics, RGB + flow, video top-1 / top-5 (T4)",
        {"rgb": "72.6 / 90.1", "flow": "62.1 / 82.6", "naive_rf": "71.3 / 89.6", "rf.joint": "73.1 / 90.8"},
    ),
    ("Kinetics, RGB + flow, clip top-1 (T4)", {"rgb": "63.5", "naive_rf": "62.2", "rf.joint": "64.3"}),
    (
        "Kinetics, RGB + flow + sound, video top-1 / top-5 (T4)",
        {"rgb": "72.6 / 90.1", "naive_rfa": "70.0 / 88.7", "rfa.joint": "74.9 / 91.8"},
    ),
    ("Kinetics, RGB + flow + sound, clip top-1 (T4)", {"rgb": "63.5", "naive_rfa": "61.0", "rfa.joint": "66.1"}),
    ("Kinetics, RGB + sound, pre-training (T5)", {"naive": "71.7 / 89.6"}),
    ("Kinetics, RGB + sound, dropout (T5)", {"dropout": "72.9 / 90.6"}),
    ("Kinetics, RGB + sound, auxiliary losses (T5)", {"av.joint": "70.8 / 88.6"}),
    ("Kinetics, RGB + sound, mid-level concatenation", {"naive_mid": "72.8", "mid.joint": "73.6"}),
    ("Kinetics, RGB + sound, LMF", {"naive_lmf": "69.3", "lmf.joint": "73.5"}),
)


def _rows_of(what: str, table: str, data: str = "Kinetics", **columns: tuple[float, float, float]) -> tuple:
    """The rows (clip top-1, video top-1 and top-5) that a table prints of a dataset, {output: the three}."""
    return (
        (
            f"{data}, {what}, video top-1 / top-5 ({table})",
            {output: f"{first} / {five}" for output, (_, first, five) in columns.items()},
        ),
        (f"{data}, {what}, clip top-1 ({table})", {output: str(clip) for output, (clip, *_) in columns.items()}),
    )


RGB_AUDIO = (
    *_rows_of("RGB + sound", "T4, T5", audio=(13.9, 19.7, 33.6), rgb=(63.5, 72.6, 90.1),
              naive=(61.8, 71.4, 89.3), **{"av.joint": (65.9, 74.7, 91.5)}),
    ("Kinetics, RGB + sound, video top-1 / top-5, naive in T2", {"naive": "71.7 / 89.6"}),
    *_rows_of("online G-Blend", "T2", **{"av.joint": (66.9, 75.8, 91.9)}),
)  # fmt: skip
BASELINES = (
    *_rows_of("pre-training", "T5", naive=(61.9, 71.7, 89.6)),
    *_rows_of("dropout", "T5", dropout=(63.8, 72.9, 90.6)),
    *_rows_of("auxiliary losses", "T5", **{"av.joint": (60.5, 70.8, 88.6)}),
)
RGB_FLOW = _rows_of("RGB + flow", "T4", rgb=(63.5, 72.6, 90.1), naive=(62.2, 71.3, 89.6), **{
    "av.joint": (64.3, 73.1, 90.8)})  # fmt: skip
RGB_FLOW_AUDIO = _rows_of("RGB + flow + sound", "T4", rgb=(63.5, 72.6, 90.1), naive=(61.0, 70.0, 88.7), **{
    "av.joint": (66.1, 74.9, 91.8)})  # fmt: skip
MID = (("Kinetics, mid-level concatenation, video top-1", {"naive": "72.8", "av.joint": "73.6"}),)
LMF = (("Kinetics, LMF, video top-1", {"naive": "69.3", "av.joint": "73.5"}),)
ADAGRAD = _rows_of("AdaGrad", "T3", rgb=(60.0, 68.9, 88.4), naive=(56.4, 65.2, 86.5), **{
    "av.joint": (62.1, 71.3, 89.8)})  # fmt: skip
ADAM = _rows_of("Adam", "T3", rgb=(60.1, 69.3, 88.7), naive=(57.9, 66.4, 86.8), **{
    "av.joint": (63.0, 72.1, 90.5)})  # fmt: skip
CSN = (
    (
        "Kinetics, ip-CSN-152, video top-1 / top-5 (T6; 108.8 -> 110.1 GFLOPs, x 30)",
        {"rgb": "77.8 / 92.8", "av.joint": "79.1 / 93.9"},
    ),
    ("Kinetics, ip-CSN-152 from Sports-1M (T6)", {"rgb": "79.2 / 93.8", "av.joint": "80.4 / 94.8"}),
    ("Kinetics, ip-CSN-152 from IG-65M (T6)", {"rgb": "82.5 / 95.3", "av.joint": "83.3 / 96.0"}),
    ("Kinetics, Shift-Attention, from ImageNet (T6)", {"av.joint": "77.7 / 93.2"}),
    ("Kinetics, SlowFast (T6; 213 GFLOPs, x 30)", {"rgb": "78.9 / 93.5"}),
    ("Kinetics, SlowFast + NL (T6; 234 GFLOPs, x 30)", {"rgb": "79.8 / 93.9"}),
)
MINISPORTS = (
    *_rows_of("RGB + sound", "T5", "mini-Sports", audio=(14.7, 22.1, 35.6), rgb=(48.5, 62.7, 84.8),
              naive=(47.1, 60.2, 83.3), **{"av.joint": (49.7, 62.8, 85.5)}),
    *_rows_of("pre-training", "T5", "mini-Sports", naive=(48.3, 61.3, 84.9)),
    *_rows_of("dropout", "T5", "mini-Sports", dropout=(47.4, 61.4, 84.3)),
    *_rows_of("auxiliary losses", "T5", "mini-Sports", **{"av.joint": (48.9, 62.1, 84.0)}),
)  # fmt: skip
MINI_AUDIOSET = (
    (
        "mini-AudioSet, mAP / mAUC (T5)",
        {"audio": "29.1 / 90.4", "rgb": "22.1 / 86.1", "naive": "36.5 / 92.2", "av.joint": "37.8 / 92.2"},
    ),
    ("mini-AudioSet, pre-training, mAP / mAUC (T5)", {"naive": "37.4 / 91.7"}),
    ("mini-AudioSet, dropout, mAP / mAUC (T5)", {"dropout": "36.7 / 92.3"}),
    ("mini-AudioSet, auxiliary losses, mAP / mAUC (T5)", {"av.joint": "37.7 / 92.3"}),
)
AUDIOSET = (
    (
        "AudioSet, mAP / mAUC (T7)",
        {"audio": "32.4 / 96.1", "rgb": "18.8 / 91.8", "naive": "40.2 / 97.3", "av.joint": "41.8 / 97.5"},
    ),
    ("AudioSet, TAL-Net, mAP / mAUC (T7)", {"audio": "36.2 / 96.5"}),
    ("AudioSet, multi-level attention, mAP / mAUC (T7)", {"audio": "36.0 / 97.0"}),
)


def _epic_rows(*rows: tuple[str, str, str, str, str]) -> dict[str, tuple]:
    """The rows (what, output, noun, verb, action) of table 8 by head. Actions are of two runs: what is printed of
    them stands beside."""
    return {
        head: tuple(
            (f"EPIC-Kitchens-55, {row[0]}, {head} top-1 / top-5 (T8; actions {row[4]})", {row[1]: row[place]})
            for row in rows
        )
        for place, head in ((2, "noun"), (3, "verb"))
    }


EPIC55 = _epic_rows(
    ("validation, RGB", "rgb", "36.4 / 58.9", "56.6 / 84.1", "24.9 / 42.5"),
    ("validation, naive", "naive", "34.8 / 56.7", "57.4 / 83.3", "23.7 / 41.2"),
    ("validation, G-Blend", "av.joint", "36.1 / 58.5", "59.2 / 84.5", "25.6 / 43.5"),
    ("S2, RGB", "rgb", "35.8 / 59.6", "56.2 / 80.9", "25.1 / 41.2"),
    ("S2, G-Blend", "av.joint", "36.7 / 60.3", "58.3 / 81.3", "26.6 / 43.6"),
    ("S2, leaderboard", "av.joint", "38.1 / 63.8", "60.0 / 82.0", "27.4 / 45.2"),
    ("S2, Baidu-UTS", "av.joint", "34.1 / 62.4", "59.7 / 82.7", "25.1 / 46.0"),
    ("S2, TBN, single", "av.joint", "27.9 / 53.8", "52.7 / 79.9", "19.1 / 36.5"),
    ("S2, TBN, ensemble", "av.joint", "30.4 / 55.7", "54.5 / 81.2", "21.0 / 39.4"),
    ("S1, RGB", "rgb", "45.1 / 68.4", "64.5 / 88.1", "34.4 / 52.7"),
    ("S1, G-Blend", "av.joint", "48.5 / 71.4", "66.7 / 88.9", "37.1 / 56.2"),
    ("S1, Baidu-UTS", "av.joint", "52.3 / 76.7", "69.8 / 91.0", "41.4 / 63.6"),
    ("S1, TBN, single", "av.joint", "46.0 / 71.3", "64.8 / 90.7", "34.8 / 56.7"),
    ("S1, TBN, ensemble", "av.joint", "47.9 / 72.8", "66.1 / 91.2", "36.7 / 58.6"),
)

# Weights that are published, by their source, in the order of the outputs here: sound, RGB or flow, joint; without
# sound RGB, flow, joint; of all three RGB, flow, sound, joint. Table 5's of Kinetics are table 4's, rounded.
WEIGHTS = {
    "table 4, RGB + sound": ".014,.630,.356",
    "table 4, RGB + flow": ".309,.495,.196",
    "table 4, flow + sound": ".011,.827,.162",
    "table 4, RGB + flow + sound": ".33,.53,.01,.13",
    "table 5, mini-Sports": ".06,.65,.29",
    "table 5, mini-AudioSet": ".24,.38,.38",
    "VMZ's tutorial, Kinetics, ip-CSN-152": ".009,.485,.506",
    "VMZ's tutorial, Kinetics, ip-CSN-152 from IG-65M": ".070,.485,.445",
    "VMZ's tutorial, AudioSet": ".239,.384,.377",
    "VMZ's tutorial, EPIC nouns": ".175,.460,.364",
    "VMZ's tutorial, EPIC verbs": ".524,.247,.229",
}
