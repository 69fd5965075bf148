"""A finding: what one rule saw at one step, with the number it saw and the number it compared."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    step: int
    tensor: str
    """A parameter's name, gradient/<name> for its gradient, a layer, `loss`, `gpu0`."""
    value: float
    threshold: float
    verdict: str
    """What was seen, in words that name both numbers' meaning."""
    advice: str
    time: float = 0.0
    """Seconds since the epoch."""

    def sentence(self) -> str:
        """For the log and for the failure reason."""
        return f"{self.rule} at step {self.step}: {self.tensor}: {self.verdict}. {self.advice}"

    def line(self) -> str:
        """JSON, with null for what JSON has no number for."""
        document = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        return json.dumps(document, ensure_ascii=False)
