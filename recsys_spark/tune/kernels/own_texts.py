"""One's own texts, for language modelling."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class OwnTexts:
    """Distinct texts and their parts (n,), FIT, VALID or TEST of ``next_item_eval``."""

    texts: list[str]
    part: NDArray[np.int8]

    @property
    def digest(self) -> str:
        """Identifies the texts and their parts."""
        digest = hashlib.sha256(self.part.tobytes())
        for text in self.texts:
            digest.update(text.encode() + b"\0")
        return digest.hexdigest()[:16]
