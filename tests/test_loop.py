"""The loop's own arithmetic, without a run: where the batches of a resumed segment begin."""

import types

import jax
import numpy as np
from fake import Source
from test_configs import context, shrunken

from mmvid import plans
from mmvid.run import feed


def a_run(steps):
    """Seven clips in memory, batches of two, and the segment that learns from them."""
    config = shrunken("own")
    with config.unlocked():
        config.steps.ce, config.steps.method, config.loader.threads = str(steps), str(steps), 0
        config.augment.scales = (1.0,)
    segment = plans.make(context(config))[0]
    datasets = {"dataset": types.SimpleNamespace(split=lambda name: Source(7))}
    heads = {"action": segment.heads["action"]}
    return types.SimpleNamespace(config=config, datasets=datasets), segment._replace(heads=heads)


def test_a_resumed_segment_goes_on_with_the_next_batch():
    """After k steps come the batches k + 1 to the last, as they would have come: none twice, none left out."""
    run, segment = a_run(steps=5)
    ids = {}
    whole = list(feed.train_batches(run, segment, 0))
    for start in range(6):
        rest = list(feed.train_batches(run, segment, start))
        ids[start] = [batch["main"]["id"].tolist() for batch in rest]
        assert ids[start] == ids[0][start:] and len(rest) == 5 - start
        jax.tree.map(np.testing.assert_array_equal, rest, whole[start:])


def test_segments_see_batches_of_their_own():
    run, segment = a_run(steps=5)
    ids = [[batch["main"]["id"].tolist() for batch in feed.train_batches(run, segment._replace(seed=s), 0)]
           for s in (segment.seed, segment.seed, segment.seed + 1)]  # fmt: skip
    assert ids[0] == ids[1] != ids[2]


def test_a_clip_is_cut_anew_in_every_epoch():
    run, segment = a_run(steps=7)  # two epochs of seven clips
    seen: dict = {}
    for batch in feed.train_batches(run, segment, 0):
        for row, clip in zip(batch["main"]["id"], batch["main"]["inputs"]["train"]["rgb"]):
            seen.setdefault(int(row), []).append(clip)
    assert {len(cuts) for cuts in seen.values()} == {2}
    assert sum(not np.array_equal(*cuts) for cuts in seen.values()) >= 4
