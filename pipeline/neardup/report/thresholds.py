"""The file of recommended thresholds: what `neardup dedup --threshold @FILE` reads."""

import json

from neardup.report.results import Results

NAME = "thresholds.yaml"


def text(results: Results) -> str:
    """YAML: the false-positive rate and, by hasher, the largest threshold within it; a remark says what that finds."""
    rate = f"{results.rate:g}"
    lines = [
        "# Largest thresholds at which so small a share of altered pictures meets another original of its category.",
        "# neardup dedup INPUT --output OUT --hasher SPEC --threshold @thresholds.yaml",
        f"false_positive_rate: {rate if '.' in rate or 'e' not in rate else rate.replace('e', '.0e')}",
        "thresholds:",
    ]
    pairs = results.at_rate("pairs").query("transform.isna() and category.isna()").set_index("hasher")
    for best in results.best():
        name, threshold = json.dumps(best["hasher"]), best["threshold"]
        if threshold is None:
            lines.append(f"  # {name}: none, as no other original is near at any")
            continue
        found = f"recall {best['recall']:.2f} % ({best['recall_low']:.2f} to {best['recall_high']:.2f})"
        of_pairs = _pairs_remark(pairs.loc[best["hasher"]]["threshold"], results.rate)
        lines.append(f"  {name}: {float(threshold)!r}  # {found}{of_pairs}")
    if not any(line.startswith('  "') for line in lines):
        lines[3] = "thresholds: {}"
    return "\n".join(lines) + "\n"


def _pairs_remark(threshold: float | None, rate: float) -> str:
    return "" if threshold is None or threshold != threshold else f"; at {rate:g} of pairs: {threshold:.6g}"
