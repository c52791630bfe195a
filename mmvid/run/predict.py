"""Predicts clips that are in no dataset, as a run that has ended scores those of its own."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.data import clips, example, fields, records
from mmvid.data.media import record as record_lib
from mmvid.data.media.item import FURTHER, Item, Refused, printable
from mmvid.plans.segment import Segment
from mmvid.run import build, checks, feed, score
from mmvid.run.build import Run
from mmvid.scores import file, numbers
from mmvid.scores.file import Scores

# {what is asked for: how flow is computed}; None is the way of the run's own dataset.
FLOWS = {"as-trained": None, "dis": "dis", "skip": "none"}


class Prediction(NamedTuple):
    """What a run says of the clip ``id``, or in ``reason`` why it says nothing.

    ``used`` and ``missing`` are the modalities that the networks read, by whether the clip has them. ``logits``
    {output: {head: [V, K]}} are of the outputs that have what they need, for each of V views; ``probabilities``
    {output: {head: [K]}} puts the views together. ``fused`` {head: [K]} are those of the sum of the outputs
    ``members``. ``names`` {head: K class names}. ``path`` is where the clip is read from, '' for one without RGB.
    ``together`` are the heads that make an action, right where all of them are: those of single labels, where
    there are several.
    """

    id: str
    reason: str = ""
    used: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = {}
    logits: Mapping[str, Mapping[str, np.ndarray]] = {}
    probabilities: Mapping[str, Mapping[str, np.ndarray]] = {}
    members: tuple[str, ...] = ()
    fused: Mapping[str, np.ndarray] = {}
    path: str = ""
    together: tuple[str, ...] = ()

    def best(self, k: int = 5, head: str = "") -> list[tuple[str, float]]:
        """Returns the ``k`` likeliest classes of a head, by default the first one, with their probabilities. The
        heads ``together``, 'noun and verb', are asked for like one: see `likeliest`."""
        head = head or next(iter(self.names))
        found = likeliest(self.fused, head, k)
        return [(self.named(head, classes), probability) for classes, probability in found]

    def named(self, head: str, classes: Sequence[int]) -> str:
        """Returns the names of the ``classes`` of a head, or of those of several, 'noun and verb'."""
        return ", ".join(self.names[own][i] for own, i in zip(head.split(" and "), classes, strict=True))


def likeliest(probabilities: Mapping[str, np.ndarray], head: str, k: int) -> list[tuple[tuple[int, ...], float]]:
    """Returns the ``k`` likeliest ((class,), probability) of a head of {head: [K]}, the earlier one first where
    two are equally likely. Of several heads, 'noun and verb', these are combinations of a class of each, whose
    probability is the product of their own: networks say nothing of how heads depend on each other."""
    own = [probabilities[name] for name in head.split(" and ")]
    # No class beyond the k best of its head is in one of the k best combinations.
    orders = [np.argsort(-values, kind="stable")[:k].tolist() for values in own]
    found = [
        (classes, float(np.prod([values[i] for values, i in zip(own, classes)])))
        for classes in itertools.product(*orders)
    ]
    return sorted(found, key=lambda one: -one[1])[:k]


def heads_of(found: Prediction) -> list[str]:
    """Returns what a clip is told by: every head, and the action of several, 'noun and verb'."""
    return [*found.fused, *([" and ".join(found.together)] if found.together else [])]


def settings_of(info: records.Info, flow: str = "as-trained") -> record_lib.Settings:
    """Returns how the clips of a run's dataset were prepared, with the ``flow`` that is asked for (FLOWS).

    Raises ValueError where the dataset does not say how.
    """
    found = {name: info.settings[name] for name in record_lib.Settings._fields if name in info.settings}
    if not found:
        raise ValueError(f"{info.name} does not say how its clips were prepared: build it again with data_prep")
    settings = record_lib.Settings(**found)
    return settings if FLOWS[flow] is None else settings._replace(flow=FLOWS[flow])


def fields_read(segment: Segment) -> tuple[str, ...]:
    """Returns the fields of a record that a segment's trained networks read."""
    wanted = {stream for needs in segment.needs.values() for stream in needs.streams}
    return checks.fields_of({name: s for name, s in segment.streams.items() if name in wanted})


def note(segment: Segment, info: records.Info, flow: str) -> str:
    """Returns what is to be said before clips without flow of their own are predicted; '' where it is nothing."""
    wanted = [field for field in fields_read(segment) if fields.FIELDS[field].computed]
    if not wanted or flow != "as-trained" or settings_of(info, flow).flow != FLOWS["skip"]:
        return ""
    return (
        f"the {wanted[0]} of {info.name} came with it and is not computed: name a clip's own in a CSV, or take "
        "--flow=dis"
    )


# ---------------------------------------------------------------------------- one clip
def _members(scores: Scores, headline: str, *, alone: bool = False) -> tuple[str, ...]:
    """Returns the outputs of a clip whose logits are added up: the members that it has, as in tables, or the
    headline ``alone``. Where it has none of them, as a fusion that lacks a stream, it is one output that it
    has."""
    there = [output for output, present in scores.present.items() if present[0]]
    if alone and headline in there:
        return (headline,)
    own = tuple(output for output in file.members(scores) if output in there)
    return own or tuple(sorted(there, key=lambda output: output != headline)[:1])


def _lacking(wanted: Sequence[str], has: Sequence[str]) -> str:
    """Says why a clip that ``has`` these fields is not predicted by networks that read the ``wanted`` ones, and
    what can be done."""
    named = [field for field in wanted if field in FURTHER]
    hint = f": name its {' or '.join(named)} in a CSV (id,path,{','.join(named)})" if named else ""
    return f"its networks read {' and '.join(wanted)}, and it has {' and '.join(has)}{hint}"


def _prediction(scores: Scores, record: dict, run: Run, segment: Segment) -> Prediction:
    """Makes the prediction of the one clip of ``scores``, which has this record."""
    how, wanted = run.config.evaluation.aggregate, fields_read(segment)
    there = {field: fields.present(record, field) for field in wanted}
    used, missing = (tuple(f for f in wanted if there[f] is has) for has in (True, False))
    # What plan 'semi' trains is its primary network: the auxiliary one is there to teach it.
    members = _members(scores, segment.headline, alone=run.config.plan == "semi")
    if not members:
        has = [field for field in fields.FIELDS if fields.present(record, field)]
        return Prediction(record["id"], _lacking(wanted, has), missing=missing)
    found = {output: heads for output, heads in scores.logits.items() if scores.present[output][0]}
    if not all(np.isfinite(logits).all() for heads in found.values() for logits in heads.values()):
        return Prediction(record["id"], "its scores are not finite", used, missing)

    def together(logits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # Several labels that were learnt by a softmax have its probabilities.
        softmax = segment.method.multi == "softmax"
        kinds = {h: "single" if softmax else segment.heads[h].kind for h in logits}
        return {h: numbers.probabilities(x, how, kind=kinds[h])[0] for h, x in logits.items()}

    single = tuple(head for head, space in segment.heads.items() if space.kind == "single")
    return Prediction(
        record["id"],
        "",
        used,
        missing,
        names={h: space.names or tuple(map(str, range(space.classes))) for h, space in segment.heads.items()},
        logits={output: {h: x[0] for h, x in heads.items()} for output, heads in found.items()},
        probabilities={output: together(heads) for output, heads in found.items()},
        members=members,
        fused=together(file.fused(scores, members)),
        together=single if len(single) > 1 else (),
    )


# ---------------------------------------------------------------------------- many
def _each(score_of: Callable[[Sequence[dict]], Scores], prepared: Sequence[dict]) -> list[Scores | str]:
    """Returns the Scores of each record by itself, or the reason why it has none."""
    try:
        scores = score_of(prepared)
        return [file.rows(scores, np.array([row])) for row in range(len(prepared))]
    except ValueError as error:
        if len(prepared) == 1:
            return [" ".join(str(error).split())]
        # One of them spoils the batch: alone, each shows whether it is the one.
        return [found for record in prepared for found in _each(score_of, [record])]


def _batches(items: Iterable, size: int) -> Iterator[list]:
    """Yields ``items`` in lists of up to ``size``."""
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def preparing(run: Run, segment: Segment, flow: str = "as-trained") -> dict:
    """Returns how clips are prepared for a segment, which `data.clips` asks for: the ``settings`` of its dataset,
    with the ``flow`` that is asked for (FLOWS), and the ``spec`` of its test clips."""
    own, info = run.config.evaluation, run.datasets[segment.dataset].info
    views, streams = feed.views(run, own.protocol, own.crops), feed.scored_streams(segment)
    spec = example.Eval(None, streams, segment.heads, run.config.size, 1, views)
    return {"settings": settings_of(info, flow), "spec": spec}


def _sized(run: Run, count: int) -> Run:
    """Returns a run with batches of ``count`` clips, or of as many as it has where those are fewer."""
    config = run.config.copy_and_resolve_references()
    with config.unlocked():
        config.evaluation.batch_size = min(count, config.evaluation.batch_size)
    return run._replace(config=config)


def _scoring(run: Run, segment: Segment) -> Callable[[Sequence[dict]], Scores]:
    """Returns score_of(records), for as many of them as a batch holds. Raises ValueError or FileNotFoundError
    where the segment's weights are gone."""
    info, own, weights = run.datasets[segment.dataset].info, run.config.evaluation, build.weights_of(run, segment)
    meta = score.meta(run, segment, "predicted", segment.stop, own.protocol, own.crops)
    forward_of = functools.cache(lambda size: score.predictor(_sized(run, size), segment))
    size = 1

    def score_of(prepared: Sequence[dict]) -> Scores:
        nonlocal size
        # A batch is filled up with copies, which cost as much as clips, and compiled for each size that it has:
        # powers of two, and none is smaller than one before.
        size = max(size, 1 << (len(prepared) - 1).bit_length())
        return forward_of(size)(weights, records.Held(prepared, info), dict(meta))

    return score_of


def answering(run: Run, segment: Segment) -> Callable[[Sequence, Sequence], Iterator[Prediction]]:
    """Returns answer(items, prepared), which yields the Prediction of each of a batch of clips, of which
    ``prepared`` are the records, or the reasons why there are none.

    Raises ValueError or FileNotFoundError where the segment's weights are gone.
    """
    score_of = _scoring(run, segment)

    def answer(items: Sequence[Item | Refused], prepared: Sequence[dict | str]) -> Iterator[Prediction]:
        whole = [record for record in prepared if isinstance(record, dict)]
        found = iter(_each(score_of, whole) if whole else [])
        for item, record in zip(items, prepared):
            scores = record if isinstance(record, str) else next(found)
            lost = isinstance(scores, str)
            made = Prediction(item.id, scores) if lost else _prediction(scores, record, run, segment)
            yield made._replace(path=printable(str(item.path or "")))

    return answer


def predictor(
    run: Run, segment: Segment, *, flow: str = "as-trained", workers: int = 0, cache: str = ""
) -> Callable[[Iterable], Iterator[Prediction]]:
    """Returns predict(items), which yields a Prediction for each clip, in order, a batch at a time; of what is
    Refused it holds the reason.

    Clips are read, cut and put together as those of the run's own dataset were, by ``workers`` processes, which
    keep what they compile in the folder ``cache``. Raises ValueError or FileNotFoundError where the segment's
    weights, or what its dataset says of itself, are gone.
    """
    prepare = functools.partial(clips.whole, **preparing(run, segment, flow))
    answer, size = answering(run, segment), feed.eval_batch_size(run)

    def predict(items: Iterable[Item | Refused]) -> Iterator[Prediction]:
        items = list(items)
        prepared = clips.each(prepare, items, min(workers, len(items)), cache)
        for batch in _batches(zip(items, prepared), size):
            yield from answer(*zip(*batch))

    return predict
