"""The process of one part: ``python -m benchmarks.gpu.child MODULE SETTING FIGURES ENDING``."""

from __future__ import annotations

import importlib
import json
import logging
import sys
import traceback
from pathlib import Path

from benchmarks.gpu.setting import ROOT, Figures, Setting, SkippedError


def main(module: str, setting: str, figures: str, ending: str) -> None:
    """Measure, and say how it ended."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ended = {"status": "done"}
    try:
        measure = importlib.import_module(module).measure
        measure(Setting.from_json(setting), Figures(Path(figures)))
    except SkippedError as e:
        ended = {"status": "skipped", "reason": str(e)}
    except (Exception, SystemExit) as e:
        traceback.print_exc()
        message = " ".join(str(e).split()).replace(f"{ROOT}/", "")
        ended = {"status": "failed", "reason": f"{type(e).__name__}: {message[:500]}"}
    Path(ending).write_text(json.dumps(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
