"""Rows of a comparison: what each is worth over its seeds, how sure that is, how far it is from another one."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmvid.scores import file, metrics
from mmvid.scores import numbers as numbers_lib
from mmvid.scores.file import Scores


class Row(NamedTuple):
    """One row of the comparison: a segment of several runs that share everything but their seed.

    ``runs`` are the folders of the runs and ``scores`` is {split: [Scores of each seed]}; all of these have
    their clips in the same order. ``config`` is the runs' configuration, of any seed.
    """

    title: str
    segment: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    scores: dict[str, list[Scores]]
    config: Mapping = {}


def head_of(scores: Scores) -> str:
    """Names the head that is compared: all heads of single labels together ('noun and verb'; the one alone where
    there is one), or the first head where none has single labels."""
    return file.joint_head(scores) or [*file.single_heads(scores), *scores.label][0]


def of_which(scores: Scores) -> str:
    """Says which head a number is of, ' of noun and verb'; '' where there is one alone."""
    return f" of {head_of(scores)}" if len(scores.label) > 1 else ""


def heads(rows: Sequence[Row], split: str) -> list[str]:
    """Lists the heads of single labels where there are several, which `of_head` tells apart; else []."""
    single = file.single_heads(rows[0].scores[split][0])
    return single if len(single) > 1 else []


def of_head(row: Row, split: str, head: str) -> Row:
    """Returns the row with the scores of a split of one head alone."""
    own = [
        scores._replace(
            label={head: scores.label[head]},
            logits={output: {head: logits[head]} for output, logits in scores.logits.items()},
        )
        for scores in row.scores[split]
    ]
    return row._replace(scores={split: own})


def outputs(rows: Sequence[Row], split: str, headline: str) -> list[str]:
    """Lists every output of the rows, the headline first, then 'sum' and 'oracle' where a row has several
    members."""
    every = [scores for row in rows for scores in row.scores[split]]
    found = sorted({o for s in every for o in s.logits}, key=lambda o: (o != headline, o))
    several = any(len(file.members(s)) > 1 for s in every)
    # An oracle asks whether some output is right, which labels of several classes do not answer by yes or no.
    multi = all(s.label[h].ndim > 1 for s in every for h in s.label)
    return [*found, *(["sum"] if several else []), *(["oracle"] if several and not multi else [])]


def _key(scores: Scores, output: str) -> str | None:
    """Names the output by which the column ``output`` is found in a scores file; None where it has no such."""
    several = len(file.members(scores)) > 1
    # A network may itself be named "sum" or "oracle": then the column is its own.
    if output in ("sum", "oracle") and output not in scores.logits:
        return {"sum": "fused", "oracle": "oracle"}[output] if several else None
    return output if output in scores.logits else None


def _hits(scores: Scores, output: str, how: str) -> np.ndarray | None:
    """Returns 1 or 0, hit or miss, for each labelled clip [N]; None where labels are of several classes, or where
    the file has no such ``output``."""
    scores, head = file.labelled(scores), head_of(scores)
    key = _key(scores, output)
    if key is None or numbers_lib.is_multi(scores, head):
        return None
    if key == "oracle":
        return numbers_lib.oracle(scores, head, how)
    return numbers_lib.hits(scores, key, head, 1, how)


def _value(scores: Scores, output: str, how: str) -> float | None:
    """Returns top-1, or mAP where labels are of several classes, as a fraction; None where it is undefined."""
    hits = _hits(scores, output, how)
    if hits is not None:
        return float(hits.mean()) if len(hits) else None
    scores, key = file.labelled(scores), _key(scores, output)
    return None if key in (None, "oracle") else numbers_lib.mean_ap(scores, key, head_of(scores), how)


def values(row: Row, split: str, output: str, how: str) -> list[float]:
    """Returns the value of each seed (top-1 or mAP, fractions); [] where that of any seed is undefined."""
    found = [_value(scores, output, how) for scores in row.scores[split]]
    # A mean over the other seeds would look like one over all.
    return [] if any(v is None for v in found) else found


def unit(row: Row, split: str, output: str, how: str) -> str:
    """Names what the values of an output are: 'top1' or 'map'."""
    return "map" if _every_hits(row, split, output, how) is None else "top1"


def _every_hits(row: Row, split: str, output: str, how: str) -> list[np.ndarray] | None:
    """Returns the hits of each seed, [N] each; None where a seed has none to count."""
    found = [_hits(scores, output, how) for scores in row.scores[split]]
    return None if any(h is None or not len(h) for h in found) else found


def _mean_hits(row: Row, split: str, output: str, how: str) -> np.ndarray | None:
    """Returns the share of seeds that are right on each clip: [N]; None where a seed has no hits to count."""
    found = _every_hits(row, split, output, how)
    return None if found is None else np.mean(found, axis=0)


def _sampled(row: Row, split: str, output: str, how: str) -> np.ndarray:
    """Returns the mAP of bootstrap samples of the clips, averaged over seeds: [D]."""
    return np.mean(
        [
            numbers_lib.sampled_map(scores, _key(scores, output), head_of(scores), how)
            for scores in row.scores[split]
        ],
        axis=0,
    )


def _interval_of_hits(hits: Sequence[np.ndarray], ids: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean over runs of their hits, [N] each, on the clips ``ids``."""
    if not all(np.array_equal(own, ids[0]) for own in ids):
        # Versions of a dataset may have clips of their own, or the same ones in another order.
        if any(set(own.tolist()) != set(ids[0].tolist()) for own in ids):
            return metrics.interval_of_means(hits)
        hits = [own[np.argsort(order)] for own, order in zip(hits, ids)]
    return metrics.bootstrap_interval(np.mean(hits, axis=0))


def interval(row: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """Returns the 95 % bootstrap interval over clips of a row's mean over seeds, or over versions of a dataset:
    (low, high), or () where there is no such number."""
    hits, found = _every_hits(row, split, output, how), values(row, split, output, how)
    if hits is not None:
        return _interval_of_hits(hits, [file.labelled(scores).id for scores in row.scores[split]])
    return numbers_lib.around(float(np.mean(found)), _sampled(row, split, output, how)) if found else ()


def difference(row: Row, base: Row, split: str, output: str, how: str, other: str = "") -> tuple[float, ...]:
    """Returns ``row`` minus ``base`` as (mean, low, high), with a 95 % bootstrap interval over clips; of the
    ``other`` output of ``base`` where one is named.

    Each clip's hits (or the mAP of each sample of clips) are averaged over seeds first, and the two rows are
    paired. It is () where either row lacks the number, or where the two are sums or oracles over different
    outputs.
    """
    other = other or output
    if output == other and output in ("sum", "oracle") and _differ(row, base, split):
        return ()
    both = ((row, output), (base, other))
    pair = [_mean_hits(r, split, o, how) for r, o in both]
    if all(hits is not None for hits in pair):
        return metrics.paired_interval(*pair)
    means = [values(r, split, o, how) for r, o in both]
    if not all(means):
        return ()
    mean = float(np.mean(means[0]) - np.mean(means[1]))
    return (mean, *numbers_lib.around(mean, np.subtract(*(_sampled(r, split, o, how) for r, o in both))))


# ---------------------------------------------------------------------------- calibration
def errors(row: Row, split: str, output: str, how: str) -> list[float]:
    """Returns the calibration error of each seed, as fractions; [] where that of any seed is undefined: labels of
    several classes, an oracle, no clip that has the output."""
    found = [_error(scores, output, how) for scores in row.scores[split]]
    return [] if None in found else found


def _error(scores: Scores, output: str, how: str) -> float | None:
    key = _key(scores, output)
    if key in (None, "oracle") or numbers_lib.is_multi(scores, head_of(scores)):
        return None
    return numbers_lib.calibration_error(file.labelled(scores), key, head_of(scores), how)


def _sampled_errors(row: Row, split: str, output: str, how: str) -> np.ndarray:
    """Returns the calibration error of bootstrap samples of the clips, averaged over seeds: [D]. Rows of the same
    clips are sampled alike."""
    each = [(file.labelled(scores), _key(scores, output)) for scores in row.scores[split]]
    sampled = [metrics.sampled_calibration_error(*numbers_lib.confidence(s, k, head_of(s), how)) for s, k in each]
    return np.mean(sampled, axis=0)


def error_interval(row: Row, split: str, output: str, how: str) -> tuple[float, ...]:
    """Returns the 95 % bootstrap interval over clips of a row's mean calibration error over seeds; () where there
    is none."""
    found = errors(row, split, output, how)
    if not found:
        return ()
    low, high = numbers_lib.around(float(np.mean(found)), _sampled_errors(row, split, output, how))
    # Samples have larger errors than the clips: moved back, their least may fall below 0.
    return max(low, 0.0), high


def error_difference(row: Row, base: Row, split: str, output: str, how: str, other: str = "") -> tuple[float, ...]:
    """Returns the calibration error of ``row`` minus that of ``base``, each a mean over its seeds, as (mean, low,
    high): the bootstrap draws the same clips for all of them. () where either has none; see `difference`."""
    both = ((row, output), (base, other or output))
    found = [errors(r, split, o, how) for r, o in both]
    if not all(found) or ((other or output) == output == "sum" and _differ(row, base, split)):
        return ()
    mean = float(np.mean(found[0]) - np.mean(found[1]))
    return (mean, *numbers_lib.around(mean, np.subtract(*(_sampled_errors(r, split, o, how) for r, o in both))))


def _differ(row: Row, base: Row, split: str) -> bool:
    """Whether sums of two rows are over different outputs."""
    return len({file.members(r.scores[split][0]) for r in (row, base)}) > 1


# ---------------------------------------------------------------------------- what a row says
class Entry(NamedTuple):
    """A line of the table: a row, or one ``output`` of a row that lacks the main one."""

    title: str
    row: Row
    output: str


def taught_by(scores: Iterable[Scores]) -> set[str]:
    """Names the outputs that have taught any of the scores' networks."""
    notes = [own.meta.get("teachers", {}) for own in scores]
    weighed = {output for note in notes for own in note.get("weights", {}).values() for output in own}
    return weighed.union(*(note.get("outputs", ()) for note in notes))


def titled(title: str, scores: Scores, output: str, teachers: Container[str]) -> str:
    """Titles a line of one of several outputs of a row: 'CE: flow'; teachers have their own names, 'teacher_flow',
    whether they were trained together, each alone, or by an earlier run, and so have outputs that their segment
    has a title for, 'Flow alone'; a sum of these is called by its members."""
    own, titles = scores.meta.get("title") or scores.meta.get("segment", ""), scores.meta.get("titles", {})
    called = titles.get(output, output if output in teachers else "")
    if titles and output == "sum" and output not in scores.logits:
        called = " + ".join(titles.get(member, member) for member in file.members(scores))
    if called and own and title.endswith(own):
        # Before it stands the run, where there are several.
        return title.removesuffix(own) + called
    return f"{title}: {output}"


def lines_of(title: str, scores: Scores, teachers: Container[str]) -> list[str]:
    """Lists what a row is called where it is only named: teachers that were trained together each by its own
    name."""
    own = [output for output in scores.logits if output in teachers] if len(scores.logits) > 1 else []
    return [titled(title, scores, output, teachers) for output in own] or [title]


def said_by(row: Row, rows: Sequence[Row], split: str, headline: str) -> list[str]:
    """Lists the outputs of one of the ``rows``, the headline first, and 'sum' where it has several members; not
    that of teachers, whose sums by weight are rows of their own."""
    weighed = any("teachers" in scores.meta for own in rows for scores in own.scores[split])
    return [o for o in outputs([row], split, headline) if o not in ("oracle", *(["sum"] if weighed else []))]


def entries(rows: Sequence[Row], split: str, headline: str) -> list[Entry]:
    """Lists the lines of a table: each row with the main output (the `outputs`' first), or else a line for each
    output of its own, and for their sum."""
    main, found = outputs(rows, split, headline)[0], []
    teachers = taught_by(scores for row in rows for scores in row.scores[split])
    for row in rows:
        own = said_by(row, rows, split, headline)
        if main in own or len(own) == 1:
            found.append(Entry(row.title, row, main if main in own else own[0]))
        else:
            found += [
                Entry(titled(row.title, row.scores[split][0], output, teachers), row, output) for output in own
            ]
    return found
