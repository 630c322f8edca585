"""Contrastive training of the encoder itself: every batch encodes its texts anew. Imports torch.

Effective batches may be far larger than what one backward pass holds: the batch is encoded without gradients first, the
gradient of the loss with respect to its vectors is kept, and pieces are encoded again to hand it on (gradient caching:
Gao et al., RepL4NLP 2021). Dropout repeats itself, since each piece starts from the same random state.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.tune.kernels.contrastive_loss import Examples, examples, own_items, owner_mask, pooled, softmax_loss
from recsys_spark.tune.kernels.next_item_eval import FIT, VALID, Histories, evaluate_next_item
from recsys_spark.tune.kernels.rng_state import random_states, set_random_states
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder
from recsys_spark.tune.kernels.training_loop import Record

_ROWS = 1024

MOST_ANCHORS = 5
"""Texts of a history that are encoded for one anchor, those that count most."""


class ContrastiveTask:
    """Training an encoder on histories; for ``train``.

    Args:
        texts: of the items; None where there is none: events with such items are left out.
        negatives: further items, drawn evenly, that every anchor of a batch is told from.
        hard: of the items that score best for an anchor as an epoch starts, so many are candidates of its batch too.
        margin: by so much at least a hard negative scores below the positive: nearer ones may be right as well.
        piece: texts in one backward pass; 0 for all at once.
    """

    goal = ("valid_total", True)

    def __init__(
        self,
        texts: Sequence[str | None],
        histories: Histories,
        encoder: TrainableEncoder,
        *,
        fitted: int = FIT,
        temperature: float = 0.07,
        decay: float = 0.75,
        batch: int = 128,
        negatives: int = 128,
        hard: int = 0,
        margin: float = 0.05,
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
        self._most_hard, self._margin = hard, margin
        self._hard, self._hard_epoch = np.empty((len(self._examples.target), 0), np.int64), -1

    def batches(self, epoch: int) -> Sequence[tuple[int, np.ndarray]]:
        """(number, examples) in random order."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples.target))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, np.ndarray], share: float) -> float:
        """Encode, cache gradients, hand them on piece by piece."""
        number, rows = batch
        self._find_hard(number // -(-len(self._examples.target) // self._batch))
        needed = self._needed(number, rows)
        pieces = _pieces(self._lengths[needed], self._piece)
        if len(pieces) == 1:
            loss = self._loss(self._vectors(needed), needed, rows)
            (loss * share).backward()
            return float(loss.detach())
        states, kept = [], torch.empty(len(needed), self.encoder.width, device=self.encoder.device)
        with torch.no_grad():
            for piece in pieces:
                states.append(random_states(self.encoder.device))
                kept[torch.from_numpy(piece)] = self._vectors(needed[piece])
        after = random_states(self.encoder.device)
        kept.requires_grad_(True)
        loss = self._loss(kept, needed, rows)
        (loss * share).backward()
        for piece, state in zip(pieces, states, strict=True):
            set_random_states(state, self.encoder.device)
            vectors = self._vectors(needed[piece])
            vectors.backward(kept.grad[torch.from_numpy(piece)])  # type: ignore[index]
        set_random_states(after, self.encoder.device)
        return float(loss.detach())

    def validate(self) -> Record:
        """As ProjectorTask."""
        found = evaluate_next_item(self.projected(), self._histories, self._decay, VALID)
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
        """AdaLoRA's, and the hard negatives of the epoch: the weights that they were found with are gone."""
        hard = {"hard": torch.from_numpy(self._hard), "hard_epoch": torch.tensor(self._hard_epoch)}
        return self.encoder.state() | hard

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Go on with what ``state`` gave."""
        self._hard, self._hard_epoch = state["hard"].numpy(), int(state["hard_epoch"])
        self.encoder.restore(state, step)

    def _find_hard(self, epoch: int) -> None:
        """(examples, hard) items for the batches of an epoch, −1 where there are fewer."""
        if not self._most_hard or epoch == self._hard_epoch:
            return
        vectors, found = torch.from_numpy(self.projected()), []
        self.module.train()
        for start in range(0, len(self._examples.target), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self._examples.target)))
            owner, context, weight = self._anchors(rows)
            scores = (pooled(vectors, owner, context, weight, len(rows)) @ vectors.T).numpy()
            right = scores[np.arange(len(rows)), self._examples.target[rows]]
            scores[(scores > right[:, None] - self._margin) | ~self._known] = -np.inf
            scores[own_items(self._learned, self._examples.user[rows])] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self._most_hard]
            found.append(np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best))
        self._hard, self._hard_epoch = np.concatenate(found), epoch

    def _vectors(self, items: np.ndarray) -> torch.Tensor:
        return functional.normalize(self.encoder([self._rows[item] for item in items]), dim=1)

    def _anchors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        owner, context, weight = self._examples.of(rows)
        order = np.lexsort((-weight, owner))
        owner, context, weight = owner[order], context[order], weight[order]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = place < MOST_ANCHORS
        return owner[kept], context[kept], weight[kept]

    def _drawn(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self._seed, 1, number))
        able = np.flatnonzero(self._known)
        return rng.choice(able, min(self._negatives, len(able)), replace=False)

    def _needed(self, number: int, rows: np.ndarray) -> np.ndarray:
        """All items of a batch, each once: candidates are the targets and those drawn."""
        self._chosen = np.setdiff1d(self._hard[rows], [-1])
        drawn = np.union1d(self._examples.target[rows], self._drawn(number))
        self._candidates = np.union1d(drawn, self._chosen)
        return np.union1d(self._candidates, self._anchors(rows)[1])

    def _loss(self, vectors: torch.Tensor, needed: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        owner, context, weight = self._anchors(rows)
        anchors = pooled(vectors, owner, np.searchsorted(needed, context), weight, len(rows))
        candidates = self._candidates
        columns = torch.from_numpy(np.searchsorted(needed, candidates))
        scores = anchors @ vectors[columns].T / self._temperature
        target = torch.from_numpy(np.searchsorted(candidates, self._examples.target[rows]))
        even = min(self._negatives, int(self._known.sum())) / max(1, int(self._known.sum()))
        chance = 1 - (1 - even) * (1 - self._chance[candidates]) ** len(rows)
        chance[np.isin(candidates, self._chosen)] = 1.0  # not drawn: they stand for themselves alone
        of, own = own_items(self._learned, self._examples.user[rows])
        there = np.isin(own, candidates)
        masked = owner_mask(of[there], np.searchsorted(candidates, own[there]), (len(rows), len(candidates)))
        device, log_q = scores.device, torch.from_numpy(np.log(chance)).float()
        loss = softmax_loss(scores, target.to(device), log_q.to(device), masked.to(device))
        return loss + self.encoder.regulariser()


def _with_text(histories: Histories, known: np.ndarray) -> Histories:
    kept = known[histories.items]
    return Histories(histories.items[kept], histories.owner[kept], histories.role[kept])


def _pieces(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    order = np.argsort(lengths, kind="stable")
    size = size or len(order)
    return [order[start : start + size] for start in range(0, len(order), size)]
