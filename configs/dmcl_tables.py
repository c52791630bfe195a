"""What Garcia et al. print (DMCL, tables 1 to 4, figure 3): rows (what, {output: text}) for reports.

Numbers are top-1 in %. Sums are of the logits of all three; an oracle counts a clip that any network has right.
"""


def _row(what: str, rgb: str, depth: str = "", flow: str = "", total: str = "", oracle: str = ""):
    names = {"rgb": rgb, "depth": depth, "flow": flow, "sum": total, "oracle": oracle}
    return what, {name: text for name, text in names.items() if text}


NWUCLA = (
    _row("Independent, NW-UCLA (T2)", "87.53", "80.30", "89.58", "93.79", "97.86"),
    _row("SMCL, NW-UCLA (T1)", "24.83", total="49.00", oracle="86.79"),
    _row("CMCL, NW-UCLA (T1)", "11.13", total="84.73", oracle="89.65"),
    _row("Random teacher, NW-UCLA (T2)", "89.57", "57.81", "89.43", "86.93", "95.71"),
    _row("DMCL, NW-UCLA (T2)", "93.64", "83.29", "91.07", "93.28", "97.64"),
)
# Of the rows that others have published some are tested on another modality than RGB: they stand below it. Those
# that end in 'et al.' and ADMD are, like DMCL, trained with further modalities and tested on RGB.
NWUCLA_RIVALS = (
    _row("Independent, NW-UCLA (T3, which prints other digits)", "87.52", "80.30", "89.58", "93.9"),
    _row("R-NKTM, synthetic to RGB, NW-UCLA (T3)", "78.1"),
    _row("Action Tubes, RGB, NW-UCLA (T3)", "61.5"),
    _row("LRCN, RGB, NW-UCLA (T3)", "64.7"),
    _row("MVDI + CNN, depth, NW-UCLA (T3)", "", "84.2"),
    _row("Hoffman et al., NW-UCLA (T3)", "83.30"),
    _row("Garcia et al., NW-UCLA (T3)", "86.72"),
    _row("ADMD, NW-UCLA (T3)", "91.64"),
)
UWA3D = (
    _row("Independent, UWA3DII (T2)", "73.74", "77.09", "89.66", "89.75", "95.52"),
    _row("SMCL, UWA3DII (T1)", "25.19", total="60.70", oracle="88.51"),
    _row("CMCL, UWA3DII (T1)", "22.28", total="31.90", oracle="83.89"),
    _row("Random teacher, UWA3DII (T2)", "71.07", "79.07", "85.03", "84.47", "92.60"),
    _row("DMCL, UWA3DII (T2)", "78.39", "81.87", "88.26", "88.51", "94.59"),
    _row("DMCL, UWA3DII (T1, which prints other sums)", "78.39", total="89.50", oracle="94.96"),
)
UWA3D_RIVALS = (
    _row("R-NKTM, synthetic to RGB, UWA3DII (T3)", "66.3"),
    _row("Action Tubes, RGB, UWA3DII (T3)", "33.7"),
    _row("LRCN, RGB, UWA3DII (T3)", "74.5"),
    _row("MVDI + CNN, depth, UWA3DII (T3)", "", "68.3"),
    _row("Hoffman et al., UWA3DII (T3)", "66.67"),
    _row("Garcia et al., UWA3DII (T3)", "73.23"),
)
_KS = ("1", "5", "10", "50", "120")
FIGURE_3 = tuple(
    (f"{name}, NW-UCLA (figure 3)", dict(zip(_KS, texts.split())))
    for name, texts in (
        ("rgb", "10.53 10.74 11.11 11.32 12.26"),
        ("depth", "9.72 10.68 10.77 15.37 13.31"),
        ("flow", "23.23 23.96 25.31 26.35 24.53"),
    )
)
TABLE_1_AND_2 = NWUCLA + UWA3D
NTU60 = (
    _row("Independent, NTU60 (T4)", "77.59", "78.97", "81.43", "87.25"),
    _row("DMCL, NTU60 (T4)", "83.61", "80.56", "85.65"),
    _row("ST-LSTM, skeletons, NTU60 (T4)", "", total="69.2"),
    _row("Luo et al., NTU60 (T4)", "89.5"),
    _row("ADMD, NTU60 (T4)", "73.4"),
    _row("Garcia et al., NTU60 (T4)", "73.11"),
)
MINI = (
    _row("Independent, NTU120-mini (T4; oracle T1)", "79.66", "78.67", "84.21", "86.57", "92.11"),
    _row("ST-LSTM, skeletons, NTU120-mini (T4, about)", "", total="50.0"),
    _row("VGG, RGB, NTU120-mini (T4, about)", "40.0"),
    _row("VGG, depth, NTU120-mini (T4, about)", "", "20.0"),
    _row("SMCL, NTU120-mini (T1)", "26.67", total="62.22", oracle="86.19"),
    _row("CMCL, NTU120-mini (T1)", "29.61", total="5.28", oracle="86.29"),
    _row("DMCL, NTU120-mini (T4; sum and oracle T1)", "81.25", "78.98", "84.45", "86.23", "91.71"),
)
NTU120 = (
    _row("Independent, NTU120 (T4; oracle T1)", "84.86", "83.32", "86.72", "89.74", "94.36"),
    _row("ST-LSTM, skeletons, NTU120 (T4)", "", total="55.7"),
    _row("VGG, RGB, NTU120 (T4)", "58.5"),
    _row("VGG, depth, NTU120 (T4)", "", "48.7"),
    _row("VGG, RGB + depth, NTU120 (T4)", "", total="61.9"),
    _row("VGG, RGB + depth + skeletons, NTU120 (T4)", "", total="64.0"),
    _row("SMCL, NTU120 (T1)", "22.31", total="5.54", oracle="79.81"),
    _row("CMCL, NTU120 (T1)", "22.37", total="5.06", oracle="85.20"),
    _row("DMCL, NTU120 (T4; sum and oracle T1)", "84.31", "82.22", "86.44", "88.46", "93.21"),
)
