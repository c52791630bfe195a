"""What a run keeps of its networks' FLOPs, and that no run fails for it."""

from test_build import config, dataset  # noqa: F401
from test_commands import TINY

from mmvid.run import build, counts, inference
from mmvid.scores import effort


def test_a_network_is_counted_once_or_else_that_is_logged(dataset, tmp_path, monkeypatch, caplog):  # noqa: F811
    run = build.build(config(dataset, **TINY | {"plan": "reduced"}), tmp_path)
    scored, counted = [segment for segment in run.segments if segment.scored], []
    for segment in scored:
        (tmp_path / segment.name).mkdir()
    real = inference.counted
    monkeypatch.setattr(inference, "counted", lambda n, *rest: counted.append(n.name) or real(n, *rest))
    for segment in scored:
        counts.note(run, segment)
    assert len(scored) > 1 and sorted(counted) == ["flow", "rgb"]
    for segment in scored:
        found = effort.read(tmp_path / segment.name)
        assert list(found) == list(segment.needs)
        _, _, side = inference.shown(run, segment)
        for network in segment.networks:
            own = real(network, segment.streams, side)
            for output in network.outputs:
                assert found[output]["flops"] == own.products.flops and found[output]["reads"] == list(own.reads)
    (tmp_path / scored[0].name / effort.NAME).unlink()
    monkeypatch.setattr(inference, "shown", lambda *_: 1 / 0)
    counts.note(run, scored[0])
    assert "FLOPs are not counted (ZeroDivisionError" in caplog.text and not effort.read(tmp_path / scored[0].name)
