"""The product of two tiles on a GPU. Imports torch: loaded only where a task has a GPU."""

import numpy as np
import torch

from recsys_spark.topk.kernels.shortlist import ErrorBound, Pairs, Rows, Scores, TileProduct


def torch_product(device: str) -> TileProduct:
    """In float32 proper (no TF32); only pairs above the floor leave the device."""
    torch.backends.cuda.matmul.allow_tf32 = False

    @torch.inference_mode()
    def product(
        queries: Scores, items: Scores, floor: Scores, least: np.float32, excluded: Pairs, k: int, error: ErrorBound
    ) -> tuple[Rows, Rows, Scores]:
        scores = torch.from_numpy(queries).to(device) @ torch.from_numpy(items).to(device).T
        rows, columns = (torch.from_numpy(part.astype(np.int64)).to(device) for part in excluded)
        scores[rows, columns] = -torch.inf
        without = np.flatnonzero(np.isneginf(floor))
        if 0 < k < len(items) and len(without):
            kth = scores[torch.from_numpy(without).to(device)].topk(k, dim=1, sorted=True).values[:, -1]
            floor[without] = error.rival(kth.cpu().numpy())
        found = torch.nonzero(scores >= torch.from_numpy(np.maximum(floor, least)).to(device)[:, None], as_tuple=True)
        return found[0].cpu().numpy(), found[1].cpu().numpy(), scores[found].cpu().numpy()

    return TileProduct(product, 8192, 65_536)
