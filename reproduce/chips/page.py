"""The results as a page of Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PARTS = {
    "a": "Frozen features and logistic regression",
    "b": "Fine-tuned",
    "c": "Two nets fused (Iftene et al.)",
    "d": "Attention maps and center loss (Li et al.)",
}
_INTRO = (
    "UC Merced Land Use (2100 chips of 21 classes), each class divided anew for every seed; exact "
    "duplicates are kept on one side. Mean ± standard deviation over the seeds; one chip more or "
    "less is {step:.2f} points of one split. All rows of a kind share splits, seeds, epochs, input "
    "size and rates; nothing was tuned on the held-out chips, but that the form of the center "
    "loss was changed after its first had ended at 13 % (decision 14). Minutes are of the run that "
    "ended a row: what an earlier run or row had made, such as step 1 of the attention maps, is "
    "not in "
    "them.",
    "Papers' figures stand beside ours for orientation. Iftene et al. report on WHU-RS19 with "
    "Caffe's CaffeNet, whose weights could not be had: AlexNet without its fully connected layers "
    "takes its place. Li et al. report on UC Merced 80/20 with the original ResNet-18.",
)


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write `report`, as `run` makes it."""
    settings = report["settings"]
    lines = [
        "# Scene classification on UC Merced",
        "",
        f"`{report['command']}` (`make reproduce-chips`); {report['machine']}; "
        f"{report['software']}; "
        f"{settings['epochs']} epochs, chips at {settings['side']} px, batches of "
        f"{settings['batch']}, {settings['share']:.0%} to learn from, seeds "
        f"{', '.join(map(str, report['seeds']))}.",
    ]
    lines += [line for text in _INTRO for line in ("", text.format(step=report["one_chip"]))]
    if report["missing"]:
        lines += ["", f"No weights of {', '.join(report['missing'])} were given."]
    for part, title in PARTS.items():
        part_rows = [row for row in report["rows"] if row["part"] == part]
        if part_rows:
            if part == "a" and settings["frozen_side"] != settings["side"]:
                title += f", chips at {settings['frozen_side']} px"
            lines += [
                "",
                f"## {title}",
                "",
                "| | overall accuracy, % | kappa | paper, % | minutes |",
                "|---|---:|---:|---|---:|",
            ]
            lines += [_line(row) for row in part_rows]
    if report["pairs"]:
        lines += [
            "",
            "## Paired",
            "",
            "Chips that only one of the two is right about, and exact McNemar p, split by split; p "
            "of a paired t-test over the splits.",
            "",
            "| | against | points | only the first / only the second | McNemar p | t-test p |",
            "|---|---|---:|---|---|---:|",
        ]
        lines += [_pair(pair) for pair in report["pairs"]]
    for file, caption in report["figures"].items():
        lines += ["", f"![{caption}]({file})"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    accuracy = row["overall_accuracy"]
    accuracy_text = f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['deviation']:.2f}"
    return (
        f"| {row['name']} | {accuracy_text} | {row['kappa']['mean']:.4f} | {row['paper']} |"
        f" {row['seconds'] / 60:.0f} |"
    )


def _pair(pair: dict[str, Any]) -> str:
    counts = ", ".join(f"{a} / {b}" for a, b in zip(pair["only_a"], pair["only_b"], strict=True))
    p = ", ".join(f"{x:.3f}" for x in pair["mcnemar"])
    t = "" if pair["t_test"] is None else f"{pair['t_test']:.3f}"
    return f"| {pair['a']} | {pair['b']} | {pair['points']:+.2f} | {counts} | {p} | {t} |"
