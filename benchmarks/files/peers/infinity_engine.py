"""Infinity's engine without its server, over a file of texts (JSON): the rate and the answers."""

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
    found = []
    for size in (int(size) for size in sys.argv[3].split(",")):
        args = EngineArgs(
            model_name_or_path=os.environ["MODEL"],
            engine="torch",
            device="cpu",
            batch_size=size,
            lengths_via_tokenize=True,
        )
        engine = AsyncEngineArray.from_args([args])[0]
        async with engine:
            some = texts[:: max(1, len(texts) // int(sys.argv[2]))]
            await engine.classify(sentences=some[:8])
            began = time.perf_counter()
            said, _ = await engine.classify(sentences=some)
            found.append(
                (len(some) / (time.perf_counter() - began), size, dict(zip(some, map(top, said), strict=True)))
            )
    rate, size, answers = max(found, key=lambda one: one[0])
    print(json.dumps({"rates": {s: r for r, s, _ in found}, "best": size, "per_s": rate, "answers": answers}))


def top(scores: list) -> str:
    """The label with the highest score."""
    return max(scores, key=lambda one: one["score"])["label"]


asyncio.run(main())
