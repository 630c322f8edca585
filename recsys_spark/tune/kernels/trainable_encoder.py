"""An encoder that can be trained: the transformer of a folder, its pooling, adapters by peft. Imports torch."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recsys_spark.encode.kernels.encoder import CHARS_PER_TOKEN, pool, prompt_length
from recsys_spark.encode.kernels.loading import load_tokenizer, load_transformer
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.errors import UsageError

TUNINGS = ("full", "lora", "adalora", "ia3", "head")

_MEMORY = ("ipt", "exp_avg_ipt", "exp_avg_unc")

_COPIED = (".json", ".txt", ".model")

_OWN = ("modules.json", "model.safetensors.index.json")  # of the base's own layers and files


@dataclass(frozen=True)
class AdapterConfig:
    """What of the encoder is trained. ``steps``: all optimizer steps, which AdaLoRA plans its ranks by."""

    tuning: str = "lora"
    rank: int = 8
    dropout: float = 0.05
    steps: int = 1000


class TrainableEncoder(torch.nn.Module):
    """Texts to pooled vectors, trainable as ``adapting`` says. ``model`` is the transformer, or peft's around it."""

    def __init__(self, spec: ModelSpec, adapting: AdapterConfig, device: str = "cpu", seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)  # adapters start at random
        self.spec, self.adapting, self.device = spec, adapting, device
        self.tokenizer = load_tokenizer(spec.folder)
        self._left_out = 0 if spec.include_prompt else prompt_length(self.tokenizer, spec)
        plain = load_transformer(spec.folder, torch.float32)
        plain.config.use_cache = False
        self.width = int(plain.config.get_text_config().hidden_size) * len(spec.pooling.split("+"))
        self.model = _adapted(plain, adapting).to(device)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, prompt first, cut at the longest text of the model."""
        cap = CHARS_PER_TOKEN * self.spec.max_length
        texts = [self.spec.prepared(text)[:cap] for text in texts]
        found = self.tokenizer(texts, truncation=True, max_length=self.spec.max_length)["input_ids"]
        return [row or [self.tokenizer.pad_token_id] for row in found]

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """(n, d) pooled vectors of token ids, padded to the longest of them."""
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.startswith("cuda")):
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        left_out = torch.full((len(rows),), self._left_out, device=mask.device) if self._left_out else None
        return pool(hidden.float(), mask, self.spec.pooling, left_out)

    @property
    def trainable_share(self) -> float:
        """Of the encoder's weights, those that move. AdaLoRA's are counted as they are allocated at the start."""
        weights = list(self.model.parameters())
        return sum(p.numel() for p in weights if p.requires_grad) / sum(p.numel() for p in weights)

    def after_step(self, step: int) -> None:
        """AdaLoRA: count how much each rank matters, and take ranks away; plain LoRA without this call."""
        if self.adapting.tuning == "adalora":
            self.model.base_model.update_and_allocate(step)

    def regulariser(self) -> torch.Tensor | float:
        """AdaLoRA: what keeps its factors orthogonal, so that ranks can be told from each other; to add to the loss.
        peft adds it by itself only where a model gives a loss."""
        if self.adapting.tuning != "adalora":
            return 0.0
        factors = [(n, p) for n, p in self.model.named_parameters() if "lora_A" in n or "lora_B" in n]
        products = [p @ p.T if "lora_A" in n else p.T @ p for n, p in factors]
        apart = [torch.linalg.norm(part - torch.eye(len(part), device=part.device)) for part in products]
        weight = self.model.base_model.peft_config["default"].orth_reg_weight
        return weight * torch.stack(apart).mean()

    def settled(self, step: int) -> bool:
        """AdaLoRA: whether all ranks were taken away that have to go."""
        return self.adapting.tuning != "adalora" or step >= self.adapting.steps - _final(self.adapting.steps)

    def state(self) -> dict[str, torch.Tensor]:
        """AdaLoRA: what it knows of the ranks, for a checkpoint."""
        if self.adapting.tuning != "adalora":
            return {}
        known = self.model.base_model.rankallocator
        return {f"{kind}/{n}": value for kind in _MEMORY for n, value in getattr(known, kind).items()}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """AdaLoRA: go on with what ``state`` gave."""
        if self.adapting.tuning != "adalora":
            return
        known = self.model.base_model.rankallocator
        for kind in _MEMORY:
            own = {n.partition("/")[2]: value for n, value in state.items() if n.startswith(f"{kind}/")}
            setattr(known, kind, own)
        if self.settled(step):
            kept = {n: (p != 0).flatten().tolist() for n, p in self.model.named_parameters() if "lora_E" in n}
            known.peft_config.rank_pattern = kept

    def ranks(self) -> dict[str, int]:
        """AdaLoRA: the rank that each layer has now."""
        kept = {n: p for n, p in self.model.named_parameters() if "lora_E" in n}
        return {
            name.rpartition(".lora_E")[0].rpartition("encoder.")[2]: int((p != 0).sum()) for name, p in kept.items()
        }

    def merged(self) -> Any:
        """The transformer with what was learned added to its weights: it costs what the base costs."""
        if self.adapting.tuning in ("full", "head"):
            return self.model
        self.model = self.model.merge_and_unload()
        return self.model

    def save(self, folder: Path) -> None:
        """Merged weights as safetensors, and the base's tokenizer, pooling and prompts."""
        folder.mkdir(parents=True)
        self.merged().save_pretrained(folder, safe_serialization=True)
        copy_base(Path(self.spec.folder), folder)


def chosen_device(device: str) -> str:
    """``auto``: a GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def copy_base(base: Path, folder: Path) -> None:
    """What makes a folder of weights a model folder, from the base: configuration, tokenizer, prompts. Pooling and
    modules are for the caller to write."""
    for path in [*sorted(transformer_folder(base).iterdir()), *sorted(base.iterdir())]:
        if path.is_file() and path.suffix in _COPIED and path.name not in _OWN and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def _adapted(model: Any, adapting: AdapterConfig) -> Any:
    if adapting.tuning == "full":
        return model.requires_grad_(True)
    if adapting.tuning == "head":
        return model.requires_grad_(False)
    try:
        import peft
    except ImportError as error:
        raise UsageError(f"tuning '{adapting.tuning}' needs the package peft (extra 'train' of setup.py)") from error
    linear: dict[str, Any] = {"task_type": "FEATURE_EXTRACTION", "target_modules": _attention(model)}
    if adapting.tuning == "ia3":
        return peft.get_peft_model(model, peft.IA3Config(feedforward_modules=[], **linear))
    linear |= {"lora_alpha": 2 * adapting.rank, "lora_dropout": adapting.dropout}
    if adapting.tuning == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=adapting.rank, **linear))
    steps = max(adapting.steps, 10)
    plan: dict[str, Any] = {
        "tinit": steps // 10,
        "tfinal": _final(steps),
        "deltaT": max(1, steps // 100),
        "total_step": steps,
    }
    config = peft.AdaLoraConfig(target_r=adapting.rank, init_r=math.ceil(1.5 * adapting.rank), **plan, **linear)
    return peft.get_peft_model(model, config)


def _final(steps: int) -> int:
    """AdaLoRA: the last steps, in which ranks stay as they are."""
    return math.ceil(steps * 0.3)


def _attention(model: Any) -> list[str]:
    """Names of the layers that make queries and values, as LoRA's authors chose them (Hu et al., ICLR 2022)."""
    known = {name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "weight")}
    for names in (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v"), ("c_attn",), ("Wqkv",)):
        if known >= set(names):
            return list(names)
    raise UsageError("this architecture has no layers that adapters are known for: use --tuning=full or head")
