"""The page of a shared network: a model card, as Hugging Face's hub reads it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import yaml

from mmvid.report.text import listed, percent


class Input(NamedTuple):
    """A stream that a network reads: so many ``frames`` of a ``modality`` in a ``form``."""

    stream: str
    modality: str
    form: str
    frames: int


class Result(NamedTuple):
    """The ``numbers`` of a ``head`` on a split, as `scores.numbers.summary` gives them, by ``used`` of
    ``expected`` clips."""

    split: str
    head: str
    numbers: Mapping
    used: int
    expected: int


class Facts(NamedTuple):
    """What a card tells.

    ``network`` and ``model`` are the shared network and its architecture, ``output`` is the one that ``results``
    are of, and ``heads`` {head: class names}. ``protocol`` says how clips were cut for the results, ``cut`` how
    they are prepared, ``trained`` and ``began`` what was learnt from and begun with, ``made`` {what: words} by
    which method and code: all in words.
    """

    name: str
    network: str
    model: str
    parameters: int
    output: str
    inputs: Sequence[Input]
    heads: Mapping[str, Sequence[str]]
    results: Sequence[Result]
    dataset: str
    fingerprint: str
    protocol: str
    trained: Sequence[str]
    began: Sequence[str]
    made: Mapping[str, str]
    cut: str
    version: str


# What the hub calls the numbers of a head: (its kind of metric, our words, our name).
_METRICS = (("accuracy", "top-1", "top1"), ("accuracy", "top-5", "top5"), ("mAP", "mAP", "map"))


# ---------------------------------------------------------------------------- the header
def _result(result: Result, facts: Facts) -> dict:
    """An entry of the hub's list of results."""
    metrics = [
        {"type": kind, "name": f"{words} ({result.head})", "value": round(100 * result.numbers[name], 2)}
        for kind, words, name in _METRICS
        if result.numbers.get(name) is not None
    ]
    dataset = {
        "type": facts.dataset,
        "name": f"{facts.dataset} ({facts.fingerprint})",
        "split": result.split,
    }
    return {"task": {"type": "video-classification"}, "dataset": dataset, "metrics": metrics}


def _header(facts: Facts) -> str:
    """The lines of YAML that the hub reads."""
    found = [own for result in facts.results if (own := _result(result, facts))["metrics"]]
    index = {"model-index": [{"name": facts.name, "results": found}]} if found else {}
    modalities = dict.fromkeys(own.modality for own in facts.inputs)
    header = {
        "library_name": "mmvid",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", "action-recognition", "jax", *modalities],
        **index,
    }
    # A comment: whose licence it is, nobody but its owner can say.
    chosen = "# license: apache-2.0, or whatever its owner and the owners of the data allow\n"
    return f"---\n{chosen}{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n"


# ---------------------------------------------------------------------------- the page
def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(rows: Sequence[Sequence[object]]) -> str:
    head, *rest = ([_cell(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(bounds: Sequence[float] | None) -> str:
    return f" [{', '.join(map(percent, bounds))}]" if bounds else ""


def _results(facts: Facts) -> str:
    """The table of results, of accuracies or of mAPs; in words where there is none."""
    if not facts.results:
        return "It has not been scored."
    rows = [["split", "clips", "labels", "top-1 or mAP [95 %]", "top-5", "calibration error"]]
    for own in facts.results:
        found = own.numbers
        first = found.get("top1", found.get("map"))
        bounds = found.get("top1_interval") or found.get("map_interval")
        cells = [f"{percent(first)}{_interval(bounds)}", percent(found.get("top5")), percent(found.get("ece"))]
        rows.append([own.split, f"{own.used} of {own.expected}", own.head, *cells])
    how = f"Output `{facts.output}`, {facts.protocol}; in percent, intervals over clips."
    return f"{how}\n\n{_table(rows)}"


def _inputs(facts: Facts) -> str:
    rows = [["stream", "modality", "form", "frames"], *facts.inputs]
    return f"{_table(rows)}\n\n{facts.cut}"


def _classes(heads: Mapping[str, Sequence[str]]) -> str:
    parts = [f"**{_cell(head)}** ({len(names)}): {_cell(', '.join(names))}" for head, names in heads.items()]
    return "\n\n".join(parts)


def _learnt(facts: Facts) -> str:
    lines = [*facts.trained, *(f"it began with {own}" for own in facts.began)]
    lines += [f"{what}: {words}" for what, words in facts.made.items()]
    return "\n".join(f"- {_cell(line)}" for line in lines)


def text(facts: Facts) -> str:
    """Writes the card: the hub's header, then what the network is, reads, achieves and has learnt from."""
    reads = listed(list(dict.fromkeys(own.modality for own in facts.inputs)))
    return f"""{_header(facts)}
# {_cell(facts.name)}

A classifier of videos that reads {reads}: `{facts.network}`, a {facts.model} of {facts.parameters:,}
parameters, trained with mmvid {facts.version}.

## Use

With mmvid installed, and this folder as `FOLDER`:

```sh
python -m mmvid predict FOLDER my_video.mp4
```

```python
import mmvid

mmvid.load("FOLDER")("my_video.mp4").best(5)
```

`config.json` says how clips are cut, `model.safetensors` holds the weights; nothing else is needed.

## What it reads

{_inputs(facts)}

## Results

{_results(facts)}

Dataset: {_cell(facts.dataset)}, fingerprint {facts.fingerprint}. Numbers of another copy of the data, or of
another protocol, are not comparable.

## What it has learnt from

{_learnt(facts)}

## Classes

{_classes(facts.heads)}

## Licence

Not stated. Whoever publishes this network says it in the first lines of this file, where the hub looks for it,
after a look at the licences of the data and of the weights that it began with.
"""
