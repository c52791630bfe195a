"""A configuration is read from its file and changed by a command line; a mistake is named, with what is meant."""

import json

import pytest

from configs import distill, mml
from mmvid import configuration, usage


def changed(*overrides):
    return configuration.overridden(mml.get_config("smoke"), overrides)


def test_overrides_are_told_from_other_arguments():
    first = ["RUN", "--config.a=1", "-config.b", "-2", "--noconfig.c", "x"]
    own, overrides = configuration.apart([*first, "--config=f.py", "--config.d", "--out=y"])
    assert own == ["RUN", "x", "--config=f.py", "--out=y"]
    assert overrides == ["--config.a=1", "-config.b", "-2", "--noconfig.c", "--config.d"]
    assert configuration.paths(overrides) == ["a", "b", "c", "d"]


def test_values_are_those_of_the_entrys_type():
    found = changed(
        "--config.seed", "3", "--config.schedule.lr=1", "--config.evaluation.splits=val",
        "--noconfig.augment.flip",
        "--config.optimizer.nesterov", "--config.networks.rgb.options.width=16",
        "--config.subsets={'held': {'of': 'train'}}", "--config.heads={'verb': (3, 'single')}",
        "--config.steps['ce']=7", "--config.networks.rgb.options.drop_path=0.1",
        "--config.students.x={'weight': 0.5, 'teachers': ('flow',)}", "--config.students.x.weight=0.7",
        "--config.blend.arms.x={'network': 'av'}", "--config.semi.arms.own={'method': 'fixmatch'}",
        "--config.teachers.alone", "{'flow': {'steps': '3'}}",
    )  # fmt: skip
    assert (found.seed, found.evaluation.splits, found.steps.ce) == (3, ("val",), "7")
    assert isinstance(found.schedule.lr, float) and found.augment.flip is False and found.optimizer.nesterov
    assert found.networks.rgb.options.drop_path == 0.1 and found.teachers.alone.flow.steps == "3"
    assert found.blend.arms.x.network == "av" and found.semi.arms.own.method == "fixmatch"
    assert (found.students.x.weight, found.students.x.teachers) == (0.7, ("flow",))
    assert found.networks.rgb.options.width == 16 and found.subsets.held.of == "train" and found.is_locked


def test_networks_that_are_left_out_are_gone_with_all_that_is_said_of_them():
    """As if the file had never had them; a student that a missing teacher would change goes with it."""
    found = configuration.overridden(
        distill.get_config("table"),
        [
            "--config.without=teacher_boxes,omni",
            "--config.method.distillation.teachers=('teacher_rgb', 'teacher_boxes')",
        ],
    )
    assert sorted(found.networks) == ["rgb", "teacher_audio", "teacher_flow", "teacher_rgb"] and found.is_locked
    assert sorted(found.streams) == ["audio", "flow", "rgb"] and not found.teachers.alone and found.without == ""
    assert found.method.distillation.teachers == ("teacher_rgb",)
    left = {name for name in distill.get_config("table").students if "boxes" not in name}
    assert set(found.students) == left and "of_flow" in left
    assert "boxes" not in json.dumps({n: found[n].to_dict() for n in ("networks", "streams", "students")})
    twin = configuration.overridden(mml.get_config("full"), ["--config.without=rgb2"])
    assert (twin.twin, sorted(twin.networks), sorted(twin.streams)) == ("", ["flow", "rgb"], ["flow", "rgb"])
    # What another network reads as well stays.
    assert "rgb" in configuration.overridden(distill.get_config(), ["--config.without=teacher_rgb"]).streams


@pytest.mark.parametrize("words, text", [
    (["without=audio"], "--config.without=audio: there is no 'audio'; the networks are flow, rgb"),
    (["without=rgb"], "--config.without=rgb: the run's headline 'rgb' is one of its outputs"),
    (["without=flow", "method.distillation.teachers=('flow',)"], "all of --config.method.distillation.teachers"),
    (["stepz.ce=5"], "--config.stepz.ce: config has no entry 'stepz'; did you mean --config.steps.ce?"),
    (["stepz.cc=5"], "did you mean --config.steps?"),
    (["steps.cee=5"], "config.steps has no entry 'cee'; did you mean --config.steps.ce?"),
    (["lr=0.1"], "did you mean --config.schedule.lr?"),
    (["optimizer.momentun=0"], "did you mean --config.optimizer.momentum?"),
    (["networks.audio.model=x"], "config.networks has no entry 'audio'; did you mean --config.networks."),
    (["streams.qqq=x"], "config.streams has no entry 'qqq'; it has flow, rgb"),
    (["subsets.held.rule=train"], "config.subsets has no entry 'held'; it has none yet"),
    (["batch_size.x=1"], "config.batch_size is 16, it has no entries of its own"),
    (["seed=1", "batch_size=many"], "--config.batch_size=many: a whole number is expected, for instance"),
    (["batch_size=1.5"], "a whole number is expected, for instance --config.batch_size=16"),
    (["schedule.lr=fast"], "a number is expected, for instance --config.schedule.lr=0.05"),
    (["optimizer.nesterov=maybe"], "true or false is expected"),
    (["evaluation.splits=('a',"], "a tuple of Python's is expected, for instance --config.evaluation.splits=\"('"),
    (["networks.rgb.options.width=wide"], "--config.networks.rgb.options.width=wide: a whole number is expected"),
    (["evaluation={}"], "would leave out 'aggregate': change its entries one by one"),
    (["networks.rgb={'model': 'x'}"], "would leave out 'first_conv_lr': change its entries one by one"),
    (["students.x=5"], "--config.students.x=5: a dict of Python's is expected, as in --config.students.x="),
    (["students.x.weight=1"], "config.students has no entry 'x'"),
    (["subsets=3"], "--config.subsets=3: a dict of Python's is expected"),
    (["seed"], "--config.seed: a whole number is expected"),
    (["missing.rgb=1", "missing={}"], "will overwrite"),
    (["steps['cee']=7"], "--config.steps['cee']=7 cannot be read: write its path with dots"),
    (["evaluation.split=x"], "did you mean --config.evaluation.splits?"),
    (["optimizer.nesterov", "3"], "3: write --config.NAME=VALUE"),
])  # fmt: skip
def test_a_mistake_is_named_with_what_is_meant(words, text):
    argv = [word if word.isdecimal() else f"--config.{word}" for word in words]
    with pytest.raises(usage.WrongUse) as error:
        changed(*argv)
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content, text", [
    (None, "mine.py is no file of Python; there are "), ("x = 1", "AttributeError"),
    ("def get_config():\n    return {}", "gives a dict, not a ConfigDict"),
    ("import nosuchmodule", "No module named"), ("def (", "SyntaxError"),
    ("def get_config(name='a'):\n    raise ValueError('choose one of a, b')", "choose one of a, b"),
])  # fmt: skip
def test_a_file_that_is_no_configuration(tmp_path, content, text):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError) as error:
        configuration.read(f"{path}:nope" if "choose" in text else str(path))
    wrong = isinstance(error.value, usage.WrongUse)
    assert text in str(error.value) and wrong == ("there are" in text or "choose" in text)
    assert wrong or "mend it" in str(error.value)


def test_a_file_and_its_variant():
    assert configuration.read("configs/mml.py:smoke").to_dict() == mml.get_config("smoke").to_dict()
    with pytest.raises(usage.WrongUse, match=r"--config=configs/mml.py:nope: .*choose one of charades, "):
        configuration.read("configs/mml.py:nope")
    assert usage.parted("C:\\mine.py") == ("C:\\mine.py", "") and usage.parted("a.py:b") == ("a.py", "b")
