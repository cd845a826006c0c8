"""Infinity's engine without its server, over a file of texts (JSON): the best of some batch sizes, rate and answers."""

import asyncio
import json
import os
import sys
import time

import torch
from infinity_emb import AsyncEngineArray, EngineArgs

torch.set_num_threads(int(os.environ["TORCH_THREADS"]))


async def main() -> None:
    """Classify all at once; the engine sorts and batches by itself."""
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = json.load(file)
    rates = {}
    for size in (int(size) for size in sys.argv[3].split(",")):
        rates[size], _ = await rate(size, texts[:: max(1, len(texts) // int(sys.argv[2]))])
    best = max(rates, key=rates.get)
    per_s, said = await rate(best, texts)
    answers = dict(zip(texts, map(top, said), strict=True))
    print(json.dumps({"rates": rates, "best": best, "per_s": per_s, "answers": answers}))


async def rate(size: int, some: list) -> tuple[float, list]:
    """Texts a second in batches of this size at most, after a few that do not count; and what was said of them."""
    args = EngineArgs(
        model_name_or_path=os.environ["MODEL"], engine="torch", device="cpu", batch_size=size, lengths_via_tokenize=True
    )
    engine = AsyncEngineArray.from_args([args])[0]
    async with engine:
        await engine.classify(sentences=some[:8])
        began = time.perf_counter()
        said, _ = await engine.classify(sentences=some)
        return len(some) / (time.perf_counter() - began), said


def top(scores: list) -> str:
    """The label with the highest score."""
    return max(scores, key=lambda one: one["score"])["label"]


asyncio.run(main())
