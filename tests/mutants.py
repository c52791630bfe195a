"""Would the tests notice? Plants one small mistake at a time and runs the tests that should fail.

    python tests/mutants.py             # all, some minutes
    python tests/mutants.py ema salt    # those whose name holds one of the words

A mistake is planted in a copy of the tree; the tree itself stays as it is. By hand, not in CI.
"""

import compileall
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
NEEDED = ("mmvid", "configs", "data_prep", "tests", "docs", "pyproject.toml", "README.md")


class Mutant(NamedTuple):
    """``old``, which stands once in ``file``, becomes ``new``; ``tests`` are pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: str


PLAN = "tests/test_plans.py -k"
STEP = "tests/test_step.py -k"
METHODS = "tests/test_methods.py -k"
LOADER = "tests/test_pipeline.py -k"
OPTIM = "tests/test_optim.py"
SCORES = "tests/test_scores.py"
BLENDED = "tests/test_blended.py -k"

MUTANTS = (
    # Plans and starts.
    Mutant("a classifier that was handed over is called fresh", "mmvid/plans/segment.py",
           "fresh=fit.fresh(config, n, starts, heads)", "fresh=n.model.classifiers", f"{PLAN} classifier"),
    Mutant("no classifier is fresh", "mmvid/plans/segment.py",
           "fresh=fit.fresh(config, n, starts, heads)", "fresh=()", f"{PLAN} classifier"),
    Mutant("first_conv_lr is ignored", "mmvid/plans/learning.py",
           '"first_conv_lr": spec.first_conv_lr', '"first_conv_lr": 1.0', f"{PLAN} first_conv"),
    Mutant("a part brings a classifier that it lacks", "mmvid/weights/__init__.py",
           'classifier = classifier if have.layout.classifiers else "skip"', "",
           "tests/test_starts.py -k encoder"),
    Mutant("stages see other batches", "mmvid/plans/segment.py",
           'zlib.crc32(f"{config.seed}/{batches}".encode())', 'zlib.crc32(f"{config.seed}/{name}".encode())',
           f"{PLAN} same_batches"),
    Mutant("the seed of the run is left out", "mmvid/plans/segment.py",
           'zlib.crc32(f"{config.seed}/{batches}".encode())', "zlib.crc32(batches.encode())", f"{PLAN} seed"),
    Mutant("a teacher may start from weights for other inputs", "mmvid/plans/fit.py",
           "if start.segment and _inputs(", "if start.file and _inputs(", f"{PLAN} teacher"),
    Mutant("a teacher's classifier may be a random draw", "mmvid/plans/fit.py",
           "not own or bool(fresh(config, network, starts, heads))", "not own", f"{PLAN} teacher"),
    # FixMatch and CMPL.
    Mutant("semi: only confident clips count in the mean", "mmvid/methods/semi.py",
           '"pseudo": Term(outputs, values, there,', '"pseudo": Term(outputs, values, there & (values != 0),',
           "tests/test_semi.py"),
    Mutant("semi: a tie at the threshold is not confident", "mmvid/methods/semi.py",
           "chosen.argmax(-1), chosen.max(-1) >=", "chosen.argmax(-1), chosen.max(-1) >", "tests/test_semi.py"),
    Mutant("semi: both networks learn the primary one's labels", "mmvid/methods/semi.py",
           'shared = scheme in ("maximum", "average")', "shared = True", "tests/test_semi.py"),
    Mutant("semi: the other one comes first", "mmvid/methods/semi.py", "others < threshold", "others >= threshold",
           "tests/test_semi.py"),
    Mutant("semi: hidden labels weigh", "mmvid/methods/semi.py", "there, jnp.zeros(len(outputs)))",
           "there, jnp.full(len(outputs), -1.0))", "tests/test_semi_plan.py -k hidden"),
    Mutant("an offset is of frames", "mmvid/data/spans.py", "reach = round(s.offset * fps)",
           "reach = round(s.offset)", "tests/test_spans.py"),
    Mutant("a claim is taken twice", "mmvid/sweeps/claim.py", 'path.open("x", ', 'path.open("w", ',
           "tests/test_sweep.py"),
    # G-Blend.
    Mutant("blend: a head that got worse is rewarded", "mmvid/methods/gblend.py",
           "found.gain > 0, found.gain /", "found.gain != 0, np.abs(found.gain) /", "tests/test_gblend.py"),
    Mutant("blend: overfitting is not squared", "mmvid/methods/gblend.py", "least) ** 2", "least)",
           "tests/test_gblend.py"),
    Mutant("blend: the clamp has a unit", "mmvid/methods/gblend.py", "np.maximum(clamp, clamp_absolute / unit)",
           "np.maximum(clamp, clamp_absolute) / unit", "tests/test_gblend.py"),
    Mutant("blend: a probe may learn from what it is measured on", "mmvid/plans/arms.py",
           "if held & taught or fixed - taught", "if fixed - taught", f"{BLENDED} cannot_be"),
    Mutant("blend: networks may learn from what no probe has seen", "mmvid/plans/arms.py",
           "if strange := ids(run.config.split) - held - taught", "if strange := set()", f"{BLENDED} cannot_be"),
    Mutant("a softmax's labels are ranked by sigmoids", "mmvid/scores/file.py",
           ' and scores.meta.get("multi", "sigmoid") == "sigmoid"', "", "tests/test_scores.py -k ranked"),
    Mutant("blend: what is tested may be held out", "mmvid/plans/arms.py", "if both := held & ids(split)",
           "if both := set()", f"{BLENDED} cannot_be"),
    Mutant("blend: weights of a reused probe stay as they were", "mmvid/plans/blended.py",
           "all(note.get(name) == value for name, value in probe.basis(options).items())", "bool(note)",
           f"{BLENDED} every_kind"),
    Mutant("blend: a naive arm begins with a classifier of its own", "mmvid/plans/gblend.py",
           "return _begun(made, wholes, own) if own else made", "return made", f"{BLENDED} every_kind"),
    Mutant("blend: a super-epoch's copies begin as the first one's", "mmvid/plans/gblend.py",
           'zip(["", *names], pieces, shown)', 'zip(["", *names], [pieces[0]] * len(pieces), shown)',
           f"{BLENDED} moment"),
    Mutant("a file that says nothing proves all", "mmvid/weights/seen.py",
           'all(key in seen["splits"] for seen in telling)', "True", "tests/test_seen.py"),
    Mutant("the twin starts from the headline's weights", "mmvid/plans/mml.py",
           'Start("ce2", twin)', 'Start("ce", head)', f"{PLAN} equal_networks"),
    Mutant("batch statistics are not handed over", "mmvid/plans/starts.py",
           "    made = fit(params=params, stats=stats, layout=layout)\n",
           "    made = fit(params=params, stats=stats, layout=layout)[0], stats\n", f"{PLAN} first_convolution"),
    Mutant("a classifier of other classes is handed over", "mmvid/plans/starts.py",
           '"load" if same_heads(source, heads) else "skip"', '"load"', f"{PLAN} classes"),
    Mutant("only neighbours are compared for equal starts", "mmvid/plans/starts.py",
           "for b in there[i + 1 :]:\n                if _inputs_of",
           "for b in there[i + 2 :]:\n                if _inputs_of", f"{PLAN} equal_networks"),
    Mutant("the average is not handed over", "mmvid/network.py",
           'return state.ema or {"params"', 'return {"params"', f"{STEP} moving_average"),
    # The step.
    Mutant("the moving average leaves batch statistics out", "mmvid/step.py",
           'new = {"params": params, "stats": stats}', 'new = {"params": params, "stats": ema["stats"]}',
           f"{STEP} moving_average"),
    Mutant("the moving average's decay is swapped", "mmvid/step.py",
           "decay * e + (1 - decay) * x", "(1 - decay) * e + decay * x", f"{STEP} moving_average"),
    Mutant("microbatches do not carry batch statistics", "mmvid/step.py",
           "state.params, state, stats, micro, micro_key, counts",
           "state.params, state, state.stats, micro, micro_key, counts", f"{STEP} microbatch"),
    Mutant("microbatches count their own examples", "mmvid/step.py",
           "state.params, state, stats, micro, micro_key, counts",
           "state.params, state, stats, micro, micro_key", f"{STEP} microbatches_are"),
    Mutant("microbatches draw the same noise", "mmvid/step.py",
           "micro_key = jax.random.fold_in(key, index)", "micro_key = key", f"{STEP} noise"),
    Mutant("steps draw the same noise", "mmvid/step.py",
           "key = jax.random.fold_in(state.key, state.step)", "key = state.key", f"{STEP} noise"),
    Mutant("passes draw the same noise", "mmvid/passes.py",
           "pass_key = jax.random.fold_in(key, index)", "pass_key = key", f"{STEP} noise"),
    Mutant("reads draw the same noise", "mmvid/network.py",
           "read_key = jax.random.fold_in(key, index)", "read_key = key", f"{STEP} noise"),
    Mutant("networks draw the same noise", "mmvid/passes.py",
           "key=jax.random.fold_in(key, zlib.crc32(network.name.encode()))", "key=key", f"{STEP} noise"),
    Mutant("networks draw the same weights", "mmvid/network.py",
           "network_key = jax.random.fold_in(key, zlib.crc32(network.name.encode()))\n        params",
           "network_key = key\n        params", f"{STEP} noise"),
    Mutant("views of a pass are mixed up", "mmvid/passes.py",
           "starts = [sum(sizes[:i])", "starts = [sum(sizes[: max(i - 1, 0)])", f"{STEP} told_apart"),
    Mutant("black clips reach batch norm", "mmvid/passes.py",
           "    return jax.lax.cond(present.all(),", "    return x\n    return jax.lax.cond(present.all(),",
           f"{STEP} black"),
    Mutant("a batch without a modality changes its statistics", "mmvid/passes.py",
           "jnp.where(seen, new, old)", "new", f"{STEP} without_a_modality"),
    Mutant("what is frozen is lost after a step", "mmvid/step.py",
           "return new._replace(frozen=state.frozen), metrics", "return new, metrics", f"{STEP} donated"),
    Mutant("views and clips change places", "mmvid/infer.py",
           "logits.reshape(-1, views, logits.shape[-1])",
           "logits.reshape(views, -1, logits.shape[-1]).swapaxes(0, 1)", f"{STEP} predict"),
    Mutant("features of one view stand for all", "mmvid/infer.py",
           'result["features"].shape[-1]).mean(1)', 'result["features"].shape[-1])[:, 0]', f"{STEP} describe"),
    Mutant("outputs without a term pass", "mmvid/step.py",
           "        _check_taught(networks, terms)\n", "", f"{STEP} without_a_term"),
    # Terms, methods, losses and optimisers.
    Mutant("losses are averaged over outputs", "mmvid/terms.py",
           "(term.weight * means).sum()", "(term.weight * means).mean()", f"{STEP} masked"),
    Mutant("masked values count", "mmvid/terms.py",
           "jnp.where(mask, values, 0.0).sum(-1)", "values.sum(-1)", f"{METHODS} sliced"),
    Mutant("hits of absent outputs count", "mmvid/terms.py",
           '& batch[group]["present"][output]', "", f"{STEP} accuracy"),
    Mutant("frozen teachers are in training mode", "mmvid/methods/base.py",
           'Pass(weights="frozen", train=False)', 'Pass(weights="frozen")', f"{METHODS} teachers"),
    Mutant("teachers run in training mode, whatever their pass says", "mmvid/passes.py",
           'train=pass_.train,', "train=True,", f"{STEP} 'teacher or told_apart'"),
    Mutant("gradients reach soft labels", "mmvid/losses.py",
           "target = jax.lax.stop_gradient(label)", "target = label", f"{METHODS} peers"),
    Mutant("absent members teach", "mmvid/methods/mml.py",
           "return (others & present[None])[..., None]", "return (others & (present[None] | True))[..., None]",
           f"{METHODS} absent"),
    Mutant("masks depend on outputs", "mmvid/methods/mcl.py",
           "somebody = jnp.broadcast_to(present.any(0), winner.shape)", "somebody = present & winner",
           f"{METHODS} masks"),
    Mutant("weight decay on biases", "mmvid/optim.py",
           "else (2.0 * boost, 0.0)", "else (2.0 * boost, 1.0)", OPTIM),
    Mutant("weight decay on batch norm", "mmvid/optim.py",
           "return 1.0, 0.0", "return 1.0, 1.0", OPTIM),
    Mutant("decay before clipping", "mmvid/optim.py",
           "optax.chain(*clip, *core, grouped)", "optax.chain(*core, *clip, grouped)", OPTIM),
    Mutant("equal boundaries merge", "mmvid/optim.py",
           "spec.factor**times", "spec.factor", f"{OPTIM} -k boundary"),
    Mutant("one member alone has a first convolution", "mmvid/models/shared.py",
           "for name in self.members for path in self.module.first_convolutions",
           "for name in self.members[:1] for path in self.module.first_convolutions",
           "tests/test_plans.py -k 'freezes'"),
    # The loader.
    Mutant("resume skips a batch", "mmvid/run/feed.py",
           "(spec, start, segment.stop)", "(spec, start + 1, segment.stop)", "tests/test_loop.py"),
    Mutant("a segment's batches come from another seed", "mmvid/run/feed.py",
           "        segment.seed,\n", "        run.config.seed,\n", "tests/test_loop.py"),
    Mutant("who is started with others trains alone", "mmvid/run/processes.py",
           "own is not None and own.count > 1 else", "own is not None and own.count > 99 else",
           "tests/test_processes.py"),
    Mutant("the smallest axis is shared out", "mmvid/sharding.py",
           "max(fitting,", "min(fitting,", "tests/test_sharding.py"),
    Mutant("the loader starts a batch late", "mmvid/data/pipeline.py",
           "grain.MapDataset.range(start, stop)", "grain.MapDataset.range(start + 1, stop)", f"{LOADER} resuming"),
    Mutant("groups share their order", "mmvid/data/example.py",
           "[seed, epoch, 2 * salt]", "[seed, epoch, 0]", f"{LOADER} groups"),
    Mutant("every epoch has the first one's order", "mmvid/data/example.py",
           "epoch, place = divmod(position, n)", "epoch, place = 0, position % n", f"{LOADER} epoch"),
    Mutant("a clip is cut alike in every epoch", "mmvid/data/example.py",
           "[spec.seed, position, 2 * salt + 1]", "[spec.seed, row, 2 * salt + 1]", "tests/test_loop.py"),
    Mutant("processes read the same rows", "mmvid/data/pipeline.py",
           "range(index * local, (index + 1) * local)", "range(local)", f"{LOADER} processes"),
    Mutant("the last partial batch is dropped", "mmvid/data/pipeline.py",
           "batches = -(-len(spec.source) // spec.batch_size)", "batches = len(spec.source) // spec.batch_size",
           f"{LOADER} covers"),
    Mutant("padding counts", "mmvid/data/pipeline.py",
           '{"mask": np.bool_(False)}', '{"mask": np.bool_(True)}', f"{LOADER} 'covers or padding'"),
    Mutant("crops and clips change places", "mmvid/data/example.py",
           "for c in cuts], 1)", "for c in cuts], 0)", f"{LOADER} views"),
    # Sound and boxes.
    Mutant("boxes are mirrored in no group", "mmvid/data/cut.py",
           "if how.window(stream).flip:", "if False:", "tests/test_cut.py"),
    Mutant("a left hand stays one in the mirror", "mmvid/operations.py",
           "xp.where(sided, 3 - x[..., 6], x[..., 6])", "x[..., 6]", "tests/test_cut.py"),
    Mutant("streams without a geometry group are mirrored", "mmvid/operations.py",
           "if not OPERATIONS[name].moves]", "]", "tests/test_groups.py"),
    # Strong views.
    Mutant("motion does not turn with its picture", "mmvid/randaugment.py",
           "_turned(moved, rows, columns) if how.vectors", "moved if how.vectors",
           "tests/test_randaugment.py -k motion"),
    Mutant("motion turns the wrong way", "mmvid/strong.py",
           "np.linalg.inv([[a, b], [d, e]])", "[[a, b], [d, e]]", "tests/test_randaugment.py -k motion"),
    Mutant("moves come in the wrong order", "mmvid/randaugment.py",
           "zip(rows[::-1], columns[::-1])", "zip(rows, columns)", "tests/test_randaugment.py -k sequence"),
    Mutant("Equalize counts all frames together", "mmvid/randaugment.py",
           "counts, weight = _counts(x), ", "counts, weight = 0 * _counts(x) + _counts(x).sum(0)[None], ",
           "tests/test_randaugment.py -k pils"),
    Mutant("boxes shorten their clip", "mmvid/data/fields.py",
           '("boxes",),\n        stored.whole,', '("boxes",),\n        stored.kept,',
           "tests/test_cut.py tests/test_fields.py"),
    Mutant("sound begins when its track does", "mmvid/data/sound.py",
           '(first - record["audio_start_s"])', "first", "tests/test_sound.py"),
    Mutant("sound around a frame begins when its track does", "mmvid/data/sound.py",
           'indices) - record["audio_start_s"])', "indices))", "tests/test_sound.py"),
    Mutant("a segment's ends are not reflected", "mmvid/data/sound.py",
           "within = np.abs(", "within = (", "tests/test_sound.py"),
    Mutant("a codec is heard before it has settled", "mmvid/data/media/track.py",
           "PREROLL = 6.0", "PREROLL = 0.0", "tests/test_track.py"),
    Mutant("a search is believed", "mmvid/data/media/track.py",
           "(packet.pts, packet.size) != _key(table, at)", "False", "tests/test_track.py"),
    Mutant("resampled sound begins where the search led", "mmvid/data/media/audio.py",
           "place - place % (own // math.gcd(own, rate))", "place", "tests/test_track.py"),
    Mutant("masks of time are of pitch", "mmvid/operations.py",
           '"logmel": (-3, -2)', '"logmel": (-2, -3)', "tests/test_prepare.py"),
    Mutant("the last boxes of many stay", "mmvid/data/stored.py",
           "np.argsort(-rows[:, 5]", "np.argsort(rows[:, 5]", "tests/test_fields.py"),
    Mutant("detections go by number, not by the clock", "mmvid/data/media/record.py",
           "timeline.numbers(item, frames, rate)", "timeline.numbers(item, frames, None)",
           "tests/test_detections.py -k clock"),
    Mutant("a left hand is of unknown side", "mmvid/data/media/hand_objects.py",
           "(found.get(5, 0) + 1,", "(found.get(5, 0),", "tests/test_detections.py -k sides"),
    Mutant("the power spectrum is an amplitude", "mmvid/prepare.py",
           "return spectrum.real**2 + spectrum.imag**2", "return abs(spectrum)", "tests/test_prepare.py"),
    Mutant("absent modalities are called present", "mmvid/data/example.py",
           '"present": {stream: np.bool_(n > 0)', '"present": {stream: np.bool_(True)', f"{LOADER} missing"),
    Mutant("a subset's clips are logged by their own rows", "mmvid/data/example.py",
           'record.get("row", row)', "row", "tests/test_subsets.py -k whole"),
    Mutant("a subset depends on the order of the records", "mmvid/data/subsets.py",
           "(begin + clip.encode())", "(begin + b'%d' % some.index(clip))", "tests/test_subsets.py -k order"),
    Mutant("streams whose turn it is not are decoded", "mmvid/data/example.py",
           "n if stream in shown else 0", "n", "tests/test_groups.py -k read"),
    Mutant("groups of a batch read in another turn", "mmvid/data/groups.py",
           "[seed, step, *name.encode()]", "[seed, step, id(self), *name.encode()]",
           "tests/test_groups.py -k read"),
    # Scores.
    Mutant("rows stay in the batches' order", "mmvid/scores/evaluate.py",
           'order[np.argsort(whole["row"][order], kind="stable")]', "order", SCORES),
    Mutant("one view stands for all", "mmvid/scores/numbers.py",
           "logits.astype(np.float64).mean(1)", "logits.astype(np.float64)[:, 0]", SCORES),
    Mutant("an absent output is summed", "mmvid/scores/file.py",
           "own = np.where(scores.present[output][:, None, None], logits, 0)", "own = logits", SCORES),
)  # fmt: skip


def copied(tree: pathlib.Path) -> pathlib.Path:
    """What the tests need, in ``tree``; compiled programs are shared with the project's own."""
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (tree / ".cache").symlink_to(ROOT / ".cache")
    return tree


def check(tree: pathlib.Path) -> None:
    """Exits where a mistake cannot be planted: its place must be found exactly once."""
    found = {m: (tree / m.file).read_text(encoding="utf-8").count(m.old) for m in MUTANTS}
    if wrong := [f"{m.name}: found {n} times in {m.file}: {m.old!r}" for m, n in found.items() if n != 1]:
        sys.exit("\n".join(["the code has changed; write these mutants anew:", *wrong]))


def failures(tree: pathlib.Path, tests: str) -> str:
    """What pytest says of tests that fail; '' where none does. Exits where they could not be run."""
    # In one process: of two, the one that is stopped after the other's failure makes it 2, an interruption.
    line = f"{sys.executable} -m pytest -n0 -x -q -p no:cacheprovider {tests}"
    done = subprocess.run(line, shell=True, cwd=tree, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                          capture_output=True, text=True)  # fmt: skip
    said = f"{line} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    if done.returncode not in (0, 1):
        sys.exit(said)
    return said if done.returncode else ""


def unharmed(mutants: list[Mutant]) -> str:
    """pytest's arguments for all their tests at once."""
    files, words = set(), set()
    for mutant in mutants:
        names, _, word = mutant.tests.partition(" -k ")
        files |= set(names.split())
        words |= {word.strip("'")} if word else {pathlib.Path(name).stem for name in names.split()}
    return f'{" ".join(sorted(files))} -k "{" or ".join(sorted(words))}"'


def killed(tree: pathlib.Path, mutant: Mutant) -> bool:
    """Whether the tests notice the mistake."""
    path = tree / mutant.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return bool(failures(tree, mutant.tests))
    finally:
        path.write_text(whole, encoding="utf-8")


def main(words: list[str]) -> int:
    """Prints killed or survived for each chosen mutant and the sum; 1 where one survived."""
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    if not chosen:
        sys.exit(f"no mutant's name holds one of {words}")
    with tempfile.TemporaryDirectory() as place:
        tree = copied(pathlib.Path(place))
        check(tree)
        compileall.compile_dir(tree / "mmvid", quiet=1)
        if said := failures(tree, unharmed(chosen)):
            sys.exit(f"the tests fail as they are, so that they tell nothing:\n{said}")
        dead = 0
        for mutant in chosen:
            noticed = killed(tree, mutant)
            dead += noticed
            print(f"{'killed' if noticed else 'SURVIVED':9}{mutant.name}", flush=True)
    print(f"killed {dead} of {len(chosen)}")
    return int(dead < len(chosen))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
