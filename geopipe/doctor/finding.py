"""What a probe says, and how its failure becomes one more thing said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `advice` says what to do where `status` is not ok."""

    group: str
    name: str
    value: str
    status: Status = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Probe:
    """Something to look at, which may fail without taking others down."""

    group: str
    name: str
    find: Callable[[], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    """Modules; where one cannot be imported, that is told once and the probe is left out."""

    def findings(self) -> list[Finding]:
        """What the probe found; should it break, what it found until then and a problem."""
        findings: list[Finding] = []
        try:
            findings.extend(self.find())
        except (Exception, SystemExit) as e:
            advice = reinstall(self.needs[0]) if self.needs else "mend what the message names"
            findings.append(Finding(self.group, self.name, error_text(e), "problem", advice))
        return findings


def rated(
    group: str, name: str, value: str, advice: str = "", failed_status: Status = "warning"
) -> Finding:
    """ok without `advice`, else `failed_status`."""
    return Finding(group, name, value, failed_status if advice else "ok", advice)


def error_text(e: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(e).__name__}: {e}".split())[:300]


def size(n_bytes: float) -> str:
    """Bytes as people say them."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def reinstall(module: str) -> str:
    """The advice for a library that does not work."""
    return f"install it anew: python -m pip install --force-reinstall {module.split('.')[0]}"
