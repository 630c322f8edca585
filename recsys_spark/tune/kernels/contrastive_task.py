"""Contrastive training of the encoder: each batch encodes its own texts. Imports torch.

A batch may be far larger than one backward pass can hold (gradient caching: Gao et al., RepL4NLP 2021). The batch is
encoded without gradients, and the gradient of the loss with respect to its vectors is cached. Each piece is then
encoded again, and its cached gradient is propagated. Each piece starts from the same random state in both passes, so
that dropout repeats.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.training.kernels.rng_state import random_states, set_random_states
from recsys_spark.training.kernels.training_loop import Record
from recsys_spark.tune.kernels.contrastive_loss import (
    Examples,
    build_examples,
    pool_anchors,
    positives_mask,
    softmax_loss,
    user_items,
)
from recsys_spark.tune.kernels.next_item_eval import FIT, VALID, Histories, evaluate_next_item
from recsys_spark.tune.kernels.trainable_encoder import TrainableEncoder

_EXAMPLES_PER_BLOCK = 1024

MAX_CONTEXT_TEXTS = 5
"""Maximum number of texts encoded for one anchor: the context items with the greatest weights."""


class ContrastiveTask:
    """Train an encoder on histories; a task for ``train``.

    Args:
        texts: of the items; None for an item without a text, whose events are left out.
        fitted: the last role to learn from; VALID events are validated on.
        negatives: uniformly sampled negatives per batch.
        hard: hard negatives per anchor, mined at the start of each epoch; candidates of its whole batch.
        margin: a hard negative scores at least this much below the positive; nearer items may be positives too.
        piece: texts per backward pass; 0 for the whole batch at once.
        both_sides: learn from the events after a target too.
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
        self._has_text = np.array([text is not None for text in texts])
        self._token_ids = encoder.token_ids([text or "" for text in texts])
        self._lengths = np.array([len(ids) for ids in self._token_ids])
        self._histories = _with_text(histories, self._has_text)
        self._fitted = self._histories.upto(fitted)
        self._examples: Examples = build_examples(self._fitted, decay, both_sides=both_sides)
        targets = self._examples.target
        self._target_share = np.bincount(targets, minlength=len(texts)) / max(1, len(targets))
        self._temperature, self._decay, self._batch = temperature, decay, batch
        self._negatives, self._piece, self._seed = negatives, piece, seed
        self._hard_per_anchor, self._margin = hard, margin
        self._hard, self._hard_epoch = np.empty((len(targets), 0), np.int64), -1

    def batches(self, epoch: int) -> Sequence[tuple[int, np.ndarray]]:
        """(batch number, examples) in random order."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._examples.target))
        parts = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        return [(epoch * len(parts) + number, part) for number, part in enumerate(parts)]

    def backward(self, batch: tuple[int, np.ndarray], share: float) -> float:
        """Encode the batch, cache the gradients of its vectors, propagate them piece by piece."""
        number, rows = batch
        self._mine_hard_negatives(number // -(-len(self._examples.target) // self._batch))
        items = self._batch_items(number, rows)
        pieces = _pieces(self._lengths[items], self._piece)
        if len(pieces) == 1:
            loss = self._loss(self._vectors(items), items, rows)
            (loss * share).backward()
            return float(loss.detach())
        states, cached = [], torch.empty(len(items), self.encoder.width, device=self.encoder.device)
        with torch.no_grad():
            for piece in pieces:
                states.append(random_states(self.encoder.device))
                cached[torch.from_numpy(piece)] = self._vectors(items[piece])
        after = random_states(self.encoder.device)
        cached.requires_grad_(True)
        loss = self._loss(cached, items, rows)
        (loss * share).backward()
        for piece, state in zip(pieces, states, strict=True):
            set_random_states(state, self.encoder.device)
            vectors = self._vectors(items[piece])
            vectors.backward(cached.grad[torch.from_numpy(piece)])  # type: ignore[index]
        set_random_states(after, self.encoder.device)
        return float(loss.detach())

    def validate(self) -> Record:
        """Hit rate and NDCG of the validation events, each ranked from the history before it."""
        result = evaluate_next_item(self.item_vectors(), self._histories, self._decay, VALID)
        return {f"valid_{name}": value for name, value in result.figures.items()} | {"valid_total": result.total}

    def item_vectors(self) -> Matrix:
        """(n, d) vectors of all items, zeros for those without a text."""
        vectors = np.zeros((len(self._token_ids), self.encoder.width), np.float32)
        encoded = self.encoder.encode([self._token_ids[item] for item in np.flatnonzero(self._has_text)])
        vectors[self._has_text] = functional.normalize(torch.from_numpy(encoded), dim=1).numpy()
        return vectors

    def after_step(self, step: int) -> None:
        """Update the AdaLoRA ranks."""
        self.encoder.after_step(step)

    def settled(self, step: int) -> bool:
        """Whether the AdaLoRA ranks are within the budget."""
        return self.encoder.settled(step)

    def state(self) -> dict[str, torch.Tensor]:
        """The AdaLoRA state and the hard negatives of the epoch: the weights that mined them no longer exist."""
        hard = {"hard": torch.from_numpy(self._hard), "hard_epoch": torch.tensor(self._hard_epoch)}
        return self.encoder.state() | hard

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Restore what ``state`` returned."""
        self._hard, self._hard_epoch = state["hard"].numpy(), int(state["hard_epoch"])
        self.encoder.restore(state, step)

    def _mine_hard_negatives(self, epoch: int) -> None:
        """Set the (examples, hard) items for the batches of an epoch, −1 where an example has fewer."""
        if not self._hard_per_anchor or epoch == self._hard_epoch:
            return
        vectors, blocks = torch.from_numpy(self.item_vectors()), []
        self.module.train()
        for start in range(0, len(self._examples.target), _EXAMPLES_PER_BLOCK):
            rows = np.arange(start, min(start + _EXAMPLES_PER_BLOCK, len(self._examples.target)))
            owner, context, weight = self._anchors(rows)
            scores = (pool_anchors(vectors, owner, context, weight, len(rows)) @ vectors.T).numpy()
            positive = scores[np.arange(len(rows)), self._examples.target[rows]]
            scores[(scores > positive[:, None] - self._margin) | ~self._has_text] = -np.inf
            scores[user_items(self._fitted, self._examples.user[rows])] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, : self._hard_per_anchor]
            blocks.append(np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best))
        self._hard, self._hard_epoch = np.concatenate(blocks), epoch

    def _vectors(self, items: np.ndarray) -> torch.Tensor:
        return functional.normalize(self.encoder([self._token_ids[item] for item in items]), dim=1)

    def _anchors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The contexts of the examples in ``rows``, cut to their MAX_CONTEXT_TEXTS greatest weights."""
        owner, context, weight = self._examples.contexts(rows)
        order = np.lexsort((-weight, owner))
        owner, context, weight = owner[order], context[order], weight[order]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        encoded = rank < MAX_CONTEXT_TEXTS
        return owner[encoded], context[encoded], weight[encoded]

    def _sampled_negatives(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self._seed, 1, number))
        items = np.flatnonzero(self._has_text)
        return rng.choice(items, min(self._negatives, len(items)), replace=False)

    def _batch_items(self, number: int, rows: np.ndarray) -> np.ndarray:
        """The distinct items of a batch: candidates (targets, sampled and hard negatives) and context."""
        self._batch_hard = np.setdiff1d(self._hard[rows], [-1])
        sampled = np.union1d(self._examples.target[rows], self._sampled_negatives(number))
        self._candidates = np.union1d(sampled, self._batch_hard)
        return np.union1d(self._candidates, self._anchors(rows)[1])

    def _loss(self, vectors: torch.Tensor, items: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        owner, context, weight = self._anchors(rows)
        anchors = pool_anchors(vectors, owner, np.searchsorted(items, context), weight, len(rows))
        candidates = self._candidates
        columns = torch.from_numpy(np.searchsorted(items, candidates))
        scores = anchors @ vectors[columns].T / self._temperature
        target = torch.from_numpy(np.searchsorted(candidates, self._examples.target[rows]))
        owner, positives = user_items(self._fitted, self._examples.user[rows])
        inside = np.isin(positives, candidates)
        shape = (len(rows), len(candidates))
        masked = positives_mask(owner[inside], np.searchsorted(candidates, positives[inside]), shape)
        device, log_q = scores.device, torch.from_numpy(np.log(self._candidate_chance(len(rows)))).float()
        loss = softmax_loss(scores, target.to(device), log_q.to(device), masked.to(device))
        return loss + self.encoder.regulariser()

    def _candidate_chance(self, batch_size: int) -> np.ndarray:
        """(c,) probability that a candidate is in the batch, as a sampled negative or as one of the targets."""
        with_text = int(self._has_text.sum())
        uniform = min(self._negatives, with_text) / max(1, with_text)
        chance = 1 - (1 - uniform) * (1 - self._target_share[self._candidates]) ** batch_size
        chance[np.isin(self._candidates, self._batch_hard)] = 1.0  # mined, not sampled: no correction
        return chance


def _with_text(histories: Histories, has_text: np.ndarray) -> Histories:
    usable = has_text[histories.items]
    return Histories(histories.items[usable], histories.owner[usable], histories.role[usable])


def _pieces(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Positions of the texts in pieces of ``size`` (0: one piece), shortest first, so that padding is small."""
    order = np.argsort(lengths, kind="stable")
    size = size or len(order)
    return [order[start : start + size] for start in range(0, len(order), size)]
