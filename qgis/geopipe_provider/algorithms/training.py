"""Train a model, ask where to draw, export a model."""

from __future__ import annotations

from dataclasses import replace

from ..commands import Command, Parameter
from .shared import (
    AREA,
    BANDS,
    CLASSES,
    DEVICE,
    GEOPACKAGES,
    MAP,
    MAX_SHIFT,
    MODELS,
    NODATA,
    OVERWRITE,
    SCENE,
    SEED,
)

COMMANDS = (
    Command(
        "train",
        "Train a model",
        "Models",
        "Trains a semantic segmentation model on a scene and its labels, which may have errors. "
        "With a small accurate tile and its labels, a second training sharpens the outlines. "
        "After Cancel, the same run goes on from the folder MODEL.work.",
        (
            SCENE,
            Parameter(
                "LABELS",
                "layer",
                "Labels (empty: OpenStreetMap is fetched)",
                layer_flag="--layer",
                if_empty=("--fetch",),
            ),
            replace(
                CLASSES,
                label="Classes (empty: those of the model to go on from, or buildings-roads)",
                default=None,
            ),
            Parameter("TILE", "raster", "Small scene with accurate labels", "--tile"),
            Parameter("TRUTH", "layer", "Its accurate labels", "--truth"),
            Parameter(
                "START", "file", "Model to go on from", "--from", pattern=MODELS, advanced=True
            ),
            Parameter(
                "NET",
                "choice",
                "Base network",
                "--net",
                default="auto",
                choices=("auto", "cnn", "unet", "lite-unet"),
            ),
            Parameter(
                "GSD",
                "text",
                "Ground sample distance of the networks (m, or auto)",
                "--gsd",
                default="auto",
            ),
            Parameter(
                "ALIGN",
                "flag",
                "Align the labels to the image first",
                "--align",
                default=True,
                off_flag="--no-align",
            ),
            Parameter(
                "SCHEDULE",
                "choice",
                "Training schedule",
                "--schedule",
                default="short",
                choices=("short", "paper"),
                advanced=True,
            ),
            Parameter(
                "STEPS",
                "integer",
                "Training steps (empty: by network and schedule)",
                "--steps",
                minimum=0,
                advanced=True,
            ),
            Parameter(
                "REFINEMENT",
                "choice",
                "What the accurate tile trains",
                "--refinement",
                default="auto",
                choices=("auto", "rnn", "finetune"),
                advanced=True,
            ),
            Parameter(
                "REFINEMENT_STEPS",
                "integer",
                "Its training steps",
                "--refinement-steps",
                minimum=1,
                advanced=True,
            ),
            Parameter(
                "IGNORE_BUFFER",
                "number",
                "Pixels this near to a border of classes are ignored (m)",
                "--ignore-buffer",
                default=0.0,
                minimum=0,
                maximum=50,
                advanced=True,
            ),
            MAX_SHIFT,
            AREA,
            BANDS,
            NODATA,
            SEED,
            DEVICE,
            OVERWRITE,
            Parameter("OUTPUT", "output file", "Model", "--out", required=True, pattern=MODELS),
        ),
    ),
    Command(
        "ask",
        "Ask where to draw",
        "Models",
        "Ranks windows of a map in which accurate outlines would help its model most. Outline all "
        "objects of a window in the layer outlines, set the field drawn of the window, save both, "
        "and run 'Train a model' with the map's model to go on from, 0 training steps, the scene "
        "as the small scene, and the layer outlines as its accurate labels.",
        (
            MAP,
            Parameter("MODEL", "file", "Model of the map, if it was moved", pattern=MODELS),
            Parameter(
                "WINDOWS", "integer", "Number of windows", "--windows", default=20, minimum=1
            ),
            Parameter(
                "METRES",
                "number",
                "Side of a window (m)",
                "--metres",
                default=100.0,
                minimum=0,
            ),
            Parameter("SCENE", "raster", "Scene, if it was moved", "--scene", advanced=True),
            Parameter(
                "DRAWN",
                "vector",
                "Earlier windows, of which the drawn ones are left out",
                "--drawn",
                advanced=True,
            ),
            DEVICE,
            OVERWRITE,
            Parameter(
                "OUTPUT", "output file", "Windows", "--out", required=True, pattern=GEOPACKAGES
            ),
        ),
        loads=("",),
    ),
    Command(
        "export",
        "Export a model as ONNX",
        "Models",
        "Writes a model with the metadata that the plugin Deepness reads. geopipe needs the "
        "packages of geopipe[onnx] for it.",
        (
            Parameter("MODEL", "file", "Model", pattern=MODELS, required=True),
            Parameter(
                "TILE_SIZE",
                "integer",
                "Side of a tile (pixels; empty: the size nearest to 640 that is exact)",
                "--tile-size",
                minimum=1,
                advanced=True,
            ),
            Parameter(
                "OPSET", "integer", "Operator set of ONNX", "--opset", default=17, advanced=True
            ),
            OVERWRITE,
            Parameter(
                "OUTPUT",
                "output file",
                "ONNX file",
                "--out",
                required=True,
                pattern="ONNX (*.onnx)",
            ),
        ),
    ),
)
