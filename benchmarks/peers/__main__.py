"""Run one peer and print its outcome as JSON: ``python -m benchmarks.peers plain --scene ...``."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

PEERS = {
    "limit": "limit:limit",
    "plain": "loops:plain",
    "tuned": "loops:tuned",
    "tuned-threads": "threaded:tuned_threads",
    "dask": "dask_overlap:dask_overlap",
    "torchgeo": "torchgeo_grid:torchgeo_grid",
    "as-written": "loops:as_written",
}
"""Module and function of each; only the one that runs is imported."""


def main() -> None:
    """Run a peer; with --check only import what it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", type=int)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--loaders", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="of plain and torchgeo")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    module, name = PEERS[args.peer].split(":")
    peer = importlib.import_module(f"benchmarks.peers.{module}")
    if args.check:
        if args.peer == "torchgeo":
            peer.import_torchgeo()
        return
    import rasterio
    import torch

    from benchmarks.peers.job import Job

    done = getattr(peer, name)(
        Job(args.scene, args.model, args.out, args.part, args.precision, args.loaders, args.device)
    )
    report = {
        "seconds": done.seconds,
        "pixels": done.pixels,
        "threads": torch.get_num_threads(),
        "notes": done.notes,
        "versions": {
            "torch": torch.__version__,
            "rasterio": rasterio.__version__,
            "gdal": rasterio.__gdal_version__,
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
