"""Product of two tiles on a GPU. Imports torch, so it is loaded only in tasks that have a GPU."""

import numpy as np
import torch

from recsys_spark.topk.kernels.routes import Excluded, Rows
from recsys_spark.topk.kernels.shortlist import ErrorBound, Scores, TileProduct


def torch_product(device: str) -> TileProduct:
    """Multiply in float32 (no TF32) on ``device``; only pairs at or above the floor leave it."""
    torch.backends.cuda.matmul.allow_tf32 = False

    @torch.inference_mode()
    def multiply(
        queries: Scores,
        items: Scores,
        floor: Scores,
        min_product: np.float32,
        excluded: Excluded,
        k: int,
        error: ErrorBound,
    ) -> tuple[Rows, Rows, Scores]:
        scores = torch.from_numpy(queries).to(device) @ torch.from_numpy(items).to(device).T
        if isinstance(excluded, np.ndarray):
            scores[torch.from_numpy(excluded).to(device)] = -torch.inf
        else:
            rows, columns = (torch.from_numpy(part.astype(np.int64)).to(device) for part in excluded)
            scores[rows, columns] = -torch.inf
        unbounded = np.flatnonzero(np.isneginf(floor))
        if 0 < k < len(items) and len(unbounded):
            kth = scores[torch.from_numpy(unbounded).to(device)].topk(k, dim=1, sorted=True).values[:, -1]
            floor[unbounded] = error.rival(kth.cpu().numpy())
        bounds = torch.from_numpy(np.maximum(floor, min_product)).to(device)
        above = torch.nonzero(scores >= bounds[:, None], as_tuple=True)
        return above[0].cpu().numpy(), above[1].cpu().numpy(), scores[above].cpu().numpy()

    return TileProduct(multiply, 8192, 65_536)
