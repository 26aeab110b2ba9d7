"""One training loop for every network: seeded, resumable, with a record of its loss."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geopipe.errors import ConfigError
from geopipe.files import atomic_file
from geopipe.learn.schedule import constant
from geopipe.progress import progress

log = logging.getLogger(__name__)

RECORD_EVERY = 10
"""Steps whose mean loss makes one point of the curve."""
SAVE_EVERY_S = 30.0
RESUME = ".resume"
"""What the name of a model's file is continued by while it is trained."""


@dataclass
class TrainingHistory:
    """The record of a training: mean losses and, where asked for, scores while training."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    checks: list[tuple[int, float]] = field(default_factory=list)
    """(step, value) of the `check` function."""
    resumed_at: int = 0

    def save(self, path: Path) -> None:
        """Write `path` (JSON), whole or not at all."""
        with atomic_file(path) as part:
            part.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "TrainingHistory":
        """Inverse of `save`."""
        return cls(**json.loads(path.read_text()))


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
    saved to `resume` at least once a minute, whole or not at all; a training killed after that
    goes on there if it has the same `key` (a digest of data and parameters), and the file is
    removed at the end. Raises ConfigError when the loss is no longer finite.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    record = _restore(net, optimizer, resume, key)
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


def _restore(
    net: nn.Module, optimizer: torch.optim.Optimizer, path: Path, key: str
) -> TrainingHistory:
    """The record of an interrupted training with the same key, its state loaded; else a new one."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["fit"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, json.JSONDecodeError):
        return TrainingHistory()
    if header["key"] != key:
        return TrainingHistory()
    device = next(net.parameters()).device
    net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, part = name.split(".", 2)
            state.setdefault(int(index), {})[part] = value.to(device)
    optimizer_state = optimizer.state_dict()
    optimizer.load_state_dict({**optimizer_state, "state": state})
    checks = [(int(s), float(v)) for s, v in header["checks"]]
    return TrainingHistory(header["steps"], header["losses"], checks, header["step"])
