"""The page of results, written from their JSON; without one it says that there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Found = Mapping[str, Any]

INTRO = """\
# On a GPU

`make gpu-check` measures geopipe on one GPU in at most 8 minutes, without a network, and writes
this page and `gpu.json`. Each part is a process of its own with a time limit; `ARGS="--only b"`,
`ARGS="--skip d e"` and `ARGS="--limit c=900"` choose.

| part | measures |
|---|---|
| a | whether the GPU gives the classes of the CPU on the sample tiles; seams |
| b | megapixels per second: share of the roofline, idle share of the device; one tile or several \
at a time, pinned memory or not, TF32 and bfloat16; a rasterio loop and torchgeo's sampler beside |
| c | the Forez chain with 20,000 steps of the base network, or as many as there is time for |
| d | chips of UC Merced at 224 px, 40 epochs (needs GEOPIPE_DATA) |
| e | Gaofen crops with a ResNet-50 (needs GEOPIPE_DATA and weights) |

The tests run the same code small: `python -m benchmarks.gpu --size tiny --device cpu`.
"""
NONE = """\
**Not measured so far: no GPU was at hand.** There is no figure of a GPU anywhere in this project.
The parts have run on a CPU only.
"""


def markdown(report: Found | None) -> str:
    """The page."""
    if report is None:
        return f"{INTRO}\n{NONE}"
    lines = [INTRO, f"## {report['device']['name']}", "", _facts(report)]
    for letter in sorted(report["parts"]):
        part = report["parts"][letter]
        lines += ["", f"## {letter}. {part['title']}", "", _ending(part)]
        if part["figures"]:
            lines += ["", *SECTIONS[letter](part["figures"])]
    return "\n".join(lines) + "\n"


def _facts(report: Found) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in report["versions"].items() if v)
    m = report["machine"]
    details = [f"{report['device']['memory_gb']} GB"] if "memory_gb" in report["device"] else []
    details += [f"{m['cpu']}, {m['cores']} cores, {m['ram_gb']} GB", versions, report["date"]]
    no_gpu = "**A CPU: no figures of a GPU.** " if report["device"]["kind"] == "cpu" else ""
    return f"{no_gpu}`{report['command']}`; " + "; ".join(details) + "."


def _ending(part: Found) -> str:
    reason = f" ({part['reason']})" if "reason" in part else ""
    return f"{part['status'].capitalize()}{reason}: {part['seconds']:g} of {part['limit_s']:g} s."


def _agreement(report: Found) -> list[str]:
    lines = [
        f"Model: {report['model']}. Pixels whose class differs between the device and the CPU:",
        "",
        "| tile | iterations | pixels | other class | scores differ by up to | scores up to |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for tile, steps in report["agreement"].items():
        lines += [
            f"| {tile} | {step} | {a['pixels']:,} | {a['changed']:,} "
            f"({1e6 * a['changed'] / max(a['pixels'], 1):.1f} ppm) | {a['max_difference']:.1e} | "
            f"{a['max_score']:.1f} |"
            for step, a in steps.items()
        ]
    if "seams" in report:
        s = report["seams"]
        lines += [
            "",
            f"Seams: {s['changed']} changed pixels in {s['tiles']} tiles, scores within "
            f"{s['max_difference']:.1e} of the whole forward and {s['max_seam']:.1e} of one "
            f"window; {'none beyond' if s['ok'] else '**beyond**'} rounding.",
        ]
    return lines


def _speed(report: Found) -> list[str]:
    roofs = report["roofs"]
    roof_texts = [f"{k} {v} TFLOP/s" for k, v in roofs["matmul_tflop_per_s"].items()]
    roof_texts.append(f"memory {roofs['memory_gb_per_s']} GB/s")
    roof_texts += [
        f"{k} memory to device {v} GB/s" for k, v in roofs["host_to_device_gb_per_s"].items()
    ]
    lines = [
        f"Model: {report['model']}. Roofs, measured: {', '.join(roof_texts)}. Roof: the least time "
        "of "
        "what is computed, over the time taken.",
        "",
        "| | px | precision | s | Mpx/s | roof | idle | equal to geopipe's map |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for run in report["runs"]:
        row = (
            run["name"],
            f"{run['px']:,}",
            run["precision"],
            f"{run['seconds']:.2f}",
            f"{run['mpx_per_s']:.1f}",
            _percent(run["share_of_roof"]),
            _percent(run.get("idle_share")),
            _percent(run.get("equal"), 4),
        )
        lines.append(f"| {' | '.join(row)} |")
    return lines + _left_out(report)


def _chain(report: Found) -> list[str]:
    lines = []
    if "steps" in report:
        lines.append(
            "Steps: "
            + ", ".join(
                f"{name} {count:,} of {report['wanted'][name]:,}"
                for name, count in report["steps"].items()
            )
            + (". " if report["aligned"] else ", from labels as they are. ")
            + ("Gone on with from an earlier run." if report["goes_on"] else "")
        )
    if "mean_iou" in report:
        ious = ", ".join(f"{100 * x:.1f}" for x in report["mean_iou"])
        lines += [
            "",
            f"Mean IoU on the test tile after 0, 1 ... iterations: {ious} %. Seconds: "
            + ", ".join(f"{k} {v:g}" for k, v in report["seconds"].items())
            + ".",
        ]
    return lines


def _chips(report: Found) -> list[str]:
    lines = ["| | overall accuracy | paper | s |", "|---|---:|---|---:|"]
    lines += [
        f"| {r['name']} | {_percent(r['overall_accuracy'], 2)} | {r['paper']} | {r['seconds']:g} |"
        for r in report["rows"]
    ]
    if report.get("at_work"):
        lines += ["", f"Not through: {report['at_work']}."]
    return lines + _left_out(report)


def _crops(report: Found) -> list[str]:
    lines = [
        f"{report['backbone']}, {report['steps']} steps in {report['training_seconds']:g} s. Share "
        "of "
        "pixels that are right:",
        "",
    ]
    for name, kinds in report["overall_accuracy"].items():
        lines.append(f"- {name}: " + ", ".join(f"{k} {_percent(v)}" for k, v in kinds.items()))
    return lines


def _left_out(report: Found) -> list[str]:
    out = [f"- {name}: {reason}" for name, reason in report["left_out"].items()]
    return ["", "Left out:", "", *out] if out else []


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{100 * share:.{digits}f} %"


SECTIONS: dict[str, Callable[[Found], list[str]]] = {
    "a": _agreement,
    "b": _speed,
    "c": _chain,
    "d": _chips,
    "e": _crops,
}
