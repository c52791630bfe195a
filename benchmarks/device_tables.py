"""The tables of benchmarks.device: each a function of the report that returns lines."""


def _rows(report: dict, section: str) -> list[dict]:
    return [row for row in report["rows"] if row["section"] == section]


def _number(value, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _over(a, b) -> float | None:
    return a / b if a and b else None


def _steps(report: dict) -> dict:
    """{(model, dtype): {how: row}} of the joint steps."""
    found = {}
    for row in _rows(report, "joint"):
        found.setdefault((row["model"], row["dtype"]), {})[row["how"]] = row
    return found


def _spec(report: dict, model: str) -> dict:
    return next(spec for spec in report["about"]["specs"] if spec["model"] == model)


def joint(report: dict) -> list[str]:
    """Milliseconds a step, and how much quicker mmvid is than eager and compiled PyTorch."""
    lines = [
        f"{'model':14} {'clips':>14} {'dtype':9} {'ms':>8} {'clips/s':>8} {'eager ms':>9} "
        f"{'compile ms':>10} {'x eager':>8} {'x compile':>9} {'GB':>6} {'eager':>6} "
        f"{'compile':>7}"
    ]
    for (model, dtype), by in _steps(report).items():
        ours, eager, fast = (by.get(how, {}) for how in ("mmvid", "eager", "compile"))
        spec = _spec(report, model)
        clips = f"{spec['batch']}x{spec['frames']}x{spec['side']}x{spec['side']}"
        lines.append(
            f"{model:14} {clips:>14} {dtype:9} {_number(ours.get('ms')):>8} "
            f"{_number(ours.get('clips_per_s')):>8} {_number(eager.get('ms')):>9} {_number(fast.get('ms')):>10} "
            f"{_number(_over(eager.get('ms'), ours.get('ms')), 2):>8} "
            f"{_number(_over(fast.get('ms'), ours.get('ms')), 2):>9} "
            f"{_number(ours.get('peak_gb')):>6} {_number(eager.get('peak_gb')):>6} "
            f"{_number(fast.get('peak_gb')):>7}"
        )
    return lines


def roofline(report: dict) -> list[str]:
    """The least time that the convolutions' FLOPs and XLA's bytes allow at the measured peaks."""
    peaks = {row["what"]: row for row in _rows(report, "peaks")}
    lines = [
        "peaks: "
        + ", ".join(
            f"{what} {row['tflop_per_s']:.3g} TFLOP/s"
            if "tflop_per_s" in row
            else f"{what} {row['gb_per_s']:.4g} GB/s"
            for what, row in peaks.items()
        )
    ]
    lines.append(
        f"{'model':14} {'dtype':9} {'TFLOP':>7} {'GB':>7} {'by FLOPs':>9} {'by bytes':>9} {'ms':>8} {'share':>6}"
    )
    for (model, dtype), by in _steps(report).items():
        row, peak, copy = by.get("mmvid"), peaks.get(f"matmul {dtype}"), peaks.get("copy")
        if row is None or peak is None or copy is None:
            continue
        row["flops_bound_ms"] = row["conv_flops"] / peak["tflop_per_s"] / 1e9
        row["bytes_bound_ms"] = row["xla_bytes"] / copy["gb_per_s"] / 1e6 if row["xla_bytes"] else None
        row["roofline_share"] = max(row["flops_bound_ms"], row["bytes_bound_ms"] or 0) / row["ms"]
        lines.append(
            f"{model:14} {dtype:9} {row['conv_flops'] / 1e12:7.2f} {_number(_over(row['xla_bytes'], 1e9)):>7} "
            f"{row['flops_bound_ms']:9.2f} {_number(row['bytes_bound_ms'], 2):>9} {row['ms']:8.2f} "
            f"{row['roofline_share']:6.2f}"
        )
    return lines


def single(report: dict) -> list[str]:
    """Milliseconds: both networks in one program, each in its own, and the ratio of the sum to the joint."""
    lines = [f"{'model':14} {'dtype':9} {'joint':>8} {'rgb':>8} {'flow':>8} {'sum / joint':>11}"]
    found = {}
    for row in _rows(report, "single"):
        found.setdefault((row["model"], row["dtype"]), {})[row["names"]] = row["ms"]
    for key, ms in found.items():
        together = _steps(report).get(key, {}).get("mmvid", {}).get("ms")
        both = ms["rgb"] + ms["flow"] if len(ms) == 2 else None
        lines.append(
            f"{key[0]:14} {key[1]:9} {_number(together, 2):>8} {_number(ms.get('rgb'), 2):>8} "
            f"{_number(ms.get('flow'), 2):>8} {_number(_over(both, together), 2):>11}"
        )
    return lines


def compilation(report: dict) -> list[str]:
    """Seconds: mmvid's step traced and compiled; PyTorch's first step, eager and compiled."""
    lines = [
        f"{'model':14} {'dtype':9} {'networks':9} {'trace':>7} {'compile':>8} {'eager':>7} {'torch.compile':>13}"
    ]
    for (model, dtype), by in _steps(report).items():
        ours, eager, fast = (by.get(how, {}) for how in ("mmvid", "eager", "compile"))
        lines.append(
            f"{model:14} {dtype:9} {'rgb+flow':9} {_number(ours.get('trace_s')):>7} "
            f"{_number(ours.get('compile_s')):>8} {_number(eager.get('first_s')):>7} "
            f"{_number(fast.get('first_s')):>13}"
        )
    for row in _rows(report, "single"):
        lines.append(
            f"{row['model']:14} {row['dtype']:9} {row['names']:9} {row['trace_s']:7.1f} {row['compile_s']:8.1f}"
        )
    return lines


def lowerings(report: dict) -> list[str]:
    """Milliseconds of each candidate; 'gain': what mmvid's present choice takes over the best one.

    A candidate whose results are further from the convolution's than a hundredth is marked with !.
    """
    lines = [
        f"{'dtype':9} {'gain':>5} {'best':9} {'shape (N x [T x] H x W x C, kernel -> filters / strides)':60} ms"
    ]
    for row in _rows(report, "lowerings"):
        away = row["differs"]
        ways = [f"{name} {ms:.3f}{'!' if away.get(name, 0) > 0.01 else ''}" for name, ms in row["ms"].items()]
        ways += [f"{name} failed" for name in row["errors"]]
        lines.append(
            f"{row['dtype']:9} {_number(row.get('gain'), 2):>5} {row['best'] or '-':9} {row['shape']:60} "
            f"{', '.join(ways)}"
        )
    return lines


def tvl1(report: dict) -> list[str]:
    """Pairs a second, from and to the host, and of the device alone."""
    lines = [f"{'size':>9} {'batch':>6} {'clip_flow pairs/s':>18} {'device pairs/s':>15}"]
    for row in _rows(report, "tvl1"):
        size = f"{row['height']}x{row['width']}"
        lines.append(
            f"{size:>9} {row['batch']:>6} {row['clip_flow_pairs_per_s']:18.1f} {row['device_pairs_per_s']:15.1f}"
        )
    return lines


def parity(report: dict) -> list[str]:
    """The RGB network, same weights and clips: logits' relative distance, cosines of the gradients."""
    lines = [f"{'model':14} {'batch':>5} {'logits':>9} {'gradient cosine':>16} {'least of a leaf':>16}"]
    for row in _rows(report, "parity"):
        lines.append(
            f"{row['model']:14} {row['batch']:>5} {row['logits_relative']:9.5f} "
            f"{row['gradient_cosine']:16.6f} {row['least_leaf_cosine']:16.6f}"
        )
    return lines
