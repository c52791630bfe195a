"""Counts the multiply-adds of a function from its jaxpr: nothing is computed and no array is allocated.

Products are what is counted: convolutions and matrix products. Sums, norms, activations, poolings and softmax are
not, nor is what is made of the weights alone, once for all clips. A convolution counts every tap of its kernel,
those on padding as well; a transposed one, which puts zeros between its inputs, those that meet an input. Where a
function is lowered in several ways, the mathematical one counts: a network costs the same on every platform.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

CONVENTION = (
    "FLOPs are 2 x multiply-adds of convolutions and matrix products; elementwise operations, norms, poolings and "
    "softmax are not counted. Attention: products of two activations. Linear, convolution: of one with weights."
)


class Products(NamedTuple):
    """Multiply-adds, by what is multiplied: activations with the weights of ``linear`` layers or of a
    ``convolution``, or with activations (``attention``). ``unknown`` names what could not be counted in full."""

    linear: int = 0
    convolution: int = 0
    attention: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def weighted(self) -> int:
        """The multiply-adds with weights: those of linear layers and of convolutions."""
        return self.linear + self.convolution

    @property
    def total(self) -> int:
        """All multiply-adds."""
        return self.weighted + self.attention

    @property
    def flops(self) -> int:
        """All floating-point operations: a multiplication and an addition for each multiply-add."""
        return 2 * self.total

    def times(self, number: int) -> "Products":
        """Returns the same work, done ``number`` times."""
        return Products(*(number * own for own in self[:3]), self.unknown)


def add(parts: Iterable[Products]) -> Products:
    """Returns the work of all ``parts`` together."""
    parts = list(parts)
    unknown = tuple(dict.fromkeys(name for part in parts for name in part.unknown))
    return Products(*(sum(part[i] for part in parts) for i in range(3)), unknown)


def count(run: Callable, weights, *inputs) -> Products:
    """Counts the multiply-adds of ``run(weights, *inputs)``, given arrays or their shapes (ShapeDtypeStruct)."""
    traced = jax.make_jaxpr(run)(weights, *inputs)
    fixed = len(jax.tree.leaves(weights))
    active = [index >= fixed for index in range(len(traced.jaxpr.invars))]
    return _walk(traced.jaxpr, active)[0]


# ---------------------------------------------------------------------------- a program
# A rule takes an equation and which of its inputs are activations, that is, differ from clip to clip; it gives
# the work, and which of the outputs are activations.
Active = list[bool]
Found = tuple[Products, Active]


def _walk(jaxpr: Jaxpr, active: Active) -> Found:
    """Counts the equations of ``jaxpr``, of whose inputs the ``active`` ones are activations."""
    known = dict(zip(jaxpr.invars, active))

    # Literals and constants are part of the program: the same for every clip.
    def told(variables) -> Active:
        return [not isinstance(v, Literal) and known.get(v, False) for v in variables]

    parts = []
    for equation in jaxpr.eqns:
        part, out = _equation(equation, told(equation.invars))
        parts.append(part)
        known.update(zip(equation.outvars, out))
    return add(parts), told(jaxpr.outvars)


def _equation(equation, active: Active) -> Found:
    name = equation.primitive.name
    if name in _RULES:
        return _RULES[name](equation, active)
    found, out = Products(), [any(active)] * len(equation.outvars)
    if name in _OPAQUE:
        return Products(unknown=(name,)), out
    # jit, remat, custom_jvp, custom_vjp and their kind hold a program, which runs once.
    for inner in _programs(equation.params.values()):
        fits = len(inner.invars) == len(active)
        part, own = _walk(inner, active if fits else [any(active)] * len(inner.invars))
        found = add([found, part])
        out = own if fits and len(own) == len(out) else out
    return found, out


def _programs(values) -> list[Jaxpr]:
    """The programs among the parameters of an equation."""
    closed = [value.jaxpr for value in values if isinstance(value, ClosedJaxpr)]
    return closed + [value for value in values if isinstance(value, Jaxpr)]


def _scan(equation, active: Active) -> Found:
    """A loop of known length: its body that many times."""
    params, body = equation.params, equation.params["jaxpr"].jaxpr
    first, carried = params["num_consts"], params["num_carry"]
    found, out = _repeated(body, active, first, carried)
    return found.times(params["length"]), out


def _while(equation, active: Active) -> Found:
    """A loop whose length only its data tell: its body once, which is named."""
    params, before = equation.params, equation.params["cond_nconsts"]
    first = params["body_nconsts"]
    found, out = _repeated(params["body_jaxpr"].jaxpr, active[before:], first, len(active) - before - first)
    told = ("a while loop of unknown length, counted once",) if found.total else ()
    return found._replace(unknown=(*found.unknown, *told)), out


def _repeated(body: Jaxpr, active: Active, first: int, carried: int) -> Found:
    """A round of a loop whose ``carried`` values, behind the ``first`` ones, go from one round to the next."""
    active = list(active)
    # An activation may take several rounds to reach all that it touches.
    while True:
        found, out = _walk(body, active)
        new = [a or b for a, b in zip(active[first : first + carried], out)]
        if new == active[first : first + carried]:
            return found, out
        active[first : first + carried] = new


def _cond(equation, active: Active) -> Found:
    """A choice: of platforms the one for all others, else the branch with the most work."""
    branches = [_walk(branch.jaxpr, active[1:]) for branch in equation.params["branches"]]
    platforms = equation.params.get("branches_platforms")
    if platforms is not None and None in platforms:
        return branches[platforms.index(None)]
    outs = [any(own) or active[0] for own in zip(*(out for _, out in branches))]
    unknown = add(found for found, _ in branches).unknown
    return max((found for found, _ in branches), key=lambda f: f.total)._replace(unknown=unknown), outs


# ---------------------------------------------------------------------------- products
def _dot(equation, active: Active) -> Found:
    (contracted, _), _ = equation.params["dimension_numbers"]
    terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return _product("linear", terms * equation.outvars[0].aval.size, active)


def _convolution(equation, active: Active) -> Found:
    params, (x, kernel), (y,) = equation.params, equation.invars, equation.outvars
    axes = params["dimension_numbers"]
    # The kernel's own channels are those of a group already.
    pairs = y.aval.shape[axes.out_spec[0]] * y.aval.shape[axes.out_spec[1]] * kernel.aval.shape[axes.rhs_spec[1]]
    for i, axis in enumerate(axes.out_spec[2:]):
        taps, inputs = kernel.aval.shape[axes.rhs_spec[2 + i]], x.aval.shape[axes.lhs_spec[2 + i]]
        pairs *= _taps(y.aval.shape[axis], taps, inputs, *(params[name][i] for name in _GEOMETRY))
    return _product("convolution", pairs, active)


_GEOMETRY = ("window_strides", "padding", "rhs_dilation", "lhs_dilation")


def _taps(
    outputs: int, taps: int, inputs: int, stride: int, padding: tuple[int, int], apart: int, between: int
) -> int:
    """The products along an axis: pairs of an output and a tap; where inputs stand ``between`` places apart, with
    zeros in the gaps, the pairs that meet one of them."""
    if between == 1:
        return outputs * taps
    places = (o * stride + t * apart - padding[0] for o in range(outputs) for t in range(taps))
    return sum(place in range(0, inputs * between, between) for place in places)


def _product(kind: str, number: int, active: Active) -> Found:
    kind = "attention" if all(active) else kind
    # Weights times weights are made once for all clips.
    return (Products(**{kind: number}) if any(active) else Products()), [any(active)]


_RULES = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
# Programs of other kinds, whose work stands in no jaxpr that could be read.
_OPAQUE = {"pallas_call", "ragged_dot_general", "ffi_call", "pure_callback", "io_callback", "shard_map"} | {
    f"dot_product_attention_{kind}_wrapper" for kind in ("fwd", "bwd")
}
