"""ResNets that convolve over time, in the forms that exist: R3D, MC3 and R(2+1)D (Tran et al. 2018; Hara et al.
2018), CSN (Tran et al. 2019), CMPL's (Xu et al. 2022), and I3D and Slow as SlowFast's code has them."""

import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmvid.models.layers import BatchNorm, ChannelConv, Classifier, ClipConv, linear
from mmvid.models.pooling import max_pool
from mmvid.models.resnet import between, blocks

# Forms that convolve each channel by itself.
SEPARATED = ("reduced", "preserved")
# Channels between the two factors of the stem, in R(2+1)D's code and torchvision's; no formula gives it.
_STEM_MIDDLE = 45


def middle_channels(inputs: int, outputs: int) -> int:
    """Returns how many channels a 1x3x3 and a 3x1x1 convolution have between them, so that together they
    have as many weights as one 3x3x3 (Tran et al. 2018, section 3.5)."""
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


def resized(x: jax.Array, side: int) -> jax.Array:
    """Resizes the pictures of clips [B, T, H, W, C] that are larger than ``side`` to it: bilinear, without
    aliasing (torchvision's on tensors)."""
    if max(x.shape[2:4]) <= side:
        return x
    return jax.image.resize(x, (*x.shape[:2], side, side, x.shape[-1]), "linear")


def halved(x: jax.Array) -> jax.Array:
    """Takes the maximum over every two frames of [B, T, H, W, C]; an odd last frame is left out, a single one
    stays."""
    count = x.shape[1] // 2
    if not count:
        return x
    pairs = x[:, : 2 * count].reshape(x.shape[0], count, 2, *x.shape[2:])
    # Of two arrays, not over an axis: that gradient asks which values equal the maximum, and where a compiler
    # computes these a second time, with other roundings, none does.
    return jnp.maximum(pairs[:, :, 0], pairs[:, :, 1])


def windows(x: jax.Array, side: int) -> jax.Array:
    """Averages over every window of ``side`` x ``side`` pixels: [B, H, W, D] -> [B, H', W', D]; a map that is
    smaller along an axis is one window there."""
    sides = tuple(min(side, size) for size in x.shape[1:3])
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *sides, 1), (1, 1, 1, 1), "VALID")
    return total / (sides[0] * sides[1])


def averaged(logits: jax.Array, by_sigmoid: bool) -> jax.Array:
    """Returns the logits whose probabilities are the means of those of all places: [B, H, W, K] -> [B, K]."""
    places = logits.reshape(logits.shape[0], -1, logits.shape[-1])
    count = jnp.log(places.shape[1])
    if not by_sigmoid:
        return jax.nn.logsumexp(jax.nn.log_softmax(places), axis=1) - count
    # log(p / (1 - p)) of the mean p, from the log means of both outcomes: finite at logits of 50.
    on, off = (jax.nn.logsumexp(jax.nn.log_sigmoid(sign * places), axis=1) for sign in (1, -1))
    return on - off


def classified(
    classify: Callable, pooled: jax.Array, pixels: jax.Array, window: int, by_sigmoid: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Applies ``classify`` to ``pooled`` [B, D] -> {head: logits [B, K]}; where ``window`` is set and ``pixels``
    [B, H, W, D] are more than that a side, to each window, whose probabilities are averaged (SlowFast's head):
    those of sigmoids in the heads ``by_sigmoid``, of a softmax in others."""
    if not window or max(pixels.shape[1:3]) <= window:
        return classify(pooled)
    every = classify(windows(pixels, window))
    return {name: averaged(own, name in by_sigmoid) for name, own in every.items()}


class Block(nn.Module):
    """A residual block, basic or bottleneck: [B, T, H, W, C] -> [B, T', H', W', out].

    Its 3x3x3 convolutions are 'full', 'factorised' (1x3x3, then 3x1x1) or 'spatial' (1x3x3, without
    stride in time); the first of them has the ``stride``. In a bottleneck they may also be 'reduced' (each
    channel by itself) or 'preserved' (a 1x1x1 before that, without a ReLU between); or it is 'leading': its first
    convolution, of ``frames`` frames and one pixel, looks along time, and its second, 1x3x3, at the picture. With
    ``keep_frames`` the stride is
    in space alone. ``project`` asks for a projection on the shortcut even where the shapes agree.
    """

    features: int
    stride: int
    bottleneck: bool
    form: str
    middle: str
    project: bool
    keep_frames: bool
    conv: Callable
    norm: Callable
    frames: int = 3
    zero_last: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        out = self.features * (4 if self.bottleneck else 1)
        if self.bottleneck:
            layers = ((self.features, 1, 1), (self.features, 3, self.stride), (out, 1, 1))
        else:
            layers = ((self.features, 3, self.stride), (out, 3, 1))
        y = x
        for i, (features, size, stride) in enumerate(layers, 1):
            if size == 3 and self.form == "factorised":
                y = self._factorised(y, i, features, stride, x.shape[-1], train)
            elif size == 3 and self.form in SEPARATED:
                y = self._separated(y, i, stride, train)
            else:
                y = self.conv(features, (self._taps(i, size), size), self._strides(stride), name=f"conv{i}")(y)
            zero = {"zero": True} if self.zero_last and i == len(layers) else {}
            y = self.norm(name=f"bn{i}", **zero)(y, train=train)
            y = nn.relu(y) if i < len(layers) else y
        if self.stride > 1 or x.shape[-1] != out or self.project:
            x = self.conv(out, (1, 1), self._strides(self.stride), name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x, train=train)
        return nn.relu(x + y)

    def _taps(self, i: int, size: int) -> int:
        """The frames that convolution ``i`` reads, which has ``size`` pixels."""
        if self.form == "leading":
            self._check_bottleneck("convolves over time with its 1x1x1")
            return self.frames if i == 1 else 1
        return 1 if self.form == "spatial" else size

    def _check_bottleneck(self, what: str) -> None:
        if not self.bottleneck:
            raise ValueError(f"form={self.form!r} {what}, as bottlenecks alone allow")

    # MC3's spatial stages keep every frame (torchvision's Conv3DNoTemporal), on the shortcut too.
    def _strides(self, stride: int):
        return 1 if self.keep_frames or self.form == "spatial" else stride, stride

    def _factorised(self, y, i: int, features: int, stride: int, inputs: int, train: bool):
        """Applies convolution ``i`` as spatial, norm, ReLU, temporal; the block reads ``inputs`` channels."""
        middle = {
            "block": middle_channels(inputs, features),  # torchvision: one number a block
            "own": middle_channels(y.shape[-1], features),  # the paper: each convolution its own
            "equal": features,  # DMCL's code
        }[self.middle]
        y = self.conv(middle, (1, 3), (1, stride), name=f"conv{i}_spatial")(y)
        y = nn.relu(self.norm(name=f"bn{i}_spatial")(y, train=train))
        return self.conv(features, (3, 1), (self._strides(stride)[0], 1), name=f"conv{i}_temporal")(y)

    def _separated(self, y, i: int, stride: int, train: bool):
        """Applies convolution ``i`` channel by channel, 'preserved' after a 1x1x1 that mixes them (Tran et al.
        2019, section 3.2)."""
        self._check_bottleneck("convolves each channel by itself")
        if self.form == "preserved":
            y = self.conv(y.shape[-1], (1, 1), name=f"conv{i}_point")(y)
            y = self.norm(name=f"bn{i}_point")(y, train=train)
        return ChannelConv(self._strides(stride), self.conv.keywords["dtype"], name=f"conv{i}")(y)


class VideoResNet(nn.Module):
    """A video network: clips [B, T, H, W, C], or images [B, H, W, C] as clips of one frame, to
    {'logits' {head: [B, K]}, 'features' [B, D], 'map' [B, T', H', W', D]}.

    ``heads`` is {name: classes}. ``form`` is 'full' (R3D), 'factorised' (R(2+1)D), 'mixed' (MC3: full
    in the stem and the first stage, spatial after), or, with bottlenecks, 'reduced' or 'preserved' (interaction:
    ir-CSN and ip-CSN, which convolve each channel by itself) or 'leading' (CMPL's, the SlowFast paper's fast
    pathway). With ``keep_frames`` no stage has a stride in time (CMPL). ``middle`` chooses the channels between
    two factors: 'block', 'own' or 'equal' (see `Block._factorised`). ``padding`` 'same' is TensorFlow's, one-sided
    at even sizes; it applies to temporal strides and to the stem's pool, while spatial strides stay
    symmetric (DMCL's code). ``project_first`` puts a projection into the first block of the first stage
    too (DMCL's code). ``momentum`` is batch norm's, in PyTorch's sense. The stem convolves over ``stem_frames``
    frames and with ``stem_pool`` is pooled in space, with ``pool_frames`` in time as well (Hara et al.).
    ``block_frames`` are the frames that the first convolution of each block of each 'leading' stage reads, where
    it is not 3. With ``halve`` the first stage is followed by a maximum over every two frames (I3D).

    Of a map of more than ``window`` pixels a side, where that is set, an evaluation classifies every window and
    averages the probabilities; the logits are then those of the mean (SlowFast's head, on frames larger than in
    training; ``plans`` set it to a map of training's size). With ``zero_last`` each block's last norm begins at 0,
    so that blocks begin as identities (SlowFast's code). ``by_sigmoid`` names the heads whose probabilities are
    sigmoids.

    Pictures larger than ``resize`` pixels, if it is set, are resized to it. ``hidden`` adds a layer of so many
    units with a ReLU before the classifiers; 'features' are then its values. (Both MMD's code for Hara's.)
    Called with ``until`` a stage (1 is the first) it stops before it and returns that map; ``since`` goes on.
    """

    heads: dict[str, int]
    stages: tuple[int, ...]
    bottleneck: bool
    form: str
    middle: str = "block"
    width: int = 64
    stem: int = 7
    stem_frames: int = 3
    stem_pool: bool = False
    pool_frames: bool = False
    resize: int = 0
    hidden: int = 0
    padding: str = "symmetric"
    project_first: bool = False
    keep_frames: bool = False
    block_frames: tuple[tuple[int, ...], ...] = ()
    halve: bool = False
    window: int = 0
    by_sigmoid: tuple[str, ...] = ()
    zero_last: bool = False
    classifier_std: float = 0.001
    kernel_init: str = "fan_out"
    momentum: float = 0.1
    eps: float = 1e-5
    dropout: float = 0.0
    frozen_bn: str = "none"
    remat: bool = False
    dtype: Any = jnp.float32

    # Where in its params; see `Model`.
    first_convolutions: ClassVar = (("conv1",),)
    classifiers: ClassVar = (("classifier",),)

    @property
    def necks(self):
        """The path of the hidden layer, where there is one; see `Model`."""
        return (("hidden",),) if self.hidden else ()

    def _conv(self):
        return functools.partial(ClipConv, padding=self.padding, kernel_init=self.kernel_init, dtype=self.dtype)

    def _norm(self, first: bool = False):
        frozen = self.frozen_bn == "all" or (self.frozen_bn == "all_but_first" and not first)
        settings = {"eps": self.eps, "momentum": self.momentum, "dtype": self.dtype}
        return functools.partial(BatchNorm, frozen=frozen, **settings)

    @property
    def cuts(self):
        """The paths of the blocks of each stage; see `Model.stages`."""
        return blocks(self.stages)

    @nn.compact
    def __call__(self, x, *, train: bool, since: int = 0, until: int | None = None):
        x = x if since else self._stem(x, train)
        x = self._blocks(x, train, since, until)
        if until is not None:
            return x
        # The mean, the classifier and the losses are in float32 where the activations are bfloat16.
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        pooled = x.mean((1, 2, 3))
        if self.hidden:
            pooled = nn.relu(linear(pooled.shape[-1], self.hidden, pooled.dtype, "hidden")(pooled))
            self.sow("intermediates", "neck", pooled)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        classify = Classifier(self.heads, self.classifier_std, name="classifier")
        window = 0 if train else self.window
        logits = classified(lambda seen: classify(drop(seen)), pooled, x.mean(1), window, self.by_sigmoid)
        return {"logits": logits, "features": pooled, "map": x}

    def _stem(self, x, train: bool):
        x = x[:, None] if x.ndim == 4 else x
        x = resized(x, self.resize) if self.resize else x
        x = self._first(x, train)
        x = max_pool(x, self.padding, time=self.pool_frames) if self.stem_pool else x
        self.sow("intermediates", "stem", x)
        return x

    def _first(self, x, train: bool):
        conv = self._conv()
        if self.form != "factorised":
            x = conv(self.width, (self.stem_frames, self.stem), (1, 2), name="conv1")(x)
            return nn.relu(self._norm(first=True)(name="bn1")(x, train=train))
        middle = self.width if self.middle == "equal" else _STEM_MIDDLE
        x = conv(middle, (1, self.stem), (1, 2), name="conv1")(x)
        x = nn.relu(self._norm(first=True)(name="bn1")(x, train=train))
        x = conv(self.width, (3, 1), name="conv2")(x)
        return nn.relu(self._norm()(name="bn2")(x, train=train))

    def _blocks(self, x, train: bool, since: int, until: int | None):
        # Shallower stages have the first blocks of the deep ones.
        if self.block_frames and any(map(operator.gt, self.stages, map(len, self.block_frames))):
            raise ValueError(f"stages={self.stages} have more blocks than block_frames={self.block_frames}")
        # ``train`` (argument 2, after self and x) decides the program and must not be traced by remat.
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        for stage, count in between(self.stages, since, until):
            late = "spatial" if stage else "full"
            for i in range(count):
                x = block(
                    features=self.width * 2**stage,
                    stride=2 if stage and i == 0 else 1,
                    bottleneck=self.bottleneck,
                    form=late if self.form == "mixed" else self.form,
                    middle=self.middle,
                    project=self.project_first and stage == i == 0,
                    keep_frames=self.keep_frames,
                    conv=self._conv(),
                    norm=self._norm(),
                    frames=self.block_frames[stage][i] if self.block_frames else 3,
                    zero_last=self.zero_last,
                    name=f"layer{stage + 1}_{i}",
                )(x, train)
            self.sow("intermediates", f"layer{stage + 1}", x)
            x = halved(x) if self.halve and stage == 0 else x
        return x
