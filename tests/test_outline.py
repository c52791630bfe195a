"""What a configuration tells of a run whose data are not there."""

import pathlib

import pytest
from test_build import config, dataset  # noqa: F401

from configs import cmpl, dmcl, mml
from mmvid import configuration, usage
from mmvid.run import outline


def test_published_sizes_count_epochs(tmp_path):
    c = mml.get_config("ssv2").unlock()
    c.dataset.path = str(tmp_path / "ssv2")
    found = outline.outline(c.lock(), tmp_path)
    assert [s.name for s in found.run.segments] == ["ce", "ce2", "ce_again", "ce_continued", "ml", "mml"]
    assert found.run.segments[0].steps == round(50 * 168_913 / 64) and not found.guessed
    (line,) = found.assumed
    assert "ssv2 is not there" in line and "168913 train" in line
    assert not list(tmp_path.iterdir())


def test_what_nobody_knows_is_a_guess_that_can_be_corrected(tmp_path):
    c = dmcl.get_config("own").unlock()
    c.dataset.path, c.heads.verb = str(tmp_path / "none"), (7, "single")
    c.dataset.clips.update({"train": 800})
    c.subsets.held = {"share": 0.1}
    c.subsets.few = {"per_class": 5, "without": "held"}
    c.split = "few"
    found = outline.outline(c.lock(), tmp_path)
    splits = found.run.datasets["dataset"].info.splits
    assert (splits["train"], splits["held"], splits["few"], splits["test"]) == (800, 80, 35, outline.CLIPS)
    assert found.guessed == {"val", "test"}
    assert "800 train clips and (a guess) 10000 each of val and test, of" in found.assumed[0]
    assert found.run.segments[0].steps_per_epoch == 35 / 16


def test_label_spaces_that_nobody_knows_are_asked_for(tmp_path):
    c = mml.get_config().unlock()
    c.dataset.path = str(tmp_path / "none")
    c.dataset.command = ("data_prep.build", "--dataset", "tabletop", "--out", c.dataset.path)
    with pytest.raises(usage.WrongUse, match=r"(?s)python -m data_prep.build --dataset tabletop.*--config.heads="):
        outline.outline(c.lock(), tmp_path)


@pytest.mark.parametrize("changes, said", [
    ({"semi.strong.device": ("stong",)}, "'stong'"),
    ({"semi.weak.flip": True, "semi.strong.flip": False}, "same flip"),
])  # fmt: skip
def test_views_that_cannot_be_are_told_before_there_is_data(tmp_path, changes, said):
    c = cmpl.get_config("smoke").unlock()
    c.dataset.path = str(tmp_path / "none")
    c.update_from_flattened_dict(changes)
    with pytest.raises(usage.WrongUse, match=said):
        outline.outline(c.lock(), tmp_path)


def test_what_is_there_is_opened(dataset, tmp_path):  # noqa: F811
    found = outline.outline(config(dataset), tmp_path)
    assert not found.assumed and found.run.segments[0].heads["verb"].names == ("push", "pull")
    stills = {"stills.path": str(tmp_path / "none"), "stills.steps": "9"}
    found = outline.outline(config(dataset, **stills), tmp_path)
    assert "stills is left out" in found.assumed[0] and found.run.segments[0].name == "ce"


CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
# Whose networks read streams in turn, of which the plan asks how they are made, whole and deep; and plans of the
# kind that gblend.py:kinetics_online is.
SLOW = ("cmpl.py:k400_components", "gblend.py:kinetics", "gblend.py:mini_audioset", "gblend.py:minisports")
VARIANTS = [
    pytest.param(f"{path}:{variant}".rstrip(":"), marks=[pytest.mark.slow] * f"{path}:{variant}".endswith(SLOW))
    for path in sorted(CONFIGS.glob("*.py"))
    if hasattr(module := configuration._module(path), "VARIANTS")
    for variant in module.VARIANTS
]


@pytest.mark.parametrize("text", VARIANTS, ids=lambda text: pathlib.Path(text).name)
def test_every_configuration_has_an_outline_or_asks_for_its_label_spaces(text, tmp_path):
    c = configuration.read(text).unlock()
    c.dataset.path = str(tmp_path / "none")
    # The eight devices of the tests share a batch.
    c.semi.update(dict(labelled_batch=8, unlabelled_batch=16))
    for spec in c.networks.values():
        # A control that must be given its file.
        spec.weights = "" if spec.weights == "inflated:" else spec.weights
    if c.heads:
        found = outline.outline(c.lock(), tmp_path)
        assert found.run.segments and all(segment.steps > 0 for segment in found.run.segments)
    else:
        with pytest.raises(usage.WrongUse, match="not there to say its label spaces"):
            outline.outline(c.lock(), tmp_path)
