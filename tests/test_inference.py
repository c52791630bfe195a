"""What networks cost at test, and what the command 'cost' says of it."""

import json
import types

import pytest
import toy
from ml_collections import ConfigDict
from test_build import config, dataset  # noqa: F401
from test_commands import TINY, ask
from test_flops import of_model
from test_outline import CONFIGS

from mmvid import configuration
from mmvid.commands import cost
from mmvid.flops import Products
from mmvid.network import Network
from mmvid.run import build, inference, outline, talk
from mmvid.run.inference import Computed, Effort, Pipeline
from mmvid.streams import Sampling, Stream, Views

RGB = {"rgb": Stream("rgb", "rgb", Sampling("uniform", 2))}


# ---------------------------------------------------------------------------- the numbers
def test_a_network_is_counted_and_run(monkeypatch):
    monkeypatch.setattr(inference, "SECONDS", 0.0)
    (linear,) = toy.linear(("rgb",), classes=5)
    counted = inference.counted(linear, RGB, 16)
    assert counted == Effort("rgb", ("rgb",), 15, Products(linear=15))
    measured = inference.measured(linear, RGB, 16)
    assert measured._replace(milliseconds=None, peak=None) == counted
    # At least its clip of 2 x 16 x 16 pixels.
    assert measured.milliseconds > 0 and measured.peak >= 4 * 2 * 16 * 16 * 3


def test_counting_allocates_no_weights(monkeypatch):
    """Its model draws parameters that no machine could hold."""
    (linear,) = toy.linear(("rgb",), classes=10**13)
    assert inference.counted(linear, RGB, 16).parameters == 3 * 10**13


def test_flow_is_computed_once_for_all_that_read_it(monkeypatch):
    monkeypatch.setattr(inference, "SECONDS", 0.0)
    networks = toy.linear(("rgb", "flow", "flow2"))
    own = RGB | {n: Stream(n, "flow", Sampling("uniform", 2), "stack5") for n in ("flow", "flow2")}
    info = type("Info", (), {"settings": {"flow": "dis"}, "height": 24, "width": 32})
    assert inference.computed(networks[:1], own, Views(), info, run=False) is None
    assert inference.computed(networks, own, Views(), info, run=False) == Computed("dis", 10, 24, 32)
    assert inference.computed(networks, own, Views(), info, run=True).milliseconds > 0
    info.settings = {}
    assert inference.computed(networks, own, Views(), info, run=False).how == "tvl1"


def test_a_pipeline_is_its_parts_one_after_another():
    parts = (
        Effort("a", ("rgb",), 5, Products(1, 2, 3), 4.0, 7),
        Effort("b", ("rgb", "flow"), 6, Products(10), 1.0, 9),
    )
    found = Pipeline("both", parts, Computed("tvl1", 3, 8, 8, 20.0))
    assert (found.reads, found.parameters, found.products.total) == (("rgb", "flow"), 11, 16)
    assert (found.milliseconds, found.peak) == (25.0, 9)
    assert found._replace(computed=Computed("tvl1", 3, 8, 8)).milliseconds is None


def test_shares_of_a_step_add_up():
    efforts = [Effort("rgb", ("rgb",), 1, Products(20, 20)), Effort("fast", ("fast",), 1, Products(2, 5, 3))]
    found = inference.shares(efforts)
    assert found == {"rgb": 0.8, "fast": 0.2} and inference.said(found) == "rgb 80.0 %, fast 20.0 %"


# ---------------------------------------------------------------------------- the paper's
SWIN = 140.33  # GFLOPs that the paper prints for Swin-T at 32 x 224 x 224


def test_swin_is_the_papers():
    found, parameters = of_model("swin3d_tiny", 1, 32, 224, 224, 3, classes=397)
    assert (round(found.weighted / 1e9, 2), round(found.attention / 1e9, 2)) == (69.83, 17.94)
    # The paper's FLOPs are twice the multiply-adds, without attention.
    assert 2 * found.weighted / 1e9 == pytest.approx(SWIN, rel=0.01) and parameters == 28_155_763


def test_the_papers_saving(tmp_path):
    """584.36 GFLOPs are three teachers and RAFT; the student saves 75.98 % of them."""
    c = configuration.read(f"{CONFIGS / 'distill.py'}:epic100").unlock()
    c.dataset.path = str(tmp_path / "none")
    run = outline.outline(c.lock(), tmp_path).run
    found = cost.cost_of(run, measure=False)
    student, teachers = cost.as_printed(found)
    assert student / 1e9 == pytest.approx(SWIN, rel=0.01) and len(found.others.efforts) == 3
    assert teachers / 1e9 == pytest.approx(584.36, rel=0.01)
    assert 100 * (1 - student / teachers) == pytest.approx(75.98, abs=0.1)
    said = " ".join(cost.said(run, found).split())
    assert f"without attention: {teachers / 1e9:.2f} GFLOPs" in said
    assert f"{cost.saved(student, teachers)} (the paper's" in said
    # Ours has attention in it, on both sides.
    assert cost.saved(found.student.products.flops, found.others.products.flops + 163.37e9) in said
    assert cost.saved(3, 2) == "50.00 % more"


# ---------------------------------------------------------------------------- of a run
def test_a_student_stands_against_its_teachers_and_what_they_read(dataset, tmp_path):  # noqa: F811
    changes = TINY | {"plan": "compare", "compare": ("independent", "generalized_distillation"),
                      "method.name": "generalized_distillation",
                      "method.generalized_distillation.teacher": "flow"}  # fmt: skip
    run = build.build(config(dataset, **changes), tmp_path)
    found = cost.cost_of(run, measure=False)
    assert found.student.name == "rgb" and not found.student.computed and not found.alone
    assert [e.name for e in found.others.efforts] == ["flow"] and found.others.computed.pairs == 10
    said = cost.said(run, found)
    assert (
        "rgb (headline)" in said and "teachers + tvl1" in said and "163.37" in said and "2 x multiply-adds" in said
    )
    assert "A whole clip, 10 views: rgb " in cost.said(run, found._replace(views=10))
    everyone = cost.cost_of(build.build(config(dataset, **TINY | {"plan": "reduced"}), tmp_path), measure=False)
    assert [e.name for e in everyone.others.efforts] == ["flow", "rgb"] and everyone.others.name == "all networks"
    both = inference.said(inference.shares(everyone.others.efforts))
    assert f"Of the computation of all networks: {both}." in " ".join(cost.said(run, everyone).split())
    assert "Of the computation" not in said


def test_networks_of_two_kinds_are_told_what_each_costs(caplog):
    caplog.set_level("INFO")
    networks = (*toy.linear(("rgb",), classes=6), *toy.linear(("fast",), classes=2))
    streams = RGB | {"fast": Stream("fast", "rgb", Sampling("uniform", 4))}
    for widths in ({"rgb": 8, "fast": 8}, {"rgb": 8, "fast": 2}):
        own = {n: dict(model="cmpl_tiny", options=dict(width=w)) for n, w in widths.items()}
        read = streams if widths["fast"] < 8 else {"rgb": RGB["rgb"], "fast": RGB["rgb"]._replace(name="fast")}
        run = types.SimpleNamespace(config=ConfigDict(dict(networks=own, size=16)))
        talk._say_shares(run, types.SimpleNamespace(name="cmpl", networks=networks, streams=read))
    assert [r.message for r in caplog.records] == ["cmpl: of a step's multiply-adds rgb 75.0 %, fast 25.0 %"]


def test_a_network_that_reads_in_turn_counts_what_the_headline_reads():
    (linear,) = toy.linear(("omni",))
    omni = Network("omni", linear.model, (("flow",), ("rgb",)))
    run = type("Run", (), {"config": type("Config", (), {"headline": "omni.rgb"})})
    segment = type("Segment", (), {"networks": (omni,)})
    assert cost._student(run, segment, "omni").reads == (("rgb",),)


@pytest.fixture
def command(dataset, monkeypatch, capsys):  # noqa: F811
    own = [f"--config.{name}={value}" for name, value in TINY.items() if not name.endswith("stages")]

    def run(*argv):
        given = ("--config=configs/mml.py:own", f"--config.dataset.path={dataset}", "--config.size=32", *own)
        code = ask(monkeypatch, "cost", *given, *argv)
        return code, capsys.readouterr()

    return run


def test_the_command_prints_a_table_and_writes_json(command, tmp_path):
    path = tmp_path / "new" / "cost.json"
    code, said = command("--counts", f"--json={path}")
    assert code == 0 and "rgb (headline)" in said.out and "Times on" not in said.out
    found = json.loads(path.read_text())
    assert found["student"]["milliseconds"] is None and found["views"] == 1
    assert found["student"]["flops"] == 2 * sum(found["student"]["networks"][0]["products"][k] for k in (
        "linear", "convolution", "attention"))  # fmt: skip
    assert found["raft_gflops_quoted"] == 163.37
    assert [n["name"] for n in found["others"]["networks"]] == ["flow", "rgb"]


def test_a_configuration_that_does_not_exist_is_wrong_use(command, monkeypatch, capsys):
    assert command("--config.sizze=3")[0] == 2
    assert ask(monkeypatch, "cost") == 2 and "--config" in capsys.readouterr().err
