"""What networks, streams, label spaces, segments, subsets and datasets may be called."""

# What scores hold beside the outputs themselves.
TAKEN = ("fused", "oracle", "subsets")
# Scores of a split lie in SPLIT.npz, SPLIT-before.npz, SPLIT-during.npz and SPLIT@PROTOCOL-CROPS.npz.
WHEN = ("-before", "-during")


def check(kind: str, name: str) -> None:
    """Raises ValueError for an empty name, one with what separates names ('.', '/', ',' and ' + ', in
    'network.part', 'output/term', paths, lists and sums), a network or output that is called as those in
    `TAKEN`, and a subset whose scores would take the file of another split's. ``kind`` says what is named."""
    if not name or name != name.strip():
        raise ValueError(f"{kind} {name!r}: rename it; a name is not empty, and has no blanks around it")
    if any(separator in name for separator in (".", "/", ",", " + ")):
        raise ValueError(
            f"{kind} {name!r}: rename it; '.', '/', ',' and ' + ' stand between names, none may hold them"
        )
    if kind in ("network", "output") and name in TAKEN:
        raise ValueError(f"{kind} {name!r}: rename it; tables call sums and best choices of outputs so")
    if kind == "subset" and ("@" in name or name.endswith(WHEN)):
        raise ValueError(
            f"{kind} {name!r}: rename it; scores are called so that were made in another way ('@') or at another "
            f"moment ({', '.join(WHEN)})"
        )
