"""How a model of chips learns: the options that `chips train` and `chips evaluate` share."""

from typing import TYPE_CHECKING, Any

import click

from geopipe.cli.options import (
    AS_JSON,
    CACHE,
    DEVICE,
    OVERWRITE,
    SEED,
    SKIP_BAD,
)

if TYPE_CHECKING:
    from geopipe.learn.chips.model import ChipTraining

_LEARNING = (
    click.option(
        "--model",
        default="finetune:efficientnet_lite0",
        show_default=True,
        help="The kind of model: finetune:NET, fusion:A+B (features: googlenet.im+alexnet.c5) or "
        "ddrl-am.",
    ),
    click.option(
        "--weights",
        multiple=True,
        default=("auto",),
        show_default=True,
        help="Weights of the networks: a file, or auto for package or hub; NET=FILE for one of "
        "two.",
    ),
    click.option(
        "--frozen",
        is_flag=True,
        help="Do not train the networks: logistic regression on their features, without epochs, "
        "learning rates and augmentation.",
    ),
    click.option(
        "--epochs", type=click.IntRange(1), default=10, show_default=True, help="Training epochs."
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, 4096),
        default=32,
        show_default=True,
        help="Chips in a batch.",
    ),
    click.option(
        "--lr",
        type=float,
        default=1e-3,
        show_default=True,
        help="Learning rate of the new layers.",
    ),
    click.option(
        "--pretrained-lr",
        type=float,
        default=1e-4,
        show_default=True,
        help="Learning rate of the pretrained parts; 0 freezes them.",
    ),
    click.option(
        "--center-loss",
        type=click.FloatRange(0),
        help="Weight of the center loss  [default: 0.5 for ddrl-am, else 0]",
    ),
    click.option(
        "--attention",
        type=click.Choice(["predicted", "true"]),
        default="predicted",
        show_default=True,
        help="Of ddrl-am: the class whose attention map is used; the true one flatters the "
        "figures.",
    ),
    click.option(
        "--flat", is_flag=True, help="Of ddrl-am: classify all feature values, not their means."
    ),
    click.option("--no-augment", is_flag=True, help="Train without flips and rotations."),
    click.option(
        "--side",
        type=click.IntRange(64, 2048),
        default=224,
        show_default=True,
        metavar="PX",
        help="Pixels a side that each chip is resized to.",
    ),
    SEED,
    SKIP_BAD,
    DEVICE,
    CACHE,
    OVERWRITE,
    AS_JSON,
)


def learning_options(command: Any) -> Any:
    """Add the options of how a chip model learns; `chip_training` reads them."""
    for option in reversed(_LEARNING):
        command = option(command)
    return command


def chip_training(options: dict[str, Any], **design: Any) -> "ChipTraining":
    """What the options of `learning_options` say."""
    from geopipe.learn.chips import ChipTrainingPlan
    from geopipe.learn.chips.model import ChipModelSpec, ChipTraining
    from geopipe.mapping import choose_device

    model_spec = ChipModelSpec(
        options["model"], tuple(options["weights"]), options["side"], flat=options["flat"], **design
    )
    center = options["center_loss"]
    if center is None:
        center = 0.5 if model_spec.model_spec.kind == "ddrl-am" else 0.0
    plan = ChipTrainingPlan(
        options["epochs"],
        options["batch"],
        options["lr"],
        options["pretrained_lr"],
        augment=not options["no_augment"],
        center=center,
        attention=options["attention"],
        seed=options["seed"],
    )
    return ChipTraining(
        model_spec,
        plan,
        options["frozen"],
        options["skip_bad"],
        choose_device(options["device"]),
        options["cache"],
    )
