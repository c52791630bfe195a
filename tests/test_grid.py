"""The plan 'grid' and MML's tables as grids: order, starts, keys, errors, and what is printed."""

import numpy as np
import pytest
from test_configs import context, shrunken
from test_plans import params_of

from configs import mml, mml_ensembles, mml_grids, mml_tables
from mmvid import plans
from mmvid.plans import keys
from mmvid.report import grids, points
from mmvid.report.points import Column
from mmvid.scores import numbers, protocols
from mmvid.scores.file import Scores

GRIDS = [*sorted(mml_grids.GRIDS), "table6", "charades_mars"]
DATA = {"dataset": "d" * 12, "stills": "s" * 12}


def made(variant, **changes):
    """{name: segment} of a grid."""
    config = shrunken(variant)
    with config.unlocked():
        for name, value in changes.items():
            config[name] = value
    return {s.name: s for s in plans.make(context(config)._replace(fingerprints=DATA))}


def known(variant, changes=None):
    config = shrunken(variant)
    with config.unlocked():
        config.update_from_flattened_dict(changes or {})
    return keys.of(plans.make(context(config)._replace(fingerprints=DATA)))


def cells_of(config):
    """Every (segment, output) that a grid prints."""
    found = [tuple(cell[:2]) for _, _, rows in config.grid.tables for _, own in rows for cell in own if cell[0]]
    found += [member[1:] for _, rows, columns, _ in config.grid.pairs for member in (*rows, *columns)]
    return found + [
        tuple(member) for _, rows in [config.grid.sums or ("", ())] for _, own, _ in rows for member in own
    ]


@pytest.mark.parametrize("variant", GRIDS)
def test_every_cell_is_trained(variant):
    """What is printed of an output is of a network that learns in that segment, and has a column to stand in."""
    found, config = made(variant), shrunken(variant)
    for segment, output in cells_of(config):
        learners = [name for n in found[segment].networks if not n.frozen for name in n.outputs]
        assert output in learners and found[segment].title, (segment, output)
    assert list(found)[-1] == config.grid.last and config.headline in found[config.grid.last].needs
    # No segment is trained for nothing.
    printed = {segment for segment, _ in cells_of(config)}
    started = {start["segment"] for s in found.values() for start in s.spec.get("starts", {}).values()}
    ranked = {member[1] for _, parts in [config.grid.ranks or ("", ())] for _, own, _ in parts for member in own}
    tested = {row[1] for _, rows in [config.grid.protocols or ("", ())] for row in rows}
    assert set(found) <= printed | started | ranked | tested


@pytest.mark.parametrize("variant", ["table7", "ensembles"])
def test_segments_come_after_what_they_start_from(variant):
    there = []
    for name, segment in made(variant).items():
        assert {start["segment"] for start in segment.spec.get("starts", {}).values()} <= set(there)
        there.append(name)


def test_a_second_start_from_stills_is_another_draw():
    found = made("table5")
    first, second = found["stills"], found["stills_2"]
    assert first.seed != second.seed and first.steps == second.steps
    # One compiled program serves both.
    assert first.spec["program"] == second.spec["program"]
    starts = found["ml_in"].spec["starts"]
    assert (starts["rgb"]["segment"], starts["rgb2"]["segment"]) == ("stills", "stills_2")


def test_relaunches_start_from_their_own_results():
    found = made("table7")
    starts = {name: found[name].spec["starts"] for name in ("mml_from_a", "mml_from_b", "mml_from_c", "ml_again")}
    named = {name: {n: (s["segment"], s["network"]) for n, s in own.items()} for name, own in starts.items()}
    assert named == {
        "mml_from_a": dict.fromkeys(("rgb", "flow"), ("mml", "rgb")),
        "mml_from_b": dict.fromkeys(("rgb", "flow"), ("mml_from_a", "rgb")),
        "mml_from_c": dict.fromkeys(("rgb", "flow"), ("ml_rgb", "rgb")),
        "ml_again": {"rgb": ("ml_rgb", "rgb"), "rgb2": ("ml_rgb", "rgb2")},
    }
    # As many updates on the same batches as CE that was continued as often.
    for name, plain in (("mml", "ce_continued"), ("ml_rgb", "ce_continued"), ("mml_from_a", "ce_continued_2"),
                        ("mml_from_c", "ce_continued_2"), ("mml_from_b", "ce_continued_3")):  # fmt: skip
        assert (found[name].steps, found[name].seed) == (found[plain].steps, found[plain].seed)
    # A launch that starts from another one's results sees other batches than that.
    assert len({found[name].seed for name in ("ce", "mml", "mml_from_a", "mml_from_b")}) == 4
    assert len({s.steps for s in found.values() if not s.name.startswith("stills")}) == 1


def test_whoever_imitates_learns_from_a_frozen_teacher():
    found = made("table2")
    for method in ("mars", "d3d", "kd"):
        for student, teacher in (("rgb", "flow"), ("flow", "rgb")):
            segment = found[f"{method}_{student}_rgb"]
            assert {n.name: n.frozen for n in segment.networks} == {student: False, teacher: True}
            assert segment.method.teachers == (teacher,)
            assert segment.spec["starts"][teacher]["segment"] == "ce"


def test_tables_share_what_they_have_in_common():
    """A run of one table takes stages from a run of another, by key."""
    three, four, seven = (known(name) for name in ("table3", "table4", "table7"))
    assert set(three.items()) - set(four.items()) == {("rgb_from_flow", three["rgb_from_flow"])}
    assert {name for name in three if three[name] in seven.values()} == {"stills", "ce", "ce_continued", "mml"}


@pytest.mark.parametrize(
    "changes, changed",
    [
        ({"method.mars.strength": 49.0}, {"mars_rgb_in", "mars_rgb_rgb", "mars_flow_in", "mars_flow_rgb"}),
        ({"method.d3d.reduce": "sum"}, {"d3d_rgb_in", "d3d_rgb_rgb", "d3d_flow_in", "d3d_flow_rgb"}),
        ({"method.mml.average": "logit"}, set()),
        ({"grid.tables": ()}, set()),
        ({"grid.segments.mars_rgb_in.title": "Ours"}, set()),
    ],
)  # fmt: skip
def test_keys_change_where_weights_do(changes, changed):
    base, found = known("table2"), known("table2", changes)
    assert {name for name in base if base[name] != found[name]} == changed


def test_keys_change_along_starts():
    base, found = known("table7"), known("table7", {"grid.segments.ml_rgb.average": "logit"})
    assert {name for name in base if base[name] != found[name]} == {"ml_rgb", "ml_again", "mml_from_c"}


def test_a_file_goes_before_stills(tmp_path):
    """Of two networks of one modality, each may have a file of its own: the paper's two ImageNet starts."""
    source = made("table5")["ce"]
    params, stats = params_of(source)
    source.leave(_ended(params, stats), tmp_path)
    config = shrunken("table5")
    with config.unlocked():
        config.networks.rgb2.weights = f"{tmp_path / 'weights.safetensors'}#rgb"
    found = {s.name: s for s in plans.make(context(config))}
    assert "stills_2" in found  # flow2 still starts from there
    starts = found["ml_in"].spec["starts"]
    assert starts["rgb2"]["file"].endswith("#rgb") and starts["rgb"]["segment"] == "stills"


def _ended(params, stats):
    from mmvid.network import TrainState

    return TrainState(0, params, {}, stats, {}, {}, {}, None)


def test_whoever_has_no_file_would_begin_at_random(tmp_path):
    source = made("table5")["ce"]
    source.leave(_ended(*params_of(source)), tmp_path)
    config = shrunken("table5")
    with config.unlocked():
        config.stills.steps = "0"
        config.networks.rgb.weights = f"{tmp_path / 'weights.safetensors'}#rgb"
    with pytest.raises(
        ValueError, match=r"rgb start from files, and .*flow.* at random .*networks\.flow\.weights=FILE"
    ):
        plans.make(context(config))


def test_without_stills_and_files_networks_keep_their_draw():
    config = shrunken("table1")
    with config.unlocked():
        config.stills.steps = "0"
    found = {s.name: s for s in plans.make(context(config))}
    assert "stills" not in found and found["ce"].spec["starts"] == {}


@pytest.mark.parametrize(
    "name, spec, words",
    [
        ("own", dict(networks=("rgb",), starts={"rgb": "cee.rgb"}), "'cee', which is no segment"),
        ("own", dict(networks=("rgb",), starts={"rgb": "own.rgb"}), "start from each other"),
        ("own", dict(networks=("rgb",), starts={"rgb": "ce"}), "write 'SEGMENT.NETWORK'"),
        ("own", dict(networks=("rgb",), starts={"rgb": "stills.rgb"}), "write 'SEGMENT.NETWORK'"),
        ("own", dict(networks=("rgb",), starts={"rgb": "rgb_from_flow.rgb"}), "run's own, the last one"),
        ("own", dict(networks=("sound",)), "networks of"),
        ("own", dict(networks=("rgb",), method="marz"), "a method of"),
        ("own", dict(networks=("rgb",), averrage="logit"), "options of the method"),
        ("own", dict(networks=("rgb", "flow"), method="mars", teacher="flow"), "flow' is a frozen teacher"),
        ("own", dict(networks=("rgb",), steps="10 feet"), "10 feet"),
    ],
)  # fmt: skip
def test_what_no_segment_can_say(name, spec, words):
    config = shrunken("table1")
    with config.unlocked():
        config.grid.segments[name] = spec
    with pytest.raises(ValueError, match=words):
        plans.make(context(config))


def test_the_last_one_must_be_there():
    config = shrunken("table1")
    with config.unlocked():
        config.grid.last = "mml"
    with pytest.raises(ValueError, match=r"grid.last='mml' is none of"):
        plans.make(context(config))


def test_the_headline_is_trained_at_the_end():
    config = shrunken("table2")
    with config.unlocked():
        config.grid.last = "mars_flow_in"
    with pytest.raises(ValueError, match="frozen teacher: name one of its students"):
        plans.make(context(config))


# ---------------------------------------------------------------------------- what is printed
def columns_of(config, clips=30, classes=6, views=1):
    """A column of made-up scores for every segment, all on the same clips."""
    rng, found = np.random.default_rng(0), []
    label = rng.integers(0, classes, clips)
    for name, spec in config.grid.segments.items():
        logits = {
            n: {"verb": rng.normal(size=(clips, views, classes)) + 2 * np.eye(classes)[label][:, None]}
            for n in spec.networks
        }
        protocol = "T10" if views == 5 else "D1"
        meta = dict(
            split="test", protocol=protocol, crops="centre", views=views, dataset="d", fingerprint="f", step=1
        )
        meta |= dict(clips_used=clips, clips_expected=clips, members=list(logits), title=spec.title)
        present = {n: np.ones(clips, bool) for n in logits}
        ids = np.array([f"c{i}" for i in range(clips)])
        scores = Scores(ids, np.arange(clips), {"verb": label}, present, logits, meta)
        found.append(points.counted(Column(spec.title or name, name, {"test": scores}), "logits"))
    return found, label


def top(scores, outputs, label):
    """Top-1 in percent of a sum, by hand."""
    sums = sum(scores[segment].logits[output]["verb"][:, 0] for segment, output in outputs)
    return f"{100 * (sums.argmax(-1) == label).mean():.1f}"


def test_tables_are_printed_in_the_papers_form():
    config = shrunken("table7")
    columns, label = columns_of(config)
    scores = {c.segment: c.scores["test"] for c in columns}
    lines = points.lines(columns, "test", headline="rgb", baseline="ce_continued")
    (matrix,) = grids.matrices(columns, "test", config.to_dict(), lines, "ce_continued")
    text = grids.text([matrix], "test", "CE continued")
    first = next(line for line in text.splitlines() if "(A)" in line)
    assert top(scores, [("mml", "rgb")], label) in first and top(scores, [("mml", "flow")], label) in first
    # What the paper prints stands in a table of its own, never among what was measured.
    measured, printed = text.split("printed in the paper")
    assert "61.30 / 86.99" in printed and "61.30 / 86.99" not in measured
    assert "CE continued twice" in measured and "CE continued twice" not in printed


def test_marks_compare_as_many_updates():
    """Of a second launch a difference to CE continued once would be one of updates."""
    config = shrunken("table7")
    columns, _ = columns_of(config)
    # CE continued is right nowhere, so that whatever may be marked is.
    place = next(i for i, c in enumerate(columns) if c.segment == "ce_continued")
    scores = columns[place].scores["test"]
    wrong = {o: {h: -v for h, v in own.items()} for o, own in scores.logits.items()}
    columns[place] = points.counted(
        columns[place]._replace(scores={"test": scores._replace(logits=wrong)}, numbers={}), "logits"
    )
    lines = points.lines(columns, "test", headline="rgb", baseline="ce_continued")
    (matrix,) = grids.matrices(columns, "test", config.to_dict(), lines, "ce_continued")
    marked = {name: cells[0].sign for name, cells in matrix.rows}
    assert marked["MML, RGB <- RGB, Flow <- RGB (A)"] == marked["ML, RGB <- RGB, RGB2 <- RGB2 (C)"] == 1
    assert marked["MML, both <- A(RGB) (B)"] == marked["CE continued twice"] == 0 and matrix.marks


def test_each_output_has_its_own_updates():
    """A student that starts from ImageNet has had one training, whatever its teacher has had."""
    segments = {name: spec.to_dict() for name, spec in mml.get_config("table2").grid.segments.items()}
    names = ("ce", "ce_continued", "mars_rgb_in", "mars_rgb_rgb")
    assert [grids.trainings(segments, name, "rgb") for name in names] == [1, 2, 1, 2]
    assert grids.trainings(segments, "mars_rgb_in", "flow") == 2
    # Beside CE they see the batches of CE.
    batches = {name: spec["batches"] for name, spec in segments.items()}
    assert batches["mars_rgb_in"] == batches["ce"] != batches["mars_rgb_rgb"] == batches["ce_continued"]
    mixed = mml.get_config("table3").grid.segments.to_dict()
    assert [grids.trainings(mixed, "mml_in_flow", output) for output in ("rgb", "flow", "sum")] == [1, 2, 2]


@pytest.mark.parametrize("variant, views", [("table7", 1), ("ensembles", 1), ("table10", 5)])
def test_a_split_without_labels_has_no_tables(variant, views):
    """A test whose labels nobody has: the run ends all the same."""
    config = shrunken(variant)
    columns, _ = columns_of(config, views=views)
    blind = [
        c._replace(scores={"test": c.scores["test"]._replace(label={"verb": np.full(30, -1)})}, numbers={})
        for c in columns
    ]
    blind = [points.counted(c, "logits") for c in blind]
    lines = points.lines(blind, "test", headline="rgb", baseline="ce_continued")
    for matrix in grids.every(blind, "test", config.to_dict(), lines, "ce_continued"):
        assert {cell.text for _, cells in matrix.rows for cell in cells if cell} == {"-"}


def test_ensembles_are_printed_in_the_papers_form():
    config = shrunken("ensembles")
    columns, label = columns_of(config)
    scores = {c.segment: c.scores["test"] for c in columns}
    eleven, twelve, thirteen = grids.ensembles(columns, "test", config.to_dict())
    assert (len(eleven.rows), len(eleven.columns)) == (11, 13) and (len(twelve.rows), len(twelve.columns)) == (
        6,
        13,
    )
    name, cells = eleven.rows[0]
    assert name == "CE from ImageNet" and cells[0].published == "63.67 / 88.41"
    assert cells[0].text.startswith(top(scores, [("ce", "flow"), ("ce", "rgb")], label))
    whole = 858 * 857 // 2
    for part in range(3):
        sums = [int(cells[2 * part + 1].text) for _, cells in thirteen.rows if cells[2 * part + 1].text]
        assert sum(sums) == whole and sums == sorted(sums)
    assert thirteen.rows[0][1][0].published == "ML from B 1"
    assert grids.text([eleven, twelve, thirteen], "test", "").count("printed in the paper") == 3


def test_the_best_ensembles_pipeline():
    config = shrunken("ensemble")
    columns, label = columns_of(config)
    scores = {c.segment: c.scores["test"] for c in columns}
    (nine,) = grids.ensembles(columns, "test", config.to_dict())
    own = dict(nine.rows)
    three = [("ml_rgb", "rgb"), ("ml_flow", "flow"), ("ml_diff", "diff")]
    assert own["RGB + Flow + Diff"][0].text.startswith(top(scores, three, label))
    # One network of each launch: two of one launch agree already.
    starts = made("ensemble")["ml_flow"].spec["starts"]
    assert {n: (s["segment"], s["network"]) for n, s in starts.items()} == {
        "flow": ("launch_1", "rgb"), "flow2": ("launch_2", "rgb2"),
    }  # fmt: skip
    launches = [made("ensemble")[name].seed for name in ("launch_1", "launch_2")]
    assert launches[0] != launches[1]


def test_what_stands_in_several_tables_has_one_number():
    """The paper repeats its numbers, which guards those that were typed here."""
    found = {}
    for _, _, rows in mml_tables.TABLES.values():
        for segment, output, number in (cell for _, cells in rows for cell in cells):
            # Table 6 is of Charades.
            if number and " / " in number:
                found.setdefault((segment, output), []).append(number)
    repeated = {key: numbers for key, numbers in found.items() if len(numbers) > 1}
    assert {("mml", "rgb"), ("mml", "flow"), ("ml_rgb", "rgb"), ("ml_flow", "flow2")} <= set(repeated)
    assert all(len(set(numbers)) == 1 for numbers in repeated.values()), repeated


def test_published_numbers_stand_where_they_are_printed():
    """Table 3's centre and table 7's last row; both tables print the run's own MML."""
    rows = dict(mml_tables.TABLES["table3"][2])
    assert rows["RGB <- RGB"][1] == ("mml_rgb_flow", "rgb", "60.94 / 86.67")
    assert ("mml", "rgb", "60.82 / 86.75") in rows["RGB <- RGB"]
    assert mml_ensembles.TABLE_11[6][5] == "65.24 / 89.72"


def test_table_10_is_printed_in_the_papers_form():
    """From a column of five views each; what a protocol makes of them is tests/test_protocols.py's."""
    config = shrunken("table10")
    assert config.evaluation.protocol == "T10"
    assert {n: config.streams[n].sampling.kind for n in config.streams} == {
        "rgb": "mixed", "rgb_dense": "dense", "rgb_uniform": "uniform",
    }  # fmt: skip
    columns, _ = columns_of(config, views=5)
    (ten,) = grids.by_protocol(columns, "test", config.to_dict())
    assert (len(ten.rows), len(ten.columns)) == (3, 8)
    assert dict(ten.rows)["trained both"][6].published == "61.71 / 87.40"
    own = protocols.subset(columns[0].scores["test"], "D1U2")
    (network,) = own.logits
    top1 = numbers.summary(own, "logits")[network]["verb"]["top1"]
    assert dict(ten.rows)[columns[0].title][6].text.startswith(f"{100 * top1:.1f}")


def test_other_plans_have_no_such_tables():
    assert (
        grids.matrices([], "test", {"plan": "reduced"}, []) == [] == grids.ensembles([], "test", {"plan": "full"})
    )
