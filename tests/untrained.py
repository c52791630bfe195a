"""Runs that have ended, of toy networks with drawn weights: nothing is trained, and no dataset is there."""

import functools

import drawn
import jax
from ml_collections import ConfigDict

from configs import common
from mmvid import files, network, sharding
from mmvid.data import records
from mmvid.data.media.record import Settings
from mmvid.plans import starts
from mmvid.run import build, resume
from mmvid.run.build import Run

SPLITS = {"train": 24, "val": 3, "test": 3}
# Of the subsets that plans name.
SUBSETS = dict(held=6, taught=18, fixed=6, labelled=4, unlabelled=20, followed=4)
VERB = {"verb": {"classes": 3, "kind": "single", "names": ["push", "pull", "lift | drop"]}}


def info(heads=None, **settings):
    """What the dataset says of itself."""
    own = Settings(flow="dis", short_side=48)._asdict() | {"depth_range": [0.5, 4.0]} | settings
    splits = SPLITS | SUBSETS
    return records.Info(
        "toys", records.SCHEMA, heads or VERB, splits, splits, {}, "f" * 12, 32, 40, 12.0, own | {"inputs": "x"}
    )


def configured(*networks, **changes):
    """The configuration of plan 'single' with ``networks`` (name, its entry), and a stream for each name in
    `STREAMS` that they read."""
    c = common.get_config().unlock()
    c.dataset.path, c.size, c.plan, c.batch_size = "gone", 16, "single", 4
    for name, made in networks:
        c.networks[name] = made
        for stream in (stream for together in made.reads for stream in together):
            c.streams[stream] = STREAMS[stream]()
    c.headline = networks[0][0]
    c.evaluation.update(dict(splits=("test",), batch_size=4))
    c.loader = ConfigDict(dict(workers=0, threads=0, prefetch=1))
    c.update_from_flattened_dict(changes)
    return c


STREAMS = {
    "rgb": lambda: common.stream("rgb", frames=2),
    "flow": lambda: common.stream("flow", frames=2),
    # Of the shape of RGB, for networks that read both in turn.
    "flow3": lambda: common.stream("flow", form="image3", frames=2),
    "audio": lambda: common.stream("audio", form="logmel"),
    "boxes": lambda: common.stream("boxes", form="layout", frames=4),
}


def ended(config, workdir, own=None):
    """A run as training leaves it in ``workdir``, of a dataset whose Info is ``own``."""
    workdir.mkdir(parents=True, exist_ok=True)
    config = config.lock()
    datasets = {"dataset": records.Dataset(workdir, own or info())}
    segments = build.planned(config, datasets)
    run = Run(config, workdir, sharding.make_mesh(), datasets, segments, {}, {})
    for seed, segment in enumerate(segments):
        trained = [n for n in segment.networks if not n.frozen]
        draw = functools.partial(network.init_params, trained, segment.streams, config.size)
        params, stats = drawn.weights(draw, jax.random.key(0), seed=seed)
        (workdir / segment.name).mkdir()
        # What else a plan leaves is made of scores, which are not there.
        described = starts.described(config, segment.networks, segment.streams)
        leave = starts.keep_weights(segment.networks, segment.heads, described)
        leave(network.TrainState(1, params, {}, stats, {}, (), {}, None), workdir / segment.name)
        files.write_json(workdir / segment.name / "done.json", {"steps": segment.steps})
    resume.remember(run)
    return run
