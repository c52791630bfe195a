"""Last and best are kept; a cut save is passed over; a misfit names its leaf."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmvid import checkpoint, sharding


def state(value=0.0, width=3):
    tree = {"rgb": {"kernel": jnp.full((2, width), value)}, "key": jax.random.key(7)}
    return jax.device_put(tree, sharding.replicated(sharding.make_mesh()))


def test_last_and_best_are_kept(tmp_path):
    with checkpoint.opened(tmp_path) as c:
        for step, score in ((1, 0.2), (2, 0.9), (3, 0.4), (4, None)):
            checkpoint.save(c, step, state(step), score=score)
    with checkpoint.opened(tmp_path) as c:
        assert checkpoint.latest_step(c) == 4 and checkpoint.best_step(c) == 2
        back = checkpoint.restore(c, state())
        np.testing.assert_array_equal(back["rgb"]["kernel"], 4.0)
        assert jax.random.key_data(back["key"]).tolist() == [0, 7]
        best = checkpoint.restore(c, state(), checkpoint.best_step(c))
        np.testing.assert_array_equal(best["rgb"]["kernel"], 2.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4"]


@pytest.mark.parametrize("scores", [(0.5, 0.5, 0.5), (0.2, 0.7, 0.7), (0.7, 0.7, 0.2)])
def test_the_latest_of_equally_good_ones_is_the_best(tmp_path, scores):
    with checkpoint.opened(tmp_path) as c:
        for step, score in enumerate(scores, 1):
            checkpoint.save(c, step, state(step), score=score)
    with checkpoint.opened(tmp_path) as c:
        best = max(step for step, score in enumerate(scores, 1) if score == max(scores))
        assert checkpoint.best_step(c) == best
        np.testing.assert_array_equal(checkpoint.restore(c, state(), best)["rgb"]["kernel"], best)


def test_what_is_being_saved_can_be_restored(tmp_path):
    big = {"x": jnp.zeros((4000, 2000)), "y": jnp.ones(3)}
    big = jax.device_put(big, sharding.replicated(sharding.make_mesh()))
    with checkpoint.opened(tmp_path) as c:
        checkpoint.save(c, 1, big, score=0.5)
        checkpoint.save(c, 2, jax.tree.map(lambda x: x + 1, big), score=0.5)
        back = checkpoint.restore(c, big, checkpoint.best_step(c))
    np.testing.assert_array_equal(back["y"], 2)


def test_what_was_restored_can_be_restored_into(tmp_path):
    """A run that was killed while it was scored restores its last state, then its best."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    like = jax.device_put(state(1.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
    with checkpoint.opened(tmp_path) as checkpoints:
        checkpoint.save(checkpoints, 1, like, score=0.5)
        once = checkpoint.restore(checkpoints, like)
        assert jax.tree.map(lambda x: x.sharding, once) == jax.tree.map(lambda x: x.sharding, like)
        again = checkpoint.restore(checkpoints, once, 1)
    np.testing.assert_array_equal(again["rgb"]["kernel"], like["rgb"]["kernel"])


def test_nothing_to_restore(tmp_path):
    with checkpoint.opened(tmp_path) as c:
        assert checkpoint.latest_step(c) is None and checkpoint.restore(c, state()) is None


def test_a_misfit_names_the_leaf_and_the_way_out(tmp_path):
    with checkpoint.opened(tmp_path) as c:
        checkpoint.save(c, 1, state())
    with checkpoint.opened(tmp_path) as c, pytest.raises(ValueError, match="rgb/kernel") as error:
        checkpoint.restore(c, state(width=5))
    assert "workdir" in str(error.value)


def test_a_step_is_written_again_with_its_score(tmp_path):
    with checkpoint.opened(tmp_path) as c:
        assert not checkpoint.scored(c)
        checkpoint.save(c, 1, state(1.0))
        checkpoint.save(c, 1, state(2.0), score=0.5)
        assert checkpoint.latest_step(c) == 1 and not checkpoint.scored(c)
        checkpoint.save(c, 1, state(1.0), score=0.5, again=True)
    with checkpoint.opened(tmp_path) as c:
        assert checkpoint.scored(c) and checkpoint.best_step(c) == 1
        np.testing.assert_array_equal(checkpoint.restore(c, state())["rgb"]["kernel"], 1.0)


@pytest.mark.parametrize("spared", ["", "_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_works(tmp_path, spared):
    with checkpoint.opened(tmp_path) as c:
        checkpoint.save(c, 1, state(1.0), score=0.9)
        checkpoint.save(c, 2, state(2.0), score=0.1)
    files = [p for p in (tmp_path / "2").rglob("*") if p.is_file() and p.name != spared]
    for path in files:
        path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(ValueError, match=r"/2 is damaged.*from step 1"), checkpoint.opened(tmp_path) as c:
        checkpoint.restore(c, state())
    shutil.rmtree(tmp_path / "2")
    with checkpoint.opened(tmp_path) as c:
        np.testing.assert_array_equal(checkpoint.restore(c, state())["rgb"]["kernel"], 1.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_file_of_a_checkpoint_may_be_damaged(tmp_path):
    """Never is the configuration blamed for it. Orbax leaves tasks behind that the collector complains of."""
    with checkpoint.opened(tmp_path / "whole") as c:
        checkpoint.save(c, 1, state(1.0))
    for path in (p for p in (tmp_path / "whole" / "1").rglob("*") if p.is_file()):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", copy)
        (copy / path.relative_to(tmp_path / "whole")).write_bytes(b"")
        try:
            with checkpoint.opened(copy) as c:
                found = checkpoint.restore(c, state())
        except ValueError as error:
            assert "/1 is damaged" in str(error), path
        else:
            assert found is None or np.array_equal(found["rgb"]["kernel"], state(1.0)["rgb"]["kernel"]), path
    gc.collect()
