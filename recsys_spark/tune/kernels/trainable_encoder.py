"""A trainable encoder: the transformer of a model folder, its pooling, adapters by peft. Imports torch."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.encode.kernels.encoder import CHARS_PER_TOKEN, pool, prompt_length
from recsys_spark.encode.kernels.loading import load_tokenizer, load_transformer
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.errors import UsageError

TUNINGS = ("full", "lora", "adalora", "ia3", "head")

_TEXTS_PER_PASS = 64

_ALLOCATOR_STATE = ("ipt", "exp_avg_ipt", "exp_avg_unc")

_COPIED_SUFFIXES = (".json", ".txt", ".model")

_NOT_COPIED = ("modules.json", "model.safetensors.index.json")  # they list the layers and weight files of the base


@dataclass(frozen=True)
class AdapterConfig:
    """The trainable part of an encoder. ``steps``: all optimizer steps, over which AdaLoRA schedules its ranks."""

    tuning: str = "lora"
    rank: int = 8
    dropout: float = 0.05
    steps: int = 1000


class TrainableEncoder(torch.nn.Module):
    """Token ids to pooled vectors, trainable as ``adapters`` configures. ``model`` is the transformer or, with
    adapters, peft's wrapper of it."""

    def __init__(self, spec: ModelSpec, adapters: AdapterConfig, device: str = "cpu", seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)  # adapters are initialised at random
        self.spec, self.adapters, self.device = spec, adapters, device
        self.tokenizer = load_tokenizer(spec.folder)
        self._left_out = 0 if spec.include_prompt else prompt_length(self.tokenizer, spec)
        base = load_transformer(spec.folder, torch.float32)
        base.config.use_cache = False
        self.width = int(base.config.get_text_config().hidden_size) * len(spec.pooling.split("+"))
        self.model = _with_adapters(base, adapters).to(device)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text after the prompt, truncated to the model's maximum length."""
        cap = CHARS_PER_TOKEN * self.spec.max_length
        texts = [self.spec.prepared(text)[:cap] for text in texts]
        rows = self.tokenizer(texts, truncation=True, max_length=self.spec.max_length)["input_ids"]
        return [row or [self.tokenizer.pad_token_id] for row in rows]

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(n, d) pooled vectors of n rows of token ids, padded to the longest row."""
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = torch.tensor(row), 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        left_out = torch.full((len(rows),), self._left_out, device=mask.device) if self._left_out else None
        return pool(hidden.float(), mask, self.spec.pooling, left_out)

    def encode(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """(n, d) pooled vectors of n rows of token ids, without dropout and gradients, shortest first."""
        self.eval()
        vectors = np.zeros((len(rows), self.width), np.float32)
        order = np.argsort([len(row) for row in rows], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), _TEXTS_PER_PASS):
                batch = order[start : start + _TEXTS_PER_PASS]
                vectors[batch] = self([rows[row] for row in batch]).cpu().numpy()
        return vectors

    @property
    def trainable_share(self) -> float:
        """Trainable share of the encoder's weights; AdaLoRA's are counted as allocated at the start."""
        weights = list(self.model.parameters())
        return sum(p.numel() for p in weights if p.requires_grad) / sum(p.numel() for p in weights)

    def after_step(self, step: int) -> None:
        """AdaLoRA: update the importance of each rank and prune; without this call it is plain LoRA."""
        if self.adapters.tuning == "adalora":
            self.model.base_model.update_and_allocate(step)

    def regulariser(self) -> torch.Tensor | float:
        """AdaLoRA: the orthogonality penalty to add to the loss, which keeps ranks distinct; 0 for other methods.
        peft adds it itself only if the model returns a loss."""
        if self.adapters.tuning != "adalora":
            return 0.0
        factors = [(n, p) for n, p in self.model.named_parameters() if "lora_A" in n or "lora_B" in n]
        products = [p @ p.T if "lora_A" in n else p.T @ p for n, p in factors]
        distances = [torch.linalg.norm(part - torch.eye(len(part), device=part.device)) for part in products]
        weight = self.model.base_model.peft_config["default"].orth_reg_weight
        return weight * torch.stack(distances).mean()

    def settled(self, step: int) -> bool:
        """AdaLoRA: whether pruning has ended, so that the ranks are within the budget; True for other methods."""
        return self.adapters.tuning != "adalora" or step >= self.adapters.steps - _final_steps(self.adapters.steps)

    def state(self) -> dict[str, torch.Tensor]:
        """AdaLoRA: the rank statistics for a checkpoint; empty for other methods."""
        if self.adapters.tuning != "adalora":
            return {}
        allocator = self.model.base_model.rankallocator
        return {f"{kind}/{n}": value for kind in _ALLOCATOR_STATE for n, value in getattr(allocator, kind).items()}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """AdaLoRA: restore what ``state`` returned."""
        if self.adapters.tuning != "adalora":
            return
        allocator = self.model.base_model.rankallocator
        for kind in _ALLOCATOR_STATE:
            statistics = {n.partition("/")[2]: value for n, value in state.items() if n.startswith(f"{kind}/")}
            setattr(allocator, kind, statistics)
        if self.settled(step):
            nonzero = {n: (p != 0).flatten().tolist() for n, p in self.model.named_parameters() if "lora_E" in n}
            allocator.peft_config.rank_pattern = nonzero

    def ranks(self) -> dict[str, int]:
        """AdaLoRA: the current rank of each layer."""
        singular = {n: p for n, p in self.model.named_parameters() if "lora_E" in n}
        return {
            name.rpartition(".lora_E")[0].rpartition("encoder.")[2]: int((p != 0).sum()) for name, p in singular.items()
        }

    def merged(self) -> Any:
        """The transformer with the adapters merged into its weights: inference costs as much as with the base."""
        if self.adapters.tuning in ("full", "head"):
            return self.model
        self.model = self.model.merge_and_unload()
        return self.model

    def save(self, folder: Path) -> None:
        """Write the merged weights as safetensors, and copy the base's tokenizer, pooling and prompts."""
        folder.mkdir(parents=True)
        self.merged().save_pretrained(folder, safe_serialization=True)
        copy_base(Path(self.spec.folder), folder)


def chosen_device(device: str) -> str:
    """The device to use; ``auto`` is a GPU if there is one, else the CPU."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def copy_base(base: Path, folder: Path) -> None:
    """Copy configuration, tokenizer and prompts of the base to a folder of weights. The caller writes pooling and
    modules."""
    for path in [*sorted(transformer_folder(base).iterdir()), *sorted(base.iterdir())]:
        copied = path.is_file() and path.suffix in _COPIED_SUFFIXES and path.name not in _NOT_COPIED
        if copied and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _with_adapters(model: Any, adapters: AdapterConfig) -> Any:
    if adapters.tuning == "full":
        return model.requires_grad_(True)
    if adapters.tuning == "head":
        return model.requires_grad_(False)
    try:
        import peft
    except ImportError as error:
        raise UsageError(f"tuning '{adapters.tuning}' needs the package peft (extra 'train' of setup.py)") from error
    common: dict[str, Any] = {"task_type": "FEATURE_EXTRACTION", "target_modules": _attention(model)}
    if adapters.tuning == "ia3":
        return peft.get_peft_model(model, peft.IA3Config(feedforward_modules=[], **common))
    common |= {"lora_alpha": 2 * adapters.rank, "lora_dropout": adapters.dropout}
    if adapters.tuning == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=adapters.rank, **common))
    steps = max(adapters.steps, 10)
    schedule: dict[str, Any] = {
        "tinit": steps // 10,
        "tfinal": _final_steps(steps),
        "deltaT": max(1, steps // 100),
        "total_step": steps,
    }
    config = peft.AdaLoraConfig(target_r=adapters.rank, init_r=math.ceil(1.5 * adapters.rank), **schedule, **common)
    return peft.get_peft_model(model, config)


def _final_steps(steps: int) -> int:
    """AdaLoRA: the number of last steps, in which the ranks are fixed."""
    return math.ceil(steps * 0.3)


def _attention(model: Any) -> list[str]:
    """Names of the query and value projections, the layers that LoRA adapts (Hu et al., ICLR 2022)."""
    layers = {name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "weight")}
    for names in (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v"), ("c_attn",), ("Wqkv",)):
        if layers >= set(names):
            return list(names)
    raise UsageError(
        "this architecture has no attention layers with names that adapters support: use --tuning=full or head"
    )
