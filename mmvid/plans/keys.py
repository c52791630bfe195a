"""What a segment is made of, as plain data, and its key: segments of one key end with the same weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmvid.plans import learning
from mmvid.weights import files

# Raised whenever the same configuration begins to give other numbers: no older stage is reused then.
VERSION = 1


def plain(value: Any) -> Any:
    """``value`` in dicts, lists, texts and numbers alone; configurations and named tuples become dicts."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    return value


def digest(value: Any) -> str:
    """SHA-256 of ``value`` as JSON. Raises TypeError for what is no plain data."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def spec(config, networks: Sequence, *, program: Mapping, data: Mapping, **more) -> dict:
    """The plain data that a segment is made from: all that changes its weights.

    ``program``: what its step is made of, beside the networks, the average and the microbatches;
    ``data``: what it learns from, beside seed and size; ``more``: steps, starts
    ({network: `Start`}) and what decides which checkpoint is kept.
    """
    built = {}
    for network in networks:
        found = config.networks[network.name]
        options = learning.own(config.model_options, found.options)
        built[network.name] = {"model": found.model, "options": options, "reads": network.reads,
                               "frozen": network.frozen}  # fmt: skip
    shared = {"networks": built, "accumulate": config.accumulate, "ema": config.ema}
    seen = {"seed": config.seed, "size": config.size}
    return plain({"program": shared | program, "data": seen | data, **more})


def of_groups(config, groups: Mapping, fingerprints: Mapping[str, str]) -> dict:
    """What a segment's groups are made of: their views, the rules of the subsets that they show, and the
    datasets' fingerprints."""
    rules, names = {}, [group.split for group in groups.values()]
    while names:
        name = names.pop()
        if name in config.subsets:
            rule = rules[name] = dict(config.subsets[name])
            names += [rule[other] for other in ("of", "without") if rule.get(other)]
    datasets = {group.dataset for group in groups.values()}
    return {"groups": groups, "subsets": rules,
            "fingerprints": {name: fingerprints.get(name, "") for name in datasets}}  # fmt: skip


def kept(config, headline: str) -> dict:
    """What decides which checkpoint is kept; how it is scored counts only where that is the best one."""
    found = config.evaluation
    if found.checkpoint == "last":
        return {"rule": "last"}
    names = ("during", "during_protocol", "during_crops", "variant", "resize", "aggregate", "batch_size",
             "every", "best_by")  # fmt: skip
    return {"rule": found.checkpoint, "headline": headline, **{name: found[name] for name in names}}


def _of_file(source: str) -> str:
    """A file of weights by what it holds: where it lies is of no account."""
    path, network = files.split(source)
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}#{network}"


def _resolved(start: Mapping, known: Mapping[str, str]) -> dict | None:
    """A start with keys in place of names; None where the segment that it names has no key."""
    name, file = start.get("segment", ""), start.get("file", "")
    if name and not known.get(name):
        return None
    return {**start, "segment": known.get(name, ""), "file": _of_file(file) if file else ""}


def of(segments: Sequence) -> dict[str, str]:
    """{segment: key}. A key covers the segment's ``spec`` and the keys of whatever it starts from; it is
    '' for a segment without a spec, and for those that start from one: nobody knows what they are."""
    known: dict[str, str] = {}
    for segment in segments:
        starts = {name: _resolved(start, known) for name, start in segment.spec.get("starts", {}).items()}
        unknown = not segment.spec or None in starts.values()
        whole = {"version": VERSION, **segment.spec, "starts": starts}
        known[segment.name] = "" if unknown else digest(whole)
    return known


def of_scores(config) -> str:
    """The key of how splits are scored at a segment's end; its weights have their own."""
    how = {name: config.evaluation[name] for name in ("protocol", "variant", "crops", "resize")}
    return digest({"version": VERSION, **how, "size": config.size, "subsets": config.subsets})
