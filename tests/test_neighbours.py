"""What a network knows before it has learnt is measured on the labelled clips that it learns from."""

import pytest
import toy
from test_build import config, dataset, labelled  # noqa: F401

from mmvid import files
from mmvid.run import neighbours


@pytest.fixture
def run(dataset, tmp_path):  # noqa: F811
    """A toy run whose second segment learns from labelled clips of a further dataset, and is scored there."""
    more = labelled(tmp_path / "more", "e" * 12, 6)
    c = config(dataset, **{"evaluation.neighbours": (1, 3), "loader.threads": 0}).unlock()
    c.datasets = {"more": {"path": str(more), "command": ()}}
    found = toy.a_run(c.lock(), tmp_path)
    (whole,) = found.segments
    groups = {"main": whole.main._replace(dataset="more")}
    return found._replace(segments=[whole, whole._replace(groups=groups, evaluate=("test",))])


def test_neighbours_are_clips_of_the_labelled_groups_dataset(run, monkeypatch):
    """Of the first segment that is scored: that of stills is not."""
    read, real = [], neighbours.Some
    monkeypatch.setattr(neighbours, "Some", lambda source, n: read.append((source.ids()[0], n)) or real(source, n))
    neighbours.write(run)
    assert read == [("more train0", neighbours.TRAIN_CLIPS), ("more test0", neighbours.TEST_CLIPS)]
    found = files.read_json(run.workdir / "neighbours.json")
    assert {output: list(ks) for output, ks in found.items()} == {"rgb": ["1", "3"], "flow": ["1", "3"]}
    assert all(0 <= a <= 1 for accuracies in found.values() for a in accuracies.values())
    neighbours.write(run)
    assert len(read) == 2  # what is there is not made again


def test_a_run_that_has_none_is_told_why(run, caplog):
    neighbours.LOG.propagate = True
    unscored, segment = run.segments
    bare = {name: group._replace(labels=False) for name, group in segment.groups.items()}
    multi = {name: head._replace(kind="multi") for name, head in segment.heads.items()}
    for one, reason in (
        (unscored, "no segment is scored"),
        (segment._replace(groups=bare), "segment 'whole' learns from no labelled clips"),
        (segment._replace(heads=multi), "all of kind 'multi'"),
    ):
        caplog.clear()
        neighbours.write(run._replace(segments=[one]))
        assert reason in caplog.text and not (run.workdir / "neighbours.json").exists()
    caplog.clear()
    with run.config.unlocked():
        run.config.evaluation.neighbours = ()
    neighbours.write(run._replace(segments=[unscored]))
    assert not caplog.records
