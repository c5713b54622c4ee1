"""Maps prompts over a Ray Data set on several worker processes: offline generation on one machine or many.

    pip install remask "ray[data]"
    python ray_map.py MODEL [N_WORKERS] [PROMPTS.jsonl]     # lines {"prompt": "..."}

Each worker maps the model file; on one machine its pages are in memory once, whatever the number of workers. On several
machines the file must lie at the same path on each.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ray

import remask

PLACES = ("bridge", "garden", "river", "barn", "hill", "forest", "market", "lake")
PROMPTS = [f"Once upon a time {name} met a brown owl near the {place}. The owl said hoot. Who was there?"
           for name in ("Lucy", "Tom", "Mary", "Ben") for place in PLACES]  # fmt: skip


class Answer:
    """One per worker process, so that a model is loaded once in each."""

    def __init__(self, path: str, threads: int) -> None:
        self.model = remask.Model(path, threads=threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        # One run for the batch: its canvases share every step.
        model = self.model
        prompts = [model.encode_chat([{"role": "user", "content": prompt}]) for prompt in batch["prompt"]]
        made = model.generate_many(prompts, 16, steps=8)
        size = len(made)
        return {**batch, "answer": [one.text for one in made], "worker": [os.getpid()] * size}


def main(path: str, n_workers: int = 2, prompts: str | None = None) -> None:
    # No metrics page: this is one short job.
    ray.init(include_dashboard=False, log_to_driver=False)
    data = ray.data.read_json(prompts) if prompts else ray.data.from_items([{"prompt": prompt} for prompt in PROMPTS])
    threads = max(1, (os.cpu_count() or 1) // n_workers)
    answered = data.map_batches(
        Answer,
        fn_constructor_args=(os.path.abspath(path), threads),
        compute=ray.data.ActorPoolStrategy(size=n_workers),
        batch_size=4,
    )
    rows = answered.take_all()
    for row in rows[:4]:
        print(f"{row['prompt']} -> {row['answer']}")
    print(f"{len(rows)} prompts, {len({row['worker'] for row in rows})} workers")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2, *sys.argv[3:4])
