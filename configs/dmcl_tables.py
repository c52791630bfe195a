"""What Garcia et al. print (DMCL, tables 1 to 4, figure 3): rows (what, {column: text}) for reports.

Numbers are top-1 in %. Sums are of the logits of all three; an oracle counts a clip that any network has right.
Flow is Ce Liu's there, which rows with a number of it say.
"""

DATASETS = ("NW-UCLA", "UWA3DII", "NTU60", "NTU120-mini", "NTU120")
# RGB, sum and oracle of each method.
TABLE_1 = """
NW-UCLA     | Independent | 87.53 93.79 97.86
NW-UCLA     | SMCL        | 24.83 49.00 86.79
NW-UCLA     | CMCL        | 11.13 84.73 89.65
NW-UCLA     | DMCL        | 93.64 93.28 97.64
UWA3DII     | Independent | 73.74 89.75 95.52
UWA3DII     | SMCL        | 25.19 60.70 88.51
UWA3DII     | CMCL        | 22.28 31.90 83.89
UWA3DII     | DMCL        | 78.39 89.50 94.96
NTU120-mini | Independent | 79.66 86.57 92.11
NTU120-mini | SMCL        | 26.67 62.22 86.19
NTU120-mini | CMCL        | 29.61 5.28 86.29
NTU120-mini | DMCL        | 81.25 86.23 91.71
NTU120      | Independent | 84.86 89.74 94.36
NTU120      | SMCL        | 22.31 5.54 79.81
NTU120      | CMCL        | 22.37 5.06 85.20
NTU120      | DMCL        | 84.31 88.46 93.21
"""
# RGB, depth, flow, sum and oracle.
TABLE_2 = """
NW-UCLA | Independent    | 87.53 80.30 89.58 93.79 97.86
NW-UCLA | Random teacher | 89.57 57.81 89.43 86.93 95.71
NW-UCLA | DMCL           | 93.64 83.29 91.07 93.28 97.64
UWA3DII | Independent    | 73.74 77.09 89.66 89.75 95.52
UWA3DII | Random teacher | 71.07 79.07 85.03 84.47 92.60
UWA3DII | DMCL           | 78.39 81.87 88.26 88.51 94.59
"""
# Method, modalities trained on, modalities tested on, a number of each dataset. Syn: synthetic pictures, without
# labels. RGB+: a further network makes up for what is missing. ~ (table 4): read off a plot.
TABLE_3 = """
R-NKTM           | Syn       | RGB       | UWA3DII 66.3  NW-UCLA 78.1
Action Tubes     | RGB       | RGB       | UWA3DII 33.7  NW-UCLA 61.5
Long-term RCNN   | RGB       | RGB       | UWA3DII 74.5  NW-UCLA 64.7
Independent      | RGB       | RGB       | UWA3DII 73.74 NW-UCLA 87.52
MVDI + CNN       | D         | D         | UWA3DII 68.3  NW-UCLA 84.2
Independent      | D         | D         | UWA3DII 77.09 NW-UCLA 80.30
Independent      | F         | F         | UWA3DII 89.66 NW-UCLA 89.58
Independent, sum | RGB, D, F | RGB, D, F | UWA3DII 89.75 NW-UCLA 93.9
Hoffman et al.   | RGB, D    | RGB+      | UWA3DII 66.67 NW-UCLA 83.30
Garcia et al.    | RGB, D    | RGB+      | UWA3DII 73.23 NW-UCLA 86.72
ADMD             | RGB, D    | RGB+      | NW-UCLA 91.64
DMCL             | RGB, D, F | RGB       | UWA3DII 78.39 NW-UCLA 93.64
DMCL             | RGB, D, F | D         | UWA3DII 81.87 NW-UCLA 83.29
DMCL             | RGB, D, F | F         | UWA3DII 88.26 NW-UCLA 91.07
"""
TABLE_4 = """
ST-LSTM          | S            | S         | NTU60 69.2  NTU120-mini ~50.0 NTU120 55.7
VGG              | RGB          | RGB       | NTU120-mini ~40.0 NTU120 58.5
Independent      | RGB          | RGB       | NTU60 77.59 NTU120-mini 79.66 NTU120 84.86
VGG              | D            | D         | NTU120-mini ~20.0 NTU120 48.7
Independent      | D            | D         | NTU60 78.97 NTU120-mini 78.67 NTU120 83.32
Independent      | F            | F         | NTU60 81.43 NTU120-mini 84.21 NTU120 86.72
VGG              | RGB, D       | RGB, D    | NTU120 61.9
VGG              | RGB, D, S    | RGB, D, S | NTU120 64.0
Independent, sum | RGB, D, F    | RGB, D, F | NTU60 87.25 NTU120-mini 86.57 NTU120 89.74
Garcia et al.    | RGB, D       | RGB       | NTU60 73.11
ADMD             | RGB, D       | RGB       | NTU60 73.4
Luo et al.       | RGB, F, D, S | RGB       | NTU60 89.5
DMCL             | RGB, D, F    | RGB       | NTU60 83.61 NTU120-mini 81.25 NTU120 84.31
DMCL             | RGB, D, F    | D         | NTU60 80.56 NTU120-mini 78.98 NTU120 82.22
DMCL             | RGB, D, F    | F         | NTU60 85.65 NTU120-mini 84.45 NTU120 86.44
"""
# The column in which a row of tables 3 and 4 has its number, by what is tested. Of skeletons we have no network.
_COLUMNS = {"RGB": "rgb", "RGB+": "rgb", "D": "depth", "F": "flow"}


def _cells(table: str) -> list[list[str]]:
    """Lists the cells of each line of a table."""
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _told(method: str, dataset: str, number: int, row: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A row, and what it is: of flow, also whose."""
    return f"{method}, {dataset} (T{number}{', flow by Ce Liu' if 'flow' in row else ''})", row


def _compared(table: str, number: int, columns: tuple[str, ...]) -> tuple[tuple[str, dict[str, str]], ...]:
    """The rows of table 1 or 2."""
    return tuple(
        _told(method, dataset, number, dict(zip(columns, texts.split())))
        for dataset, method, texts in _cells(table)
    )


def _rivals(table: str, number: int) -> tuple[tuple[str, dict[str, str]], ...]:
    """The rows of table 3 or 4, dataset by dataset; each says what it was trained and tested on."""
    found = []
    for method, trained, tested, texts in _cells(table):
        words = texts.split()
        for dataset, text in zip(words[::2], words[1::2]):
            own = {"trained on": trained, "tested on": tested, _COLUMNS.get(tested, "sum"): text}
            found.append(_told(method, dataset, number, own))
    return tuple(found)


TABLE_1_AND_2 = (
    *_compared(TABLE_1, 1, ("rgb", "sum", "oracle")),
    *_compared(TABLE_2, 2, ("rgb", "depth", "flow", "sum", "oracle")),
)
_ROWS = (*TABLE_1_AND_2, *_rivals(TABLE_3, 3), *_rivals(TABLE_4, 4))
# {dataset: its rows of all four tables}.
ROWS = {dataset: tuple(row for row in _ROWS if f", {dataset} (" in row[0]) for dataset in DATASETS}
_KS = ("1", "5", "10", "50", "120")
FIGURE_3 = tuple(
    (f"{name}, NW-UCLA (figure 3)", dict(zip(_KS, texts.split())))
    for name, texts in (
        ("rgb", "10.53 10.74 11.11 11.32 12.26"),
        ("depth", "9.72 10.68 10.77 15.37 13.31"),
        ("flow", "23.23 23.96 25.31 26.35 24.53"),
    )
)
