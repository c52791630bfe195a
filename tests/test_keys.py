"""A segment's key: whatever changes weights changes it, nothing else does."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_configs import context, shrunken

from configs import dmcl, mml
from mmvid import plans
from mmvid.plans import continuation, keys

DATA = {"dataset": "d" * 12, "stills": "s" * 12}


def known(changes=None, *, experiment=mml, variant="", fingerprints=DATA, **replaced):
    config = shrunken(variant, experiment)
    with config.unlocked():
        config.update_from_flattened_dict(changes or {})
    return keys.of(plans.make(context(config)._replace(fingerprints=fingerprints, **replaced)))


BASE = known()


def test_keys_are_of_segments_and_stay():
    assert list(BASE) == ["stills", "ce", "ce_continued", "mml"] and len(set(BASE.values())) == 4
    assert all(len(key) == 64 for key in BASE.values()) and known() == BASE


@pytest.mark.parametrize(
    "changes",
    [
        {"networks.rgb.model": "tsm_resnet18", "networks.flow.model": "tsm_resnet18"},
        {"networks.flow.first_conv_lr": 0.0},
        {"networks.flow.optimizer.weight_decay": 0.0},
        {"networks.flow.schedule.lr": 0.1},
        {"model_options.dropout": 0.9},
        {"model_options.dtype": "bfloat16"},
        {"streams.flow.sampling.frames": 3},
        {"streams.flow.geometry": "own"},
        {"optimizer.momentum": 0.8},
        {"schedule.lr": 0.1},
        {"steps.ce": "901"},
        {"batch_size": 4},
        {"accumulate": 2},
        {"ema": 0.9},
        {"seed": 1},
        {"size": 48},
        {"augment.flip": True},
        {"missing.flow": 0.5},
        {"stills.steps": "0"},
        {"stills.batch_size": 4},
        {"evaluation.checkpoint": "best"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_changes_weights_changes_the_key(changes):
    found = known(changes)
    assert found["ce"] != BASE["ce"] and found["mml"] != BASE["mml"]
    assert not {*found.values()} & {BASE["ce"], BASE["mml"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"log_every": 1}, {"save_every": "1"}, {"loader.workers": 3, "loader.threads": 1}, {"reuse": "elsewhere"},
        {"published": ()}, {"dataset.path": "moved", "dataset.command": ()}, {"evaluation.during": "test"},
        {"evaluation.protocol": "D0U3", "evaluation.splits": ("val",)}, {"evaluation.best_by": "oracle"},
        {"evaluation.every": "1"}, {"method.title": "Ours"},
        {"subsets": {"few": dict(share=0.5)}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_changes_no_weights_does_not(changes):
    assert known(changes) == BASE


def test_a_method_and_its_options_count_from_its_segment_on():
    found = known({"method.mml.average": "logit"})
    assert {name for name in BASE if BASE[name] != found[name]} == {"mml"}
    title = known({"method.name": "dmcl"})
    assert {name: title[name] for name in ("stills", "ce", "ce_continued")} == {n: BASE[n] for n in list(BASE)[:3]}


def test_segments_that_two_plans_share_have_one_key():
    """MML's first CE segment is the same in both of its pipelines, and teachers are the same in any comparison."""
    full = known(variant="full")
    assert full["ce"] in BASE.values() and full["mml"] not in BASE.values()
    one = known(experiment=dmcl, variant="table", changes={"compare": ("independent",)})
    two = known(experiment=dmcl, variant="table", changes={"compare": ("independent", "dmcl")})
    assert one["independent"] == two["independent"]


def test_data_labels_and_files_are_what_they_hold(tmp_path):
    assert known(fingerprints=DATA | {"dataset": "e" * 12})["stills"] == BASE["stills"]
    for other in ({"dataset": "e" * 12}, {"stills": "e" * 12}):
        assert known(fingerprints=DATA | other)["ce"] != BASE["ce"]
    segment = plans.make(context(shrunken("")))[0]

    def key(value, name):
        save_file({"w": np.full(2, value, np.float32)}, tmp_path / name)
        start = {"rgb": {"segment": "", "file": str(tmp_path / name)}}
        return keys.of([segment._replace(spec={"steps": 1, "starts": start})])[segment.name]

    assert key(1, "a.safetensors") == key(1, "b.safetensors") != key(2, "a.safetensors")


def test_a_rule_counts_where_it_is_learnt_from():
    few = {"subsets": {"few": dict(share=0.5)}, "split": "few"}
    clips = {"dataset": {"train": 400, "few": 400}, "stills": {"train": 1000}}
    found, other, seed = (known(few | more, clips=clips) for more in (
        {}, {"subsets": {"few": dict(share=0.25)}}, {"subsets": {"few": dict(share=0.5, seed=1)}}))  # fmt: skip
    assert len({BASE["ce"], found["ce"], other["ce"], seed["ce"]}) == 4
    assert found["stills"] == BASE["stills"]


def test_what_decides_the_best_counts_where_the_best_is_kept():
    best = {"evaluation.checkpoint": "best"}
    first = known(best)
    for change in ({"evaluation.best_by": "oracle"}, {"evaluation.every": "1"}, {"headline": "flow"}):
        assert known(best | change)["ce"] != first["ce"]
    assert known(best | {"evaluation.protocol": "D0U3"}) == first
    held = [known(best | {"subsets": {"held": {"of": "train", "share": share}}, "evaluation.during": "held"})
            for share in (0.1, 0.5)]  # fmt: skip
    assert held[0]["ce"] != held[1]["ce"]
    # Of a further dataset: which clips it has counts, too.
    rule = {"subsets": {"held": {"dataset": "more", "share": 0.1}}, "evaluation.during": "held"}
    held = [known(best | rule, fingerprints=DATA | {"more": fingerprint}) for fingerprint in "ab"]
    assert held[0]["ce"] != held[1]["ce"]


def test_a_segment_without_a_spec_has_no_key_nor_have_those_after_it():
    config = shrunken("")
    stills, ce, *rest = plans.make(context(config))
    assert set(keys.of([stills, ce._replace(spec={}), *rest]).values()) - {""} == {keys.of([stills])["stills"]}
    pieces = continuation.cut(ce, {"a": 100, "b": ce.steps - 100})
    assert len(set(keys.of([stills, *pieces, ce]).values())) == 4


def test_a_newer_version_has_other_keys(monkeypatch):
    monkeypatch.setattr(keys, "VERSION", keys.VERSION + 1)
    assert not set(known().values()) & set(BASE.values())
