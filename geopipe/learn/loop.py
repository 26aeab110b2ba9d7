"""One training loop for every network: seeded, resumable, with a record of its loss."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import AllowInfNan, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.files import atomic_file
from geopipe.learn.schedule import constant
from geopipe.progress import progress
from geopipe.regularfile import require_regular
from geopipe.tensors import TensorFile
from geopipe.validation import STORED, Count, Schema, Text, parse_json, read_json

log = logging.getLogger(__name__)

RECORD_EVERY = 10
"""Steps whose mean loss makes one point of the curve."""
SAVE_EVERY_S = 30.0
RESUME = ".resume"
"""What the name of a model's file is continued by while it is trained."""


@dataclass
class TrainingHistory:
    """The record of a training: mean losses and, where asked for, scores while training."""

    __pydantic_config__: ClassVar[ConfigDict] = STORED
    steps: list[Count] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    checks: list[tuple[Count, Annotated[float, AllowInfNan(True)]]] = field(default_factory=list)
    """(step, value) of the `check` function; NaN where it finds no class."""
    resumed_at: Count = 0

    def save(self, path: Path) -> None:
        """Write `path` (JSON), whole or not at all."""
        with atomic_file(path) as part:
            part.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "TrainingHistory":
        """Inverse of `save`."""
        history = read_json(path, cls, ConfigError, "remove it; the step runs again")
        if len(history.steps) != len(history.losses):
            raise ConfigError(
                f"{path} is damaged: losses: {len(history.losses)} for {len(history.steps)} steps",
                "remove it; the step runs again",
            )
        return history


def backward(loss: Callable[[int], Tensor]) -> Callable[[int], float]:
    """``gradient(step)`` of ``loss(step)``, for `fit`."""

    def gradient(step: int) -> float:
        value = loss(step)
        value.backward()
        return value.item()

    return gradient


def fit(
    net: nn.Module,
    gradient: Callable[[int], float],
    optimizer: torch.optim.Optimizer,
    steps: int,
    *,
    label: str,
    resume: Path,
    key: str,
    rate: Callable[[float], float] = constant,
    check: Callable[[], float] | None = None,
    check_every: int = 0,
) -> TrainingHistory:
    """Take `steps` steps of `optimizer`.

    ``gradient(step)`` leaves a batch's gradient in ``.grad`` and returns its loss; ``rate(share)``
    is what the learning rates are multiplied by when that share of the steps is done. The state is
    saved to `resume` every tenth step, once half a minute has gone by, whole or not at all; a
    training killed after that goes on there if it has the same `key` (a digest of data and
    parameters), and the file is removed at the end. Raises ConfigError when the loss is no longer
    finite.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    record = _restore(net, optimizer, resume, key, steps)
    if record.resumed_at:
        log.info("%s: goes on after %d of %d steps", label, record.resumed_at, steps)
    start, saved, recent = record.resumed_at, time.monotonic(), []
    with _stoppable(resume), progress(label, steps, start) as advance:
        for step in range(start, steps):
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate(step / steps)
            optimizer.zero_grad(set_to_none=True)
            recent.append(gradient(step))
            optimizer.step()
            if (step + 1) % RECORD_EVERY == 0 or step + 1 == steps:
                mean = sum(recent) / len(recent)
                if mean != mean or mean == float("inf"):
                    raise ConfigError(
                        f"{label}: the loss is {mean} at step {step + 1}",
                        "lower the learning rate",
                    )
                record.steps.append(step + 1)
                record.losses.append(mean)
                recent = []
                advance(0, f"loss {mean:.3f}")
            if check and ((step + 1) % check_every == 0 or step + 1 == steps):
                record.checks.append((step + 1, check()))
            if not recent and time.monotonic() - saved > SAVE_EVERY_S:
                _save(net, optimizer, resume, key, record, step + 1)
                saved = time.monotonic()
            advance()
    resume.unlink(missing_ok=True)
    return record


@contextmanager
def _stoppable(resume: Path) -> Iterator[None]:
    """Tell who stops a training that it is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        if resume.is_file():
            log.warning("%s keeps what is learnt: the same command goes on", resume)
        raise


def _save(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    path: Path,
    key: str,
    record: TrainingHistory,
    step: int,
) -> None:
    tensors = {f"net.{k}": v.contiguous() for k, v in net.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{i}.{name}"] = value.contiguous()
    header = {
        "key": key,
        "step": step,
        "steps": record.steps,
        "losses": record.losses,
        "checks": record.checks,
    }
    with atomic_file(path, SafetensorError, parents=True) as part:
        save_file(tensors, part, {"fit": json.dumps(header)})


class _Saved(Schema):
    """The header of an interrupted training."""

    key: Text
    step: Count
    steps: list[Count]
    losses: list[float]
    checks: list[tuple[Count, Annotated[float, AllowInfNan(True)]]]


def _restore(
    net: nn.Module, optimizer: torch.optim.Optimizer, path: Path, key: str, steps: int
) -> TrainingHistory:
    """The record of an interrupted training with the same key, its state loaded; else a new one.

    A damaged file is told of, and the training begins anew.
    """
    if not require_regular(path, ConfigError):
        return TrainingHistory()
    try:
        file = TensorFile.open(path, ConfigError)
        source = f"the header of {path}"
        saved = parse_json(file.metadata.get("fit", ""), _Saved, source, ConfigError, "")
        if saved.key != key:
            return TrainingHistory()
        if saved.step > steps or len(saved.steps) != len(saved.losses):
            raise ConfigError(f"{source} is damaged: step: {saved.step} of {steps}")
        state = _state_of(net, optimizer, file)
    except ConfigError as e:
        log.warning("%s; the training begins anew", e.message)
        return TrainingHistory()
    net.load_state_dict(state.pop(-1))
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return TrainingHistory(saved.steps, saved.losses, saved.checks, saved.step)


def _state_of(
    net: nn.Module, optimizer: torch.optim.Optimizer, file: TensorFile
) -> dict[int, dict[str, Tensor]]:
    """By number of the parameter what the optimizer keeps of it; at -1 the network's tensors.

    Raises ConfigError where a name or a shape is not of them, or a value is not finite.
    """
    device = next(net.parameters()).device
    shapes = {f"net.{name}": tuple(value.shape) for name, value in net.state_dict().items()}
    needed = dict(shapes)
    parameters = [tuple(p.shape) for group in optimizer.param_groups for p in group["params"]]
    for name, info in file.tensors.items():
        kind, _, rest = name.partition(".")
        index, _, part = rest.partition(".")
        if kind == "optimizer" and part and index.isdecimal() and int(index) < len(parameters):
            needed[name] = () if info.shape == () else parameters[int(index)]
        if needed.get(name) != info.shape:
            raise ConfigError(f"{file.path} is damaged: {name}: its shape is {list(info.shape)}")
    if missing := [name for name in shapes if name not in file.tensors]:
        raise ConfigError(f"{file.path} is damaged: '{missing[0]}' is missing")
    state: dict[int, dict[str, Tensor]] = {-1: {}}
    for name, value in load(file.read()).items():
        if not torch.isfinite(value).all():
            raise ConfigError(f"{file.path} is damaged: {name}: values that are not finite")
        kind, _, rest = name.partition(".")
        if kind == "net":
            state[-1][rest] = value
        else:
            index, _, part = rest.partition(".")
            state.setdefault(int(index), {})[part] = value.to(device)
    kept = {frozenset(parts) for index, parts in state.items() if index >= 0}
    if len(kept) > 1:
        raise ConfigError(f"{file.path} is damaged: the optimizer keeps more of some parameters")
    return state
