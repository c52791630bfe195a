"""A file of weights proves what its networks never saw, or says that it cannot."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from mmvid import usage
from mmvid.weights import files, seen
from mmvid.weights.seen import Shown

CLIPS = tuple(f"clip{i}" for i in range(12))
# Ids are what UTF-8 can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
HELD, REST = CLIPS[:3], CLIPS[3:]


def shown(split, ids, dataset="dataset"):
    return Shown(dataset, split, "f" * 12, seen.clips(ids))


def segment(ids, *before, splits=(("held", HELD), ("rest", REST))):
    """What a segment that trains on ``ids`` has seen after it began with ``before``."""
    return seen.joined(seen.of_clips([shown("train", ids)], [shown(*s) for s in splits]), before)


def saved(path, told=None):
    more = {} if told is None else {"seen": json.dumps(told)}
    files.save(path, {"rgb": {"params": {"w": np.zeros(2, np.float32)}}}, {"key": "", **more})
    return str(path)


@given(st.lists(TEXT), st.lists(TEXT))
def test_a_split_is_met_where_a_clip_of_it_was_trained_on(trained, held):
    found = seen.of_clips([shown("train", trained)], [shown("held", held)])
    (entry,) = found["splits"].values()
    assert entry["met"] == bool({*trained} & {*held})
    # What files of older runs name a split by.
    plain = hashlib.sha256("\n".join(sorted(set(held))).encode()).hexdigest()
    assert list(found["splits"]) == [plain] == [seen.digest(held)]


def test_a_digest_of_many_is_that_of_one_text():
    many = [f"clip{i % 150_000}" for i in range(200_000)]
    assert seen.digest(many) == hashlib.sha256("\n".join(sorted(set(many))).encode()).hexdigest()


def test_the_chain_is_what_was_seen(tmp_path):
    """The networks of a file, and whatever they, or their teachers, started from."""
    clean = saved(tmp_path / "clean.safetensors", segment(REST))
    assert not seen.saw(f"{clean}#rgb", "held", HELD) and seen.saw(clean, "rest", REST)
    all_of_it = saved(tmp_path / "all.safetensors", segment(CLIPS))
    assert seen.saw(all_of_it, "held", HELD[::-1])
    for before, met in (([clean], False), ([clean, all_of_it], True)):
        later = saved(tmp_path / "later.safetensors", segment(REST, *map(seen.of_file, before)))
        assert seen.saw(later, "held", HELD) == met
    trained = seen.of_file(later)["trained"]
    assert [(t["clips"], t["ids"] == seen.digest(CLIPS)) for t in trained] == [(9, False), (12, True)]


def test_what_cannot_be_proved_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.safetensors"):
        seen.saw(tmp_path / "none.safetensors", "held", HELD)
    old, published = saved(tmp_path / "old.safetensors"), str(tmp_path / "published.safetensors")
    save_file({"w": np.zeros(2, np.float32)}, published)
    other = saved(tmp_path / "other.safetensors", segment(REST, splits=()))
    gone = [seen.of_file(f"{tmp_path}/gone{end}") for end in (".safetensors#rgb", ".pth")]
    assert [(g["published"], g["unproven"]) for g in gone] == [
        ([], [f"{tmp_path}/gone{end}"]) for end in (".safetensors", ".pth")
    ]
    later = saved(tmp_path / "later.safetensors", segment(REST, gone[0]))
    with pytest.raises(ValueError, match=r"cannot prove .*gone\.safetensors does not say .*was gone"):
        seen.saw(later, "held", HELD, published=True)
    for file, match in (
        (old, r"old\.safetensors cannot prove that it never saw 'held': \S+old\.safetensors does not say"),
        (published, r"published\.safetensors is no file of ours"),
        (other, r"cannot prove .* the 3 clips of 'held': .*no split of just these.*without --config\.reuse"),
    ):
        with pytest.raises(ValueError, match=match):
            seen.saw(file, "held", HELD)
        later = saved(tmp_path / "later.safetensors", segment(REST, seen.of_file(file)))
        with pytest.raises(ValueError, match=r"later\.safetensors cannot prove that it never saw"):
            seen.saw(later, "held", HELD)
        # What it saw itself is certain.
        assert seen.saw(later, "rest", REST)
    later = saved(tmp_path / "later.safetensors", segment(REST, seen.of_file(published)))
    assert not seen.saw(later, "held", HELD, published=True)
    for text in ('{"trained": [', "[]", '{"trained": []}'):
        files.save(later, {"rgb": {"params": {}}}, {"seen": text})
        with pytest.raises(usage.Damaged, match=r"later\.safetensors is damaged: the entry 'seen' of its "):
            seen.saw(later, "held", HELD)
    saved(later, segment(REST, seen.of_file(published)))
    with pytest.raises(ValueError, match=r"started from \S+published\.safetensors.*published=True"):
        seen.saw(later, "held", HELD)


IDS = st.lists(st.integers(0, 11), min_size=1, max_size=6)


@given(st.lists(st.tuples(IDS, st.booleans()), min_size=1, max_size=4), IDS)
def test_unmet_is_never_said_of_what_was_met(tmp_path_factory, chain, asked):
    """Segments that go on from each other, some of runs that know no subsets."""
    asked, before, known = tuple(CLIPS[i] for i in asked), [], True
    for ids, told in chain:
        splits = [("asked", asked)] if told else []
        before = [segment([CLIPS[i] for i in ids], *before, splits=splits)]
        known = known and told
    path = saved(tmp_path_factory.mktemp("seen") / "w.safetensors", before[0])
    met = any(CLIPS[i] in asked for ids, _ in chain for i in ids)
    if known:
        assert seen.saw(path, "asked", asked) == met
        return
    try:
        assert seen.saw(path, "asked", asked) and met
    except ValueError as error:
        assert "cannot prove" in str(error)
