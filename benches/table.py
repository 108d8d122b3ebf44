"""Results as a Markdown table."""

from __future__ import annotations

import math
import statistics

ROW = "| {} |"


def statistic(values: list[float], name: str) -> float:
    """`median`, or a percentile such as `p99`: the value that so many of a hundred do not exceed (nearest rank)."""
    if name == "median":
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, math.ceil(int(name[1:]) / 100 * len(ordered)) - 1)]


def shown(value: float | None, unit: str) -> str:
    """A value with its unit, three digits."""
    if value is None:
        return "–"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1 or name == "µs":
                return f"{digits(value * factor)} {name}"
    if unit == "bytes":
        return f"{digits(value / 1e6)} MB"
    return digits(value) + unit.replace("answers", "")


def digits(value: float) -> str:
    """Three digits that count, never as a power of ten."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def table(records: list[dict], impls: tuple[str, ...]) -> str:
    """The records (see README.md) of all rounds: one row for each metric and statistic, in the order of measuring.

    Values of all rounds are pooled before the statistic is taken. A program that failed in any round has no number.
    """
    rows: dict[tuple[str, str, str], dict] = {}
    failed: dict[tuple[str, str], str] = {}
    for record in records:
        if "error" in record:
            failed.setdefault((record["scenario"], record["impl"]), record["error"])
        for name in record.get("show", ()):
            row = rows.setdefault((record["scenario"], record["metric"], name), {"unit": record["unit"], "values": {}})
            row["values"].setdefault(record["impl"], []).extend(record["values"])

    lines = [
        ROW.format(" | ".join(["scenario", "metric", *impls, *(f"circ/{peer}" for peer in impls if peer != "circ")])),
        ROW.format(" | ".join(["---", "---"] + ["---:"] * (2 * len(impls) - ("circ" in impls)))),
    ]
    for (scenario, metric, name), row in rows.items():
        values = {
            impl: statistic(row["values"][impl], name)
            for impl in impls
            if row["values"].get(impl) and (scenario, impl) not in failed
        }
        label = metric if name == "median" else f"{metric}, {name}"
        if row["unit"].startswith("answers"):
            label += " (more is better)"
        cells = [scenario, label]
        cells += ["failed" if (scenario, impl) in failed else shown(values.get(impl), row["unit"]) for impl in impls]
        cells += [ratio(values.get("circ"), values.get(peer)) for peer in impls if peer != "circ"]
        lines.append(ROW.format(" | ".join(cells)))
    lines += [""] + [f"Failed: {scenario} of {impl}: {error}" for (scenario, impl), error in failed.items()]
    return "\n".join(lines).rstrip() + "\n"


def ratio(ours: float | None, theirs: float | None) -> str:
    """How many times theirs ours is."""
    return "–" if ours is None or not theirs else f"{digits(ours / theirs)}×"


def floor_table(records: list[dict], impls: tuple[str, ...]) -> str:
    """How long starting workers takes beside a bare posix_spawn loop; empty without its records."""
    # Only the records of starting so many workers say how many.
    floors: dict[int, list[float]] = {}
    running: dict[tuple[int, str], list[float]] = {}
    for record in records:
        if record.get("impl") == "floor" and "values" in record:
            floors.setdefault(record["workers"], []).extend(record["values"])
        elif "workers" in record:
            running.setdefault((record["workers"], record["impl"]), []).extend(record["values"])
    if not floors:
        return ""
    lines = [
        ROW.format(" | ".join(["workers started", "posix_spawn loop", *(f"{impl}/loop" for impl in impls)])),
        ROW.format(" | ".join(["---:"] * (2 + len(impls)))),
    ]
    for count, values in floors.items():
        floor = statistics.median(values)
        cells = [str(count), shown(floor, "s")]
        for impl in impls:
            took = running.get((count, impl))
            cells.append(ratio(statistics.median(took) if took else None, floor))
        lines.append(ROW.format(" | ".join(cells)))
    return "\n".join(lines) + "\n"
