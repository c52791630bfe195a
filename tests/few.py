"""Made-up runs that learn from few labels, for tests of their reports: nothing is trained."""

import json

import numpy as np
from test_scores import made

from mmvid import files
from mmvid.report import finish
from mmvid.report.finish import Shown
from mmvid.scores import effort, file

VERBS = ("push left", "push right", "pull near", "push far", "lift", "drop", "tip over", "rotate cw", "rotate ccw",
         "put behind", "put in front", "cover", "uncover", "collide", "bring together", "take apart", "shake",
         "wobble", "nothing", "wave")  # fmt: skip
# How much the outputs of a method know.
KNOWN = {"single": 0.7, "fixmatch": 1.3, "cmpl": 1.9}


def asked(config) -> dict[str, tuple]:
    """{segment: (method, outputs, labelled, title)} of a configuration, in the order of its plan."""
    own = dict(method=config.method.name, networks=config.semi.networks, title=config.method.title or "CMPL")
    arms = sorted(config.semi.arms.items(), key=lambda arm: list(KNOWN).index(arm[1].method))
    found = {}
    for name, arm in [*arms, ("method", own)]:
        reads = {network: config.networks[network].reads for network in arm["networks"]}
        outputs = [n if len(own) < 2 else f"{n}.{stream}" for n, own in reads.items() for (stream,) in own]
        found[name] = (arm["method"], outputs, arm.get("labelled", config.semi.labelled), arm["title"])
    return found


def scored(config, outputs, knowing, seed, clips, **meta):
    """Scores of so many clips. What the headline knows best, others know least."""
    rng, labels = np.random.default_rng(seed), np.arange(clips) % len(VERBS)
    known = knowing * np.linspace(0.4, 1.6, len(VERBS))
    logits = {}
    for name in outputs:
        signal = (known if name == config.headline else known[::-1])[:, None] * np.eye(len(VERBS))
        logits[name] = 3 * (0.6 * rng.normal(size=(clips, 2, len(VERBS))) + signal[labels][:, None])
    told = dict(split="test", step=600, protocol=config.evaluation.protocol, crops="centre", variant="code",
                resize=48, views=2, dataset="tabletop-semi", fingerprint="made up", clips_expected=clips,
                clips_used=clips, classes={"verb": list(VERBS)}, members=list(outputs))  # fmt: skip
    found = made(logits, labels, **{**told, **meta})
    verbs = {output: {"verb": own["action"]} for output, own in found.logits.items()}
    return found._replace(label={"verb": labels}, logits=verbs)


def logged(folder, method, outputs, seed, steps):
    """Writes metrics of a training in which confidence has to be earned: at first there is none."""
    rng, lines = np.random.default_rng(seed), []
    for step in range(10, steps + 1, 10):
        lines.append({"step": step, "lr": 0.05} | {f"train/{name}/ce": 1.0 for name in outputs})
        for place, name in enumerate(outputs if method != "single" else ()):
            share = max(0.0, (step - 80) / steps) * (0.9 if method == "cmpl" else 0.6)
            sure, right = rng.binomial(12, share), 0.95 - 0.1 * place - 0.2 * (method == "fixmatch")
            lines[-1][f"train/{name}/confident"] = sure / 12
            lines[-1][f"train/{name}/right"] = rng.binomial(sure, right) / 12
            if method == "cmpl":
                # Of what this one is sure of, the other one is right about a part.
                lines[-1][f"train/{outputs[1 - place]}/beside"] = rng.binomial(sure, right - 0.2) / 12
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def segments(workdir, config, *, clips=240, steps=600):
    """Writes what the segments of a configuration would have left; returns the columns of its table."""
    shown = []
    for seed, (name, (method, outputs, labelled, title)) in enumerate(asked(config).items()):
        folder, about = workdir / name, dict(segment=name, title=title)
        (folder / "scores").mkdir(parents=True)
        ways = {"test": {}, "followed": dict(split="followed")}
        if labelled == config.semi.labelled:
            whole = config.evaluation.protocol
            ways |= {f"test@{whole}t{k}-centre": dict(protocol=f"{whole}t{k}") for k in config.semi.thinned}
        for way, meta in ways.items():
            knowing = KNOWN[method] / int(meta.get("protocol", "t1").rpartition("t")[2]) ** 0.4
            own = scored(config, outputs, knowing, seed, clips, **about, **meta)
            file.save(folder / "scores" / f"{way}.npz", own)
        logged(folder, method, outputs, seed, steps)
        taken = {o: dict(network=o, reads=[o], flops=5e7 / (1 + i), parameters=1) for i, o in enumerate(outputs)}
        files.write_json(folder / effort.NAME, taken)
        files.write_json(folder / "cost.json", {"seconds": 60.0 * len(outputs)})
        files.write_json(folder / "done.json", {"steps": steps})
        learnt = [("dataset", labelled)] + [("dataset", "unlabelled")] * (method != "single")
        shown.append(Shown(title, name, ("test",), outputs[0], learnt=tuple(learnt)))
    return shown


def ended(workdir, config, **sizes):
    """Ends a made-up run as a run ends: its tables are logged, its page is written."""
    finish.finish(workdir, config, segments(workdir, config, **sizes), None, baseline="fixmatch")
    return (workdir / "report.html").read_text(encoding="utf-8")
