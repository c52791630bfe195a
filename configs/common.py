"""The defaults, from which every experiment's file starts and changes what it must.

How clips are sampled, cut, loaded and scored, and what a method does, is specified in the package, with its
defaults; all other defaults are here.

Durations are texts: steps ('900'), '30 epochs' or, inside a segment, '10%' of it.
"""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from data_prep.tabletop.sizes import SIZES
from mmvid import methods as methods_lib
from mmvid.data.augment import Augment
from mmvid.data.workers import Loader
from mmvid.run.evaluation import Evaluation
from mmvid.streams import FIELDS, Sampling, Stream


def schedule(lr: float, **changes) -> ConfigDict:
    """Makes a learning rate's schedule. ``lr`` is its peak, ``kind`` one of 'step', 'cosine', 'linear' and
    'constant'; ``warmup`` is the duration of a linear rise from 0."""
    spec = dict(kind="cosine", lr=lr, warmup="0", boundaries=(), factor=0.1)
    return ConfigDict(spec | changes, convert_dict=False)


def stream(modality: str, *, form: str = "frames", **sampling) -> ConfigDict:
    """Makes a stream; ``sampling`` are fields of `Sampling`: ``frames``, ``kind``, ``dense_length``, ``offset``.

    Two streams with the same sampling read the same frames; sound is read over the time that these span.
    """
    made = Stream("", modality, Sampling(**sampling), form)
    sampled = made.sampling._asdict()
    return ConfigDict(dict(modality=made.modality, form=made.form, geometry=made.geometry, sampling=sampled))


def _options() -> ConfigDict:
    """Makes the options of one network; what is None there is as `model_options` says for all of them."""
    # Made anew for each network: a placeholder that stands in two places is one value.
    types = dict(dropout=float, drop_path=float, dtype=str, remat=bool, frozen_bn=str)
    types |= dict(width=int, stages=tuple, share=float)
    return ConfigDict({name: placeholder(kind) for name, kind in types.items()})


def _optimizer() -> dict:
    """Returns the entries of an optimizer with their defaults."""
    # name: sgd, adam, adamw or adagrad, as PyTorch's. groups: "tsm" (rates and decays by kind of parameter),
    # "uniform" (decay for kernels alone), "all_but_norms" (SlowFast's code) or "all" (PyTorch's default: decay for
    # everything).
    return dict(name="sgd", momentum=0.9, nesterov=False, weight_decay=5e-4, clip=20.0, groups="tsm")


def _own(common: Mapping) -> ConfigDict:
    """Returns the same entries, each None: a network has the run's values but for those that it sets itself."""
    return ConfigDict({name: placeholder(type(value)) for name, value in common.items()})


def network(model: str, *reads: str, weights: str | dict[str, str] = "", **options) -> ConfigDict:
    """Makes a network that reads one stream, or each of several with shared weights.

    Its ``optimizer`` and ``schedule`` are those of the run, except for what is set here:
    --config.networks.flow.schedule.lr=0.01 changes flow's rate alone.

    ``weights`` is a .safetensors, .pth or (Caffe2's) .pkl file to start from, for instance torchvision's
    resnet50; for a network that reads several streams at once it may be {stream: file}. In a file that a run
    here has written, a network is named by 'path#network', and the part that reads one of its streams by
    'path#network.stream'. 'inflated:FILE' gives an image network's to one that convolves over time.
    ``first_conv_lr`` multiplies the first convolution's learning rate: 1 is MML's code, 5 is TSM's
    for flow, 0 freezes it as it was handed over.
    """
    reads, own = tuple((read,) for read in reads), _options()
    own.update(options)
    learning = dict(optimizer=_own(_optimizer()), schedule=_own(schedule(0.0)))
    return ConfigDict(dict(model=model, reads=reads, weights=weights, first_conv_lr=1.0, options=own, **learning))


def shared(model: str, *reads: str, share: float = 0.7, **options) -> ConfigDict:
    """Makes networks of one architecture, one for each stream, that share features after the stem with
    probability ``share`` (CMCL's feature sharing). They count as one network: their gradients are clipped
    together."""
    spec = network(model, *reads, share=share, **options)
    spec.reads = (tuple(reads),)
    return spec


def fusion(*, weights: str | dict[str, str] = "", options: dict | None = None, **encoders) -> ConfigDict:
    """Makes a network that reads several streams in one forward pass, as in G-Blend: fusion(audio=MODEL,
    rgb=(MODEL, dict(width=32))).

    Its outputs are those of a classifier of each stream, 'network.audio' and 'network.rgb', and of one of all
    streams together, 'network.joint'. ``options`` are the fusion's own, as `build_model` explains them: its
    ``joint`` classifier, and whether it has ``unimodal`` ones; without these it has one output, 'network'.
    """
    spec = network("fusion", *encoders, weights=weights, encoders=encoders, **(options or {}))
    spec.reads = (tuple(encoders),)
    return spec


def methods() -> ConfigDict:
    """Makes the entry of the method: its ``name``, its ``title`` ('' stands for the name in capitals) and, under
    their names, the options of all methods that have some."""
    options = {name: methods_lib.options(name) for name in methods_lib.METHODS}
    made = ConfigDict(dict(name="mml", title="") | {name: own for name, own in options.items() if own})
    made.generalized_distillation.teacher = "depth"  # what outputs there are, only a configuration knows
    return made


# The label spaces of Tabletop's views; 'verb' has one, which the dataset tells.
TABLETOP_VIEWS = {
    "verb": {},
    "epic": {"verb": (20, "single"), "noun": (8, "single")},
    "multilabel": {"action": (20, "multi")},
}


def use_tabletop(c: ConfigDict, size: str = "small", view: str = "verb") -> None:
    """Sets ``c`` up for the embedded dataset, which is made on first use and has 48 pixels a side.

    A clip's labels are a verb in the ``view`` 'verb', a verb and a noun in 'epic', and two verbs in
    'multilabel'; each view has a folder of its own. Raises ValueError for another view.
    """
    if view not in TABLETOP_VIEWS:
        raise ValueError(f"Tabletop has no view {view!r}; choose one of {sorted(TABLETOP_VIEWS)}")
    seen = () if view == "verb" else ("--view", view)
    c.dataset.path = "-".join(["data/tabletop", size, *seen[1:]])
    which = ("--dataset", "tabletop", "--size", size, *seen)
    c.dataset.command = ("data_prep.build", "--out", c.dataset.path, *which)
    # Before, few verbs sounded, and boxes were the renderer's own, without an error.
    c.dataset.since.update(dict(audio=3, boxes=3))
    # For what is asked before they are made.
    c.dataset.clips.update(SIZES[size])
    c.heads.update(TABLETOP_VIEWS[view])
    c.size = 48
    c.augment.scales = (1.0, 0.875, 0.75)
    c.model_options.dropout = 0.3
    c.schedule = schedule(0.05, warmup="20")
    c.optimizer.update(dict(nesterov=True, clip=5.0))
    c.evaluation.splits = ("test", "unseen")
    # Frames are not enlarged before the crop: the camera frames the scene already.
    c.evaluation.resize = 48


def _data() -> ConfigDict:
    """Makes the entries that say which clips there are, and who learns from which."""
    c = ConfigDict()
    # Where the clips are. `command`: how to make them, for datasets that need no download. `since`: the edition of
    # what the command makes from which on a field is what the networks here mean by it, {"boxes": 3}. `clips`: how
    # many a published dataset has, {split: number}, for what is asked before it is there.
    c.dataset = ConfigDict(dict(path="", command=(), since=ConfigDict(), clips=ConfigDict()))
    # Further datasets that a plan's groups name: {name: dict(path="..", command=(..))}, and perhaps `clips`.
    c.datasets = ConfigDict()
    # Splits made by rule from others, usable wherever a split is named: {name: dict(of="train", share=.08 or
    # per_class=5, without="another", by="class" or "frequency", head="verb", seed=0)} (mmvid/data/rules.py).
    # dataset="extra" takes them from a further dataset; a group that shows such a subset names its dataset, too.
    c.subsets = ConfigDict()
    c.split = "train"  # what is learnt from: a split or a subset
    # The plan 'distill': teachers learn from `split` and are weighed on `held`, which none of them sees. Student
    # and baseline learn from config.split, or, where student_sees_held is False, from the teachers' split, too.
    # `alone` are teachers with a segment of their own, {network: dict(steps="750", batch_size=64)}.
    c.teachers = ConfigDict(dict(split="", held="", student_sees_held=True, alone=ConfigDict()))
    # Further students of that plan, {segment: {option of the method, or title: value}}, beside the run's own.
    c.students = ConfigDict()
    # The plan 'gblend': probes learn from `split` and are measured on `held` (V), clips that `split` lacks, and on
    # `fixed` (T'), some that it has, `measures` times. All else learns from config.split: the same, or with V.
    # `super_epochs`: durations, of which the last one repeats; () for offline alone. `frozen_trunk`: how long a
    # new classifier learns on the encoders of each super-epoch and on those of naive training from the same
    # snapshot, its probe's, where it has a probe; "" for not at all. `copies`: {network: {its stream or "joint":
    # network}}. `arms`: {segment: dict(network=.., title=.., options of the method, pretrained=True,
    # checkpoint="best")}; tables compare with the one that is called 'equal'. `published`: a paper's weights,
    # ((source, {stream or "joint": text}), ..), which the report shows beside those found for a network of the
    # same parts; a run that is given them says whose they are.
    c.blend = ConfigDict(dict(held="", split="", fixed="", measures=1, super_epochs=(), frozen_trunk=""))
    c.blend.update(dict(copies=ConfigDict(), arms=ConfigDict(), published=()))
    # The plan 'semi': `labelled` and `unlabelled` are splits or subsets; the second one may be of a further
    # `dataset`, and of its clips no label teaches. A step shows so many of each. `weak` and `strong` are how the
    # unlabelled ones are cut, twice. `networks`: those of the run's own method, the primary one first; () for all,
    # from that of the headline on. `arms`: {segment: dict(networks=("flow",), method="single", "fixmatch" or
    # "cmpl", title=.., labelled=SUBSET, options of the method)}; tables compare with the one that is called
    # 'fixmatch'. For figures alone, every arm is scored at its end on the split `followed`, and arms with the
    # run's own labels on the first test split once more with every k-th frame of a clip alone, k of `thinned`.
    views = {name: ConfigDict(Augment(scales=(1.0,))._asdict()) for name in ("weak", "strong")}
    c.semi = ConfigDict(dict(labelled="labelled", unlabelled="unlabelled", dataset="dataset", **views))
    c.semi.update(dict(networks=(), followed="", thinned=(), labelled_batch=4, unlabelled_batch=12))
    c.semi.arms = ConfigDict()
    # The plan 'grid': {segment: dict(networks=("rgb", "flow"), method="mml", starts={"rgb": "ce.rgb", "flow":
    # "stills"}, title=.., steps= an entry of `steps` or a duration, batches= a name that segments of equal batches
    # share, options of the method)}. "stills_2" are stills learnt another time. `last` is the run's own. `tables`:
    # what the report prints of them, ((title, (column, ..), ((row, ((segment, output, published), ..)), ..)), ..).
    # Of ensembles, with members (title, segment, output): `pairs` ((title, row members, column members, printed),
    # ..); `ranks` (title, ((part, members, published), ..)), sums of places over one member of each part; `sums`
    # (title, ((row, ((segment, output), ..), printed), ..)). `protocols` (title, ((row, segment, output, printed),
    # ..)) of an evaluation.protocol='T10': MML's table 10.
    c.grid = ConfigDict(dict(segments=ConfigDict(), last="", tables=(), pairs=(), ranks=(), sums=(), protocols=()))
    # Generated images that stand in for ImageNet; steps="0" leaves them out.
    c.stills = ConfigDict(dict(path="", command=(), steps="0", batch_size=64))
    c.stills.schedule = schedule(0.05, warmup="20")
    # Shares of the training clips that are to lack a modality, to see what a method makes of it.
    c.missing = ConfigDict(dict.fromkeys(FIELDS, 0.0))
    # The label spaces, where they are known before the data are there: {name: (classes, kind)}. Where this is
    # empty, the dataset says them.
    c.heads = ConfigDict()
    return c


def _networks() -> ConfigDict:
    """Makes the entries of what is trained, and of what it sees."""
    c = ConfigDict()
    c.streams = ConfigDict()
    c.networks = ConfigDict()
    # On a command line alone, --config.without=A,B: networks to leave out, with the streams that only they read
    # and what is said of them elsewhere, for data that lack a modality (`configuration.overridden`).
    c.without = ""
    # For every network; its own `options` win. A width of None is the model's own.
    c.model_options = ConfigDict(
        dict(dropout=0.0, dtype="float32", remat=False, frozen_bn="none", width=placeholder(int))
    )
    c.size = 48  # pixels a side that networks see
    c.augment = ConfigDict(Augment()._asdict())
    return c


def _training() -> ConfigDict:
    """Makes the entries of how it is trained."""
    c = ConfigDict()
    c.batch_size = 16
    c.accumulate = 1  # microbatches a step
    c.ema = 0.0  # decay of the weights' moving average; 0: none
    # `fsdp`: how many devices share the parameters and the optimisers' state, each a part of every large array; 1:
    # each device has all. It changes nothing but memory and speed, and a run may go on with another number.
    c.mesh = ConfigDict(dict(fsdp=1))
    c.steps = ConfigDict(dict(ce="900", ml="500", method="500"))
    c.optimizer = ConfigDict(_optimizer())  # of every network, unless its own `optimizer` says otherwise
    c.schedule = schedule(0.025)  # as `optimizer`
    return c


def _keeping() -> ConfigDict:
    """Makes the entries of how a run is scored, saved and shown."""
    c = ConfigDict()
    c.evaluation = ConfigDict(Evaluation()._asdict())
    c.save_every = "20%"
    c.log_every = 10
    # Workdirs of other runs, 'RUN,RUN': a segment that one of them has trained to its end, made of the
    # same in all that changes weights, is copied from there.
    c.reuse = ""
    c.loader = ConfigDict(Loader()._asdict())
    c.published = ()  # rows (what, {output: text}) of the paper, which the report prints too
    c.published_neighbours = ()  # rows (what, {k: text})
    return c


def get_config() -> ConfigDict:
    """Returns the defaults. They name no data and no networks, which the experiment's file adds."""
    c = ConfigDict()
    c.seed = 0
    c.headline = "rgb"  # the output whose score names the run
    c.twin = ""  # the second network of the headline's modality, where a plan wants one
    c.plan = "reduced"
    c.compare = ()  # the methods of the plan 'compare', in order; the last one is the run's own
    c.method = methods()
    for part in (_data(), _networks(), _training(), _keeping()):
        for name in part:
            c[name] = part[name]
    return c.lock()


def of_variant(file: str, variants: Mapping[str, Callable], variant: str) -> ConfigDict:
    """Returns the defaults as ``variants[variant](config)`` changes them. Raises ValueError with the list of
    variants for one that ``file`` does not have."""
    if variant not in variants:
        known = sorted(name for name in variants if name)
        raise ValueError(f"{file} has no variant {variant!r}; choose one of {', '.join(known)} or none")
    config = get_config().unlock()
    variants[variant](config)
    return config.lock()
