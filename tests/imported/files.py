"""Files as TRL, verl, verifiers and prime-rl write them, with a few completions each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

PROBLEMS = {"What is 7 * 8?": "56", "Simplify 6/8.": r"\frac{3}{4}"}
RESPONSES = {
    "What is 7 * 8?": [r"7*8 = \boxed{56}", r"It is \boxed{54}.", "I do not know"],
    "Simplify 6/8.": [r"\boxed{0.75}", r"\boxed{\frac{3}{4}}", r"\boxed{3/5}"],
}
REWARDS = {"What is 7 * 8?": [1.0, 0.0, 0.0], "Simplify 6/8.": [0.0, 1.0, 0.0]}
"""Those of a judge that compares texts: 0.75 is wrong for it."""
VERDICTS = ["right", "wrong", "no_answer", "right", "right", "wrong"]
ROWS = [
    (problem, response, reward)
    for problem, responses in RESPONSES.items()
    for response, reward in zip(responses, REWARDS[problem], strict=True)
]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def chat(problem: str) -> str:
    """A rendered prompt whose special tokens are lost, as verl and TRL write it."""
    return f"user\n{problem}\nassistant\n"


def trl(folder: Path, steps: Iterable[int] = (10, 20)) -> Path:
    """completions/completions_00010.parquet: one column for each reward function, no reference answer."""
    folder.mkdir(parents=True)
    for step in steps:
        rows = [
            {"step": step, "prompt": chat(p), "completion": r, "accuracy_reward": reward, "advantage": reward - 0.5}
            for p, r, reward in ROWS
        ]
        pl.DataFrame(rows).write_parquet(folder / f"completions_{step:05d}.parquet")
    return folder


def verl(folder: Path, steps: Iterable[int] = (3,)) -> Path:
    """rollout_data_dir/3.jsonl."""
    for step in steps:
        rows = [
            {"input": chat(p), "output": r, "gts": PROBLEMS[p], "score": reward, "step": step, "acc": reward > 0}
            for p, r, reward in ROWS
        ]
        lines(folder / f"{step}.jsonl", rows)
    return folder


def verifiers(path: Path) -> Path:
    """results.jsonl of an evaluation."""
    names = list(PROBLEMS)
    return lines(
        path,
        [
            {
                "example_id": names.index(p),
                "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": p}],
                "completion": [{"role": "assistant", "content": r}],
                "answer": PROBLEMS[p],
                "info": {},
                "reward": reward,
                "error": None,
                "is_completed": True,
                "is_truncated": r == "I do not know",
                "metrics": {"correct": reward},
                "correct": reward,
            }
            for p, r, reward in ROWS
        ],
    )


def traces(path: Path, tokenizer: Any) -> Path:
    """train_rollouts.jsonl of prime-rl: a graph of messages with tokens and logprobs."""
    rows = []
    for p, r, reward in ROWS:
        prompt = tokenizer.encode(chat(p), add_special_tokens=False)
        answer = [*tokenizer.encode(r, add_special_tokens=False), tokenizer.eos_token_id]
        user = {"parent": None, "message": {"role": "user", "content": p}, "sampled": False}
        user |= {"token_ids": prompt[:-3], "mask": [False] * (len(prompt) - 3), "logprobs": []}
        made = {"parent": 0, "message": {"role": "assistant", "content": r}, "sampled": True, "finish_reason": "stop"}
        made |= {"token_ids": prompt[-3:] + answer, "mask": [False] * 3 + [True] * len(answer)}
        made |= {"logprobs": [-0.25] * len(answer)}
        data = {"idx": list(PROBLEMS).index(p), "prompt": p, "answer": PROBLEMS[p]}
        rows.append(
            {
                "id": str(len(rows)),
                "task": {"type": "Task", "data": data},
                "nodes": [user, made],
                "rewards": {"correct": {"score": reward, "weight": 2.0}, "format": {"score": 1.0, "weight": 0.5}},
                "info": {"prime_rl": {"env_name": "sums", "group_id": f"g{data['idx']}"}},
            }
        )
    return lines(path, rows)


def problems(path: Path) -> Path:
    """A file of problems with reference answers (docs/data.md)."""
    return lines(path, [{"problem": p, "answer": a} for p, a in PROBLEMS.items()])
