"""The worker of benchmarks.device that measures mmvid: joint steps, peaks, lowerings, TV-L1, parity."""

import functools
import math
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import lowerings
from benchmarks.workers import median_ms, one_line, serve
from mmvid import losses, network, optim, sharding, step, streams
from mmvid.data import flow
from mmvid.methods import METHODS
from mmvid.models import build_model
from mmvid.network import Network
from mmvid.prepare import prepare
from mmvid.streams import Head, Sampling, Stream

# configs/mml.py's: momentum, decay, clipping and TSM's parameter groups.
SGD = SimpleNamespace(name="sgd", momentum=0.9, nesterov=False, weight_decay=5e-4, clip=20.0, groups="tsm")
CLASSES = 174


def _streams(frames: int) -> dict[str, Stream]:
    sampling = Sampling("uniform", frames)
    return {"rgb": Stream("rgb", "rgb", sampling), "flow": Stream("flow", "flow", sampling, "stack5")}


def batch_of(size: int, frames: int, side: int) -> dict:
    """Random uint8 clips of both streams."""
    rng = np.random.default_rng(0)
    draw = lambda c: rng.integers(0, 256, (size, frames, side, side, c), dtype=np.uint8)  # noqa: E731
    return {
        "main": {
            "inputs": {"train": {"rgb": draw(3), "flow": draw(10)}},
            "label": {"action": (np.arange(size) % CLASSES).astype(np.int32)},
            "mask": np.ones(size, bool),
            "present": {name: np.ones(size, bool) for name in ("rgb", "flow")},
            "id": np.arange(size, dtype=np.int32),
        }
    }


def _model(spec: dict, name: str, dtype: str):
    channels = streams.in_channels(_streams(spec["frames"])[name])
    return build_model(
        spec["model"], heads={"action": Head(CLASSES)}, in_channels=channels, dtype=dtype, **spec["options"]
    )


def compiled_step(spec: dict, dtype: str, names: tuple[str, ...]):
    """(compiled step, state, batch, seconds to trace, seconds to compile): the trainer's own step."""
    networks = tuple(Network(name, _model(spec, name, dtype), ((name,),)) for name in names)
    inputs, heads = _streams(spec["frames"]), {"action": Head(CLASSES)}
    method = METHODS["mml" if len(names) > 1 else "single"](names, heads)
    lr = dict.fromkeys(names, optax.constant_schedule(0.01))
    tx = {n.name: optim.make(SGD, fresh=n.model.classifiers) for n in networks}
    mesh = sharding.make_mesh(jax.devices()[:1])

    def start(key):
        params, stats = network.init_params(networks, inputs, spec["side"], key)
        return network.init_state(networks, params, stats, method, tx, key)

    state = jax.jit(start, out_shardings=sharding.replicated(mesh))(jax.random.key(0))
    batch = sharding.place(mesh, batch_of(spec["batch"], spec["frames"], spec["side"]))
    run = step.jit_train_step(step.make_train_step(networks, inputs, method, tx, lr), sharding.replicated(mesh))
    began = time.perf_counter()
    # Once more around the trainer's jit: only what is lowered by hand tells its cost.
    lowered = jax.jit(run, donate_argnums=0).lower(state, batch)
    traced = time.perf_counter()
    program = lowered.compile()
    return program, state, batch, traced - began, time.perf_counter() - traced


def compiled_logits(spec: dict, dtype: str):
    """(jitted logits of the RGB network, their arguments)."""
    model = _model(spec, "rgb", dtype)
    shape = spec["batch"], spec["frames"], spec["side"], spec["side"], 3
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    params, stats = jax.jit(model.init)(jax.random.key(0), x[:1])
    return jax.jit(lambda p, s, x: model.apply(p, s, x, train=False, key=None)[0]["logits"]), (params, stats, x)


def joint(spec: dict, dtype: str, names: list[str], seconds: float) -> list[dict]:
    """A step of the networks ``names`` together: time, memory, compile time, FLOPs and bytes."""
    program, state, batch, trace_s, compile_s = compiled_step(spec, dtype, tuple(names))
    now = {"state": state, "metrics": {}}
    del state  # donated by the first step

    def once():
        now["state"], now["metrics"] = program(now["state"], batch)

    ms = median_ms(once, lambda: jax.block_until_ready(now["state"].params), seconds=seconds)
    frames, side = spec["frames"], spec["side"]
    conv_flops = sum(
        lowerings.train_flops(
            lowerings.shapes_of(
                _model(spec, name, dtype), (spec["batch"], frames, side, side, streams.in_channels(stream))
            )
        )
        for name, stream in _streams(frames).items()
        if name in names
    )
    return [
        {
            "ms": ms,
            "clips_per_s": 1e3 * spec["batch"] / ms,
            "peak_gb": _peak_gb(program),
            "trace_s": trace_s,
            "compile_s": compile_s,
            "conv_flops": conv_flops,
            "loss": sum(float(value) for name, value in now["metrics"].items() if name.endswith(("/ce", "/kl"))),
        }
        | _cost(program)
    ]


def _peak_gb(program) -> float | None:
    """Arguments, results and temporaries that live at once, by the compiler's own account."""
    memory = program.memory_analysis()
    if memory is None:
        return None
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return (used - memory.alias_size_in_bytes) / 1e9


def _cost(program) -> dict:
    """XLA's count of the optimised program; cuDNN's calls may be missing among its FLOPs."""
    cost = program.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    return {"xla_flops": cost.get("flops"), "xla_bytes": cost.get("bytes accessed")}


# ---------------------------------------------------------------------------- the device
def about() -> list[dict]:
    """What it runs on."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return [
        {
            "platform": device.platform,
            "device": device.device_kind,
            "jax": jax.__version__,
            "jaxlib": metadata.version("jaxlib"),
            "runtime": device.client.platform_version.splitlines()[0],
            "memory_limit_gb": stats.get("bytes_limit", 0) / 1e9 or None,
        }
    ]


def peaks(size: int, copied: int, seconds: float) -> list[dict]:
    """Measured: TFLOP/s of square products of ``size``, GB/s of reading and writing ``copied`` bytes."""
    rows = []
    for name, dtype, precision in (
        ("bfloat16", "bfloat16", None),
        ("float32", "float32", None),
        ("float32 highest", "float32", "highest"),
    ):
        x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
        ms = _ms(jax.jit(functools.partial(jnp.matmul, precision=precision)), (x, x), seconds)
        rows.append({"what": f"matmul {name}", "tflop_per_s": 2 * size**3 / ms / 1e9, "ms": ms, "size": size})
    x = jnp.zeros(copied // 4, jnp.float32)
    ms = _ms(jax.jit(lambda x: x + 1), (x,), seconds)
    return [*rows, {"what": "copy", "gb_per_s": 2 * x.nbytes / ms / 1e6, "ms": ms, "bytes": x.nbytes}]


def _ms(run, arguments, seconds: float) -> float:
    last = {}

    def once():
        last["result"] = run(*arguments)

    return median_ms(once, lambda: jax.block_until_ready(last["result"]), seconds=seconds)


# ---------------------------------------------------------------------------- convolutions
def shapes(specs: list[dict]) -> list[dict]:
    """The distinct convolutions of the RGB networks, the most work (FLOPs times uses) first."""
    work, uses, models = {}, {}, {}
    for spec in specs:
        x = (spec["batch"], spec["frames"], spec["side"], spec["side"], 3)
        for shape in lowerings.shapes_of(_model(spec, "rgb", "bfloat16"), x):
            work[shape] = work.get(shape, 0) + lowerings.flops(shape)
            uses[shape] = uses.get(shape, 0) + 1
            models.setdefault(shape, spec["model"])
    found = sorted(work, key=work.get, reverse=True)
    return [{"shape": shape, "uses": uses[shape], "model": models[shape]} for shape in found]


def lower(shapes: list, dtype: str, seconds: float) -> list[dict]:
    """Each candidate of each shape, forward and both gradients: {shape, ms: {name: ms}, errors}."""
    jobs = [lowerings.Shape(tuple(x), tuple(k), tuple(s), p) for x, k, s, p in shapes]
    with ThreadPoolExecutor(8) as pool:
        waiting = [
            (shape, name, pool.submit(_compile_way, shape, way, dtype))
            for shape in jobs
            for name, way in lowerings.candidates(shape).items()
        ]
        # Timed only after all are compiled: XLA tries its algorithms on the device meanwhile.
        done = [(shape, name, _result(future)) for shape, name, future in waiting]
    return [_time_shape(shape, dtype, {n: r for s, n, r in done if s == shape}, seconds) for shape in jobs]


def _compile_way(shape, way, dtype: str):
    abstract = jax.eval_shape(lambda: lowerings.arrays(shape, dtype))
    return jax.jit(lowerings.with_gradients(way)).lower(*abstract).compile()


def _result(future):
    try:
        return future.result()
    except Exception as error:
        return error


def _time_shape(shape, dtype: str, programs: dict, seconds: float) -> dict:
    """One row: milliseconds, and how far each result is from the convolution's."""
    arguments = jax.jit(lambda: lowerings.arrays(shape, dtype))()
    row = {
        "shape": str(shape),
        "dtype": dtype,
        "gflop": 3 * lowerings.flops(shape) / 1e9,
        "ms": {},
        "differs": {},
        "errors": {},
    }
    reference = None
    for name in ("conv", *(n for n in programs if n != "conv")):
        try:
            if isinstance(programs[name], Exception):
                raise programs[name]
            results = programs[name](*arguments)
            reference = results if name == "conv" else reference
            if reference is not None:
                row["differs"][name] = max(map(_distance, results, reference))
            del results
            row["ms"][name] = _ms(programs[name], arguments, seconds)
        except Exception as error:
            row["errors"][name] = one_line(error)
    others = {name: ms for name, ms in row["ms"].items() if name != "mmvid"}
    row["best"] = min(others, key=others.get) if others else None
    if row["best"] and "mmvid" in row["ms"]:
        row["gain"] = row["ms"]["mmvid"] / others[row["best"]]
    return row


@jax.jit
def _relative(a, b):
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.linalg.norm((a - b).ravel()) / jnp.maximum(jnp.linalg.norm(b.ravel()), 1e-30)


def _distance(a, b) -> float:
    return float(_relative(a, b))


# ---------------------------------------------------------------------------- flow
def tvl1(pairs: int, height: int, width: int, seconds: float) -> list[dict]:
    """Pairs a second of the default preset: ``clip_flow`` from and to the host, and the device alone."""
    frames = _texture(pairs + 1, height, width)
    host = median_ms(lambda: flow.clip_flow(frames, batch_size=pairs), lambda: None, seconds=seconds)
    arguments = jnp.asarray(frames[:-1]), jnp.asarray(frames[1:])
    device = _ms(flow.tvl1, arguments, seconds)
    return [
        {
            "batch": pairs,
            "height": height,
            "width": width,
            "clip_flow_pairs_per_s": 1e3 * pairs / host,
            "device_pairs_per_s": 1e3 * pairs / device,
            "clip_flow_ms": host,
            "device_ms": device,
        }
    ]


def _texture(frames: int, height: int, width: int) -> np.ndarray:
    """A smooth random scene that moves by a pixel a frame: uint8 [frames, H, W]."""
    scene = np.random.default_rng(0).normal(size=(height, width))
    for axis in (0, 1):
        scene = sum(np.roll(scene, shift, axis) for shift in range(-3, 4))
    scene = np.uint8(255 * (scene - scene.min()) / np.ptp(scene))
    return np.stack([np.roll(scene, i, 1) for i in range(frames)])


# ---------------------------------------------------------------------------- parity
def parity(spec: dict, batch: int) -> list[dict]:
    """The RGB network in bfloat16 against real float32: the same weights and clips, in training mode."""
    stream = _streams(spec["frames"])["rgb"]
    clips = batch_of(batch, spec["frames"], spec["side"])["main"]
    x, label = prepare(stream, clips["inputs"]["train"]["rgb"]), clips["label"]["action"]
    params, stats = jax.jit(_model(spec, "rgb", "float32").init)(jax.random.key(0), x[:1])
    with jax.default_matmul_precision("highest"):
        exact = _logits_and_gradient(spec, "float32", params, stats, x, label)
    found = _logits_and_gradient(spec, "bfloat16", params, stats, x, label)
    leaves = [jax.tree.leaves(gradient) for _, gradient in (found, exact)]
    return [
        {
            "batch": batch,
            "logits_relative": _distance(found[0], exact[0]),
            "gradient_cosine": _cosine(*leaves),
            "least_leaf_cosine": min(_cosine([a], [b]) for a, b in zip(*leaves)),
        }
    ]


def _logits_and_gradient(spec, dtype, params, stats, x, label):
    model = _model(spec, "rgb", dtype)

    def loss(params):
        result, _ = model.apply(params, stats, x, train=True, key=jax.random.key(0))
        logits = result["logits"]["action"]
        return losses.softmax_cross_entropy(logits, label).mean(), logits

    run = jax.value_and_grad(loss, has_aux=True)
    try:
        # Which algorithm is fastest does not matter here, and finding out takes half a minute.
        (_, logits), gradient = jax.jit(run, compiler_options={"xla_gpu_autotune_level": 0})(params)
        jax.block_until_ready(gradient)
    except jax.errors.JaxRuntimeError:
        (_, logits), gradient = jax.jit(run)(params)
    return logits, gradient


def _cosine(a: list, b: list) -> float:
    """Of two lists of arrays, each taken as one vector."""
    a, b = ([np.asarray(v, np.float64) for v in tree] for tree in (a, b))
    dot, aa, bb = (sum(float((u * v).sum()) for u, v in zip(p, q)) for p, q in ((a, b), (a, a), (b, b)))
    return dot / max(math.sqrt(aa * bb), 1e-30)


if __name__ == "__main__":
    serve(
        {
            "about": about,
            "joint": joint,
            "peaks": peaks,
            "shapes": shapes,
            "lower": lower,
            "tvl1": tvl1,
            "parity": parity,
        }
    )
