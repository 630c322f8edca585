"""Contrastive training of the encoder itself: every batch encodes its texts anew. Imports torch.

Effective batches may be far larger than what one backward pass holds: the batch is encoded without gradients first, the
gradient of the loss with respect to its vectors is kept, and pieces are encoded again to hand it on (gradient caching:
Gao et al., RepL4NLP 2021). Dropout repeats itself, since each piece starts from the same random state.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.kernels.contrastive import Examples, examples, pooled, softmax_loss
from recsys_spark.kernels.next_item import FIT, VALID, Histories, judge
from recsys_spark.kernels.training import Record
from recsys_spark.kernels.tunable import Tunable
from recsys_spark.kernels.vectors import Matrix

MOST_ANCHORS = 5
"""Texts of a history that are encoded for one anchor, those that count most."""


class EncodingTask:
    """Training an encoder on histories; for ``train``.

    Args:
        texts: of the items; None where there is none: events with such items are left out.
        negatives: further items, drawn evenly, that every anchor of a batch is told from.
        piece: texts in one backward pass; 0 for all at once.
    """

    goal = ("valid_total", True)

    def __init__(
        self,
        texts: Sequence[str | None],
        histories: Histories,
        encoder: Tunable,
        *,
        fitted: int = FIT,
        temperature: float = 0.07,
        decay: float = 0.75,
        batch: int = 128,
        negatives: int = 128,
        piece: int = 64,
        both_sides: bool = True,
        seed: int = 0,
    ) -> None:
        self.encoder = self.module = encoder
        self.trainable_share = encoder.trainable_share
        self._known = np.array([text is not None for text in texts])
        self._rows = encoder.token_ids([text or "" for text in texts])
        self._lengths = np.array([len(row) for row in self._rows])
        self._histories = _with_text(histories, self._known)
        self._learned = self._histories.upto(fitted)
        self._examples: Examples = examples(self._learned, decay, both_sides=both_sides)
        self._chance = np.bincount(self._examples.target, minlength=len(texts)) / max(1, len(self._examples.target))
        self._temperature, self._decay, self._batch = temperature, decay, batch
        self._negatives, self._piece, self._seed = negatives, piece, seed

    def batches(self, epoch: int) -> Sequence[tuple[int, np.ndarray]]:
        """(number, examples) in random order."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples.target))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, np.ndarray], share: float) -> float:
        """Encode, cache gradients, hand them on piece by piece."""
        number, rows = batch
        needed = self._needed(number, rows)
        pieces = _pieces(self._lengths[needed], self._piece)
        if len(pieces) == 1:
            loss = self._loss(self._vectors(needed), needed, rows)
            (loss * share).backward()
            return float(loss.detach())
        states, kept = [], torch.empty(len(needed), self.encoder.width, device=self.encoder.device)
        with torch.no_grad():
            for piece in pieces:
                states.append(torch.get_rng_state())
                kept[torch.from_numpy(piece)] = self._vectors(needed[piece])
        after = torch.get_rng_state()
        kept.requires_grad_(True)
        loss = self._loss(kept, needed, rows)
        (loss * share).backward()
        for piece, state in zip(pieces, states, strict=True):
            torch.set_rng_state(state)
            vectors = self._vectors(needed[piece])
            vectors.backward(kept.grad[torch.from_numpy(piece)])  # type: ignore[index]
        torch.set_rng_state(after)
        return float(loss.detach())

    def validate(self) -> Record:
        """As ProjectorTask."""
        found = judge(self.projected(), self._histories, self._decay, VALID)
        return {f"valid_{name}": value for name, value in found.figures.items()} | {"valid_total": found.total}

    def projected(self) -> Matrix:
        """(n, d) vectors of all items, zeros for those without a text."""
        self.module.eval()
        found = np.zeros((len(self._rows), self.encoder.width), np.float32)
        rows = np.flatnonzero(self._known)
        with torch.inference_mode():
            for piece in _pieces(self._lengths[rows], 64):
                found[rows[piece]] = self._vectors(rows[piece]).cpu().numpy()
        return found

    def after_step(self, step: int) -> None:
        """AdaLoRA's ranks."""
        self.encoder.after_step(step)

    def settled(self, step: int) -> bool:
        """Whether AdaLoRA's ranks meet the budget."""
        return self.encoder.settled(step)

    def state(self) -> dict[str, torch.Tensor]:
        """AdaLoRA's."""
        return self.encoder.state()

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """AdaLoRA's."""
        self.encoder.restore(state, step)

    def _vectors(self, items: np.ndarray) -> torch.Tensor:
        return functional.normalize(self.encoder([self._rows[item] for item in items]), dim=1)

    def _anchors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        owner, context, weight = self._examples.of(rows)
        order = np.lexsort((-weight, owner))
        owner, context, weight = owner[order], context[order], weight[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = place < MOST_ANCHORS
        return owner[kept], context[kept], weight[kept]

    def _bounds(self, user: int) -> np.ndarray:
        return np.searchsorted(self._learned.owner, [user, user + 1])

    def _drawn(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self._seed, 1, number))
        able = np.flatnonzero(self._known)
        return rng.choice(able, min(self._negatives, len(able)), replace=False)

    def _needed(self, number: int, rows: np.ndarray) -> np.ndarray:
        """All items of a batch, each once: candidates are the targets and those drawn."""
        target = np.union1d(self._examples.target[rows], self._drawn(number))
        self._candidates = target
        return np.union1d(target, self._anchors(rows)[1])

    def _loss(self, vectors: torch.Tensor, needed: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        owner, context, weight = self._anchors(rows)
        anchors = pooled(vectors, owner, np.searchsorted(needed, context), weight, len(rows))
        candidates = self._candidates
        columns = torch.from_numpy(np.searchsorted(needed, candidates))
        scores = anchors @ vectors[columns].T / self._temperature
        target = torch.from_numpy(np.searchsorted(candidates, self._examples.target[rows]))
        even = min(self._negatives, int(self._known.sum())) / max(1, int(self._known.sum()))
        chance = 1 - (1 - even) * (1 - self._chance[candidates]) ** len(rows)
        own = (self._learned.items[slice(*self._bounds(user))] for user in self._examples.user[rows])
        masked = torch.from_numpy(np.stack([np.isin(candidates, items) for items in own]))  # all of them are right
        device = scores.device
        return softmax_loss(
            scores, target.to(device), torch.from_numpy(np.log(chance)).float().to(device), masked.to(device)
        )


def _with_text(histories: Histories, known: np.ndarray) -> Histories:
    kept = known[histories.items]
    return Histories(histories.items[kept], histories.owner[kept], histories.role[kept])


def _pieces(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    order = np.argsort(lengths, kind="stable")
    size = size or len(order)
    return [order[start : start + size] for start in range(0, len(order), size)]
