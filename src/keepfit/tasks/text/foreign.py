"""A classifier that was trained elsewhere with Hugging Face Transformers, read from its folder and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast
from transformers import logging as transformers_logging

from keepfit.errors import InvalidInput
from keepfit.tasks.text.backbone import longest_of, without_dropout
from keepfit.tasks.text.imported import Facts, Kept
from keepfit.tasks.text.network import Classifier, take_head, width_of, without_pooler
from keepfit.tasks.text.preprocessing import RAW

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
SAFE = ("model.safetensors", "model.safetensors.index.json")
CLOSE = 1e-3
"""How far the answers may be from those of Transformers, absolute and relative, before anything is exported."""
CONVERT = (
    "from transformers import AutoModelForSequenceClassification as M; "
    "M.from_pretrained('{0}').save_pretrained('{0}', safe_serialization=True)"
)


@dataclass(frozen=True, eq=False)
class Foreign:
    """What was read: the network in the form of our own ones, and what its folder says of it."""

    kept: Kept
    """Its classes are as its folder calls them, in the order of its outputs."""
    architecture: str
    declared: int
    """The most tokens by its tokenizer's own word; 0 where that says nothing."""


def read(folder: Path, tokenizer: Path | None = None) -> Foreign:
    """The classifier in a folder, with its tokenizer there or in another one.

    Nothing is unpickled and no code of the folder is run. Raises InvalidInput, with the next step, for a folder without
    safetensors, an architecture or a tokenizer that cannot be used, a backbone without a head, weights that are not
    finite, or a tokenizer that does not fit the word table.
    """
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _check_files(folder)
    config = _config(folder)
    words = _tokenizer(tokenizer or folder)
    whole = _network(folder, config)
    labels = _labels(config.id2label)
    _check_weights(whole, words)
    pad = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    network = _as_ours(whole, config, len(labels))
    declared = int(words.model_max_length) if words.model_max_length < 10**6 else 0
    facts = Facts(labels, int(pad or 0), longest_of(config), RAW)
    return Foreign(Kept(network, words.backend_tokenizer.to_str(), facts), type(whole).__name__, declared)


def plain_tokenizer(place: Path) -> tuple[Tokenizer, int, int]:
    """The tokenizer of a folder or file, the id that pads, and the most tokens by its own word (0: it has none).

    Raises InvalidInput as `read`.
    """
    if place.is_file():
        try:
            found = Tokenizer.from_file(str(place))
        except Exception as error:  # the library raises bare Exception
            raise InvalidInput(f"cannot read the tokenizer {place} ({error}); give a tokenizer.json") from error
        ids = (found.token_to_id(token) for token in ("[PAD]", "<pad>", "</s>", "<|endoftext|>"))
        return found, next((number for number in ids if number is not None), 0), 0
    words = _tokenizer(place)
    pad = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    declared = int(words.model_max_length) if words.model_max_length < 10**6 else 0
    return Tokenizer.from_str(words.backend_tokenizer.to_str()), int(pad or 0), declared


def _check_files(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InvalidInput(
            f"{folder} has no config.json, so it is no model of Hugging Face Transformers; give the folder that "
            "`save_pretrained` wrote"
        )
    if any((folder / name).is_file() for name in SAFE):
        return
    pickled = sorted(path.name for kind in PICKLES for path in folder.glob(kind))
    if pickled:
        raise InvalidInput(
            f"{folder} has its weights in {pickled[0]}, a pickle, which can run any code when it is opened, so keepfit "
            "does not; where you trust it, write them as safetensors and import again: "
            f'python -c "{CONVERT.format(folder)}"'
        )
    raise InvalidInput(f"{folder} has no weights (model.safetensors); give the folder that `save_pretrained` wrote")


def _config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
        values = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, ImportError, StrictDataclassError) as error:
        raise InvalidInput(f"{folder}/config.json cannot be used ({_first_line(error)}); {_NO_CODE}") from error
    if values.get("auto_map"):
        raise InvalidInput(f"{folder} brings code of its own, which keepfit does not run; choose another model")
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(f"{folder} is an encoder-decoder; an encoder or a decoder with a head can be imported")
    if getattr(config, "problem_type", None) == "multi_label_classification":
        raise InvalidInput(f"{folder} gives several labels to one text; keepfit keeps classifiers that give one")
    if int(config.num_labels) < 2:
        raise InvalidInput(
            f"{folder} has one output, so it is a regression or a yes-or-no by one number; a classifier with an output "
            "for each class can be imported"
        )
    without_dropout(config)
    return config


_NO_CODE = "only architectures that Transformers itself knows can be imported, without code of the folder"


def _tokenizer(folder: Path) -> Any:
    missing = f"{folder} has no tokenizer that can be used"
    step = "put its tokenizer.json there (`AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER)`), or name one: "
    step += "--tokenizer FOLDER"
    names = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
    if not any((folder / name).is_file() for name in names):  # Transformers would make an empty one up
        raise InvalidInput(f"{missing} ({names[0]} is missing); {step}", "tokenizer")
    try:
        found = AutoTokenizer.from_pretrained(str(folder), use_fast=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers raise bare Exception for damaged files
        raise InvalidInput(f"{missing} ({_first_line(error)}); {step}", "tokenizer") from error
    if not isinstance(found, PreTrainedTokenizerFast):
        raise InvalidInput(f"{missing}: it has no fast form (tokenizer.json); {step}", "tokenizer")
    return found


def _network(folder: Path, config: Any) -> Any:
    try:
        found, told = AutoModelForSequenceClassification.from_pretrained(
            str(folder), config=config, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
        raise InvalidInput(f"the network in {folder} cannot be loaded ({_first_line(error)}); {_NO_CODE}") from error
    lacking = sorted(told.get("missing_keys", ()))
    if lacking:
        raise InvalidInput(
            f"{folder} lacks the weights {', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''}: it is a "
            "backbone, or not whole, and would answer at random; to train it, set recipe.backbone to this folder"
        )
    return found.eval()


def _labels(id2label: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(str(id2label[number]) for number in sorted(id2label, key=int))


def _check_weights(whole: nn.Module, words: Any) -> None:
    for name, weight in whole.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise InvalidInput(f"the weights {name} hold NaN or infinity: the training broke down; export it again")
    table = whole.get_input_embeddings()  # type: ignore[operator]
    check_vocabulary(words.get_vocab(), int(table.num_embeddings))


def check_vocabulary(vocabulary: Mapping[str, int], rows: int) -> None:
    """Raises InvalidInput when the tokenizer has ids that the network's word table lacks."""
    highest = max(vocabulary.values(), default=-1)
    if highest >= rows:
        raise InvalidInput(
            f"the tokenizer has ids up to {highest} and the network's word table {rows} rows: they are not of the same "
            "model; give the tokenizer that it was trained with (--tokenizer FOLDER)",
            "tokenizer",
        )


def _as_ours(whole: Any, config: Any, classes: int) -> Classifier:
    """The network as one of ours, which must give the same; its head apart, its embedding what the head reads."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, max(4, config.vocab_size), (1, 7)))
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        before = whole(input_ids=ids, attention_mask=mask).logits
        if not bool(torch.isfinite(before).all()):
            raise InvalidInput("the network's answers hold NaN or infinity; export it again")
    head = take_head(whole)
    if _reads_each_token(
        whole, ids, mask
    ):  # a decoder, whose head reads every token and takes what it says of the last
        network = Classifier(without_pooler(whole.base_model), "last", classes, width_of(config))
    else:
        network = Classifier(whole, "own", classes, head.in_features)
    with torch.no_grad():
        network.head.weight.copy_(head.weight)
        network.head.bias.copy_(head.bias if head.bias is not None else torch.zeros(classes))
        after = network.eval()(ids, mask)["logits"]
    if not torch.allclose(before, after, rtol=CLOSE, atol=CLOSE):
        raise InvalidInput(
            f"a {type(whole).__name__} makes its answers in a way that keepfit does not know (they differ by "
            f"{float((before - after).abs().max()):.2g}); export it as ONNX, and import that"
        )
    return network


def _reads_each_token(whole: Any, ids: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether the place of the head is given the states of all tokens."""
    shapes: list[int] = []
    inside = f"{whole.base_model_prefix}."
    empty = [m for name, m in whole.named_modules() if isinstance(m, nn.Identity) and not name.startswith(inside)]
    hooks = [m.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].ndim)) for m in empty]
    with torch.inference_mode():
        whole(input_ids=ids, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return bool(shapes) and shapes[-1] == 3


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
