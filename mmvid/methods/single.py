"""Every output alone with cross-entropy: the baseline of every paper."""

from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method
from mmvid.streams import Head


def make(outputs: tuple[str, ...], heads: dict[str, Head]) -> Method:
    """Cross-entropy for each of ``outputs``; heads are averaged (MMD's code)."""

    def terms(results, batch, state, key):
        del state, key
        return {"ce": terms_lib.task_term(results["main", "train"], batch["main"], outputs, heads)}

    return Method(terms)
