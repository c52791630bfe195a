"""The plain data that a segment is made from, and its key, a hash of it: segments with equal keys end with
the same weights, so that one can be reused for the other."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mmvid.plans import learning
from mmvid.weights import files

# Raise it whenever the same configuration begins to give other numbers: no older segment is reused then.
VERSION = 1

# The options of the scores that decide which checkpoint is the best.
_DURING = (
    "during", "during_protocol", "during_crops", "variant", "resize", "aggregate", "batch_size", "every",
    "best_by",
)  # fmt: skip


# A field of a named tuple that keys do not tell, and its value.
ADDED = (("offset", 0.0),)


def plain(value: Any) -> Any:
    """``value`` in dicts, lists, texts and numbers alone; configurations and named tuples become dicts."""
    if hasattr(value, "_asdict"):
        own = value._asdict()
        # What a later version added, with the value that earlier ones meant: their keys hold.
        value = {name: child for name, child in own.items() if (name, child) not in ADDED}
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    return value


def digest(value: Any) -> str:
    """SHA-256 of ``value`` as JSON. Raises TypeError for what is no plain data."""
    # Sorted: the order in which a configuration names its entries changes no result.
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()


def spec(config, networks: Sequence, *, program: Mapping, data: Mapping, **more) -> dict:
    """The plain data that a segment is made from: everything that changes its weights, and nothing else.

    ``program`` is what its train step is made of; networks, accumulation and the moving average are added
    here. ``data`` is what it learns from; seed and size are added here. ``more`` holds its steps, its
    starts ({network: `Start`}) and what decides which checkpoint is kept.
    """
    built = {}
    for network in networks:
        # A model is no plain data; the entries that it is built from are.
        found = config.networks[network.name]
        options = learning.own(config.model_options, found.options)
        shape = {"model": found.model, "options": options, "reads": network.reads}
        built[network.name] = shape | {"frozen": network.frozen}
    shared = {"networks": built, "accumulate": config.accumulate, "ema": config.ema}
    seen = {"seed": config.seed, "size": config.size}
    return plain({"program": shared | program, "data": seen | data, **more})


def _rules(config, splits: Sequence[str]) -> dict:
    """{subset: rule} of those ``splits`` that are subsets. A subset may be cut from another one, or leave one
    out: their rules count as well."""
    rules, names = {}, list(splits)
    while names:
        name = names.pop()
        if name in config.subsets:
            rule = rules[name] = dict(config.subsets[name])
            names += [rule[other] for other in ("of", "without") if rule.get(other)]
    return rules


def of_groups(config, groups: Mapping, fingerprints: Mapping[str, str]) -> dict:
    """The plain data of a segment's groups: the groups with their views, the rules of the subsets that they
    show, and the fingerprints of their datasets."""
    datasets = {group.dataset for group in groups.values()}
    # Whether hidden labels are followed changes no weight.
    shown = {name: {k: v for k, v in plain(own).items() if k != "audit"} for name, own in groups.items()}
    rules = _rules(config, [group.split for group in groups.values()])
    known = {name: fingerprints.get(name, "") for name in datasets}
    return {"groups": shown, "subsets": rules, "fingerprints": known}


def kept(config, headline: str, fingerprints: Mapping[str, str]) -> dict:
    """The options that decide which checkpoint a segment ends with. How splits are scored while training is
    among them only where the best one is kept."""
    found = config.evaluation
    if found.checkpoint == "last":
        return {"rule": "last"}
    rules = _rules(config, [found.during])
    # Of further datasets alone: those of the segment's groups stand beside these (`of_groups`).
    others = {name: fingerprints.get(name, "") for name in further(rules)}
    known = {"fingerprints": others} if others else {}
    own = {name: found[name] for name in _DURING}
    return {"rule": found.checkpoint, "headline": headline, "subsets": rules, **known, **own}


def _of_file(source: str) -> str:
    """A file of weights as the hash of its content and its network: a moved file is the same start."""
    path, network = files.split(source)
    rule = files.INFLATED if files.inflated(source) else ""
    with path.open("rb") as file:
        return f"{rule}{hashlib.file_digest(file, 'sha256').hexdigest()}#{network}"


def _resolved(start: Mapping, known: Mapping[str, str]) -> dict | None:
    """A start with its segment's key in place of the name, and its file's hash in place of the path; None
    where that segment has no key."""
    name, file = start.get("segment", ""), start.get("file", "")
    if name and not known.get(name):
        return None
    return {**start, "segment": known.get(name, ""), "file": _of_file(file) if file else ""}


def of(segments: Sequence) -> dict[str, str]:
    """{segment: key} of a plan's segments. A key covers the segment's ``spec`` and the keys of whatever it
    starts from. A segment without a spec has the key '', and so has one that starts from it: neither can be
    told from others, and neither is reused."""
    known: dict[str, str] = {}
    for segment in segments:
        starts = {name: _resolved(start, known) for name, start in segment.spec.get("starts", {}).items()}
        unknown = not segment.spec or None in starts.values()
        whole = {"version": VERSION, **segment.spec, "starts": starts}
        known[segment.name] = "" if unknown else digest(whole)
    return known


def further(rules: Mapping[str, Mapping]) -> set[str]:
    """The datasets beside the main one that subsets of these ``rules`` are taken from."""
    return {rule["dataset"] for rule in rules.values() if "dataset" in rule}


def of_scores(config, fingerprints: Mapping[str, str] | None = None) -> str:
    """The key of how splits are scored at a segment's end; its weights have their own. ``fingerprints`` are those
    of the `further` datasets that subsets come from."""
    how = {name: config.evaluation[name] for name in ("protocol", "variant", "crops", "resize")}
    known = {"fingerprints": fingerprints} if fingerprints else {}
    return digest({"version": VERSION, **how, "size": config.size, "subsets": config.subsets, **known})
