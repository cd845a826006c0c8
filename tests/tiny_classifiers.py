"""Tiny classifiers of Transformers as people have them in folders: made, and taught for seconds, by the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
)
from transformers import logging as transformers_logging

GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
NEUTRAL = ("the", "film", "was", "a", "story", "of", "day", "and", "we", "saw", "it")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *NEUTRAL, *map(str, range(10))]
LONGEST = 32
CONFIGS: dict[str, Any] = {
    "bert": lambda **more: BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=LONGEST, **more,
    ),
    "distilbert": lambda **more: DistilBertConfig(
        dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=LONGEST, **more
    ),
    "roberta": lambda **more: RobertaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=LONGEST + 2, **more,
    ),
    "gpt2": lambda **more: GPT2Config(
        n_embd=32, n_layer=2, n_head=2, n_positions=LONGEST, bos_token_id=2, eos_token_id=3, **more
    ),
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Of whole words, framed as BERT does."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=LONGEST,
    )  # fmt: skip


def texts(n: int) -> list[tuple[str, str]]:
    """Texts with their labels, pos or neg, by the one word that tells."""
    found = []
    for i in range(n):
        tells = (GOOD, BAD)[i % 2]
        found.append(
            (f"the {NEUTRAL[i % 11]} was {tells[i % 3]} {i % 10} {i // 10 % 10} {i // 100}", ("pos", "neg")[i % 2])
        )
    return found


def classifier(kind: str = "bert", labels: tuple[str, ...] = ("pos", "neg"), taught: bool = True) -> Any:
    """A network whose outputs are these classes in this order; taught, it knows which words are good."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.manual_seed(3)
    names = dict(enumerate(labels))
    config = CONFIGS[kind](
        vocab_size=len(WORDS), pad_token_id=0, id2label=names, label2id={name: i for i, name in names.items()}
    )
    network = AutoModelForSequenceClassification.from_config(config)
    if taught:
        teach(network, labels)
    return network.eval()


def teach(network: Any, labels: tuple[str, ...]) -> None:
    """A few steps on texts; a second."""
    rows = texts(128)
    read = tokenizer()([text for text, _ in rows], padding=True, return_tensors="pt")
    order = ["pos", "neg"] if set(labels) != {"pos", "neg"} else list(labels)
    truth = torch.tensor([order.index(label) for _, label in rows])
    learner = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(25):
        said = network(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(said, truth)
        learner.zero_grad()
        loss.backward()
        learner.step()


def save(network: Any, folder: Path) -> Path:
    """As `save_pretrained` leaves it, with the tokenizer."""
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def table(file: Path, n: int = 400, named: dict[str, str] | None = None) -> Path:
    """A labelled CSV."""
    lines = [f"{text},{(named or {}).get(label, label)}" for text, label in texts(n)]
    file.write_text("text,label\n" + "\n".join(lines) + "\n", "utf-8")
    return file
