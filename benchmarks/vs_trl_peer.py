"""TRL's half of benchmarks/vs_trl.py: GRPOTrainer in a process of its own, in an environment that has it.

    python benchmarks/vs_trl_peer.py

Imports nothing of the project but the verifier of arithmetic, where that is the task. Reads one JSON line a turn
(`turn_of` in vs_trl.py and `asked_of` in vs_trl_model.py say what is in it), trains a fresh model for so many steps,
and answers with a JSON list: of every step its seconds and CPU-seconds, in all and by part, the tokens that it sampled,
their mean reward, and the largest resident memory of the process so far. Parts: sampling is the trainer's own
`_generate`; scoring is what it does with the completions until they are a batch (rewards, advantages; at one update a
batch it needs no old logprobs); update is the rest of a step, from one step's end to the next.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Clock = tuple[float, float]
"""Seconds and CPU-seconds of this process."""

Reward = Callable[..., list[float]]
"""Of token ids of completions and the columns of their problems."""


def now() -> Clock:
    return time.perf_counter(), time.process_time()


def since(begin: Clock) -> Clock:
    end = now()
    return end[0] - begin[0], end[1] - begin[1]


def boxed(asked: dict[str, Any]) -> Reward:
    """1 where the last boxed word is one that means the answer."""
    meant = {token: value for value, tokens in asked["boxes"].items() for token in tokens}

    def rewards(completion_ids: Sequence[Sequence[int]], answer: Sequence[str], **_: Any) -> list[float]:
        last = [next((meant[t] for t in reversed(ids) if t in meant), None) for ids in completion_ids]
        return [float(value == gold) for value, gold in zip(last, answer, strict=True)]

    return rewards


def replayed(asked: dict[str, Any], tokenizer: Any) -> Reward:
    """The project's own verdict on steps of arithmetic; a completion's last token is its end, or it was cut off."""
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.append(root)
    from extra_rl.sampling.text import response_decoder
    from extra_rl.tasks.arithmetic import Arithmetic
    from extra_rl.verdict import DEFAULT_REWARDS

    ends = set(asked["ends"])
    decode, judge = response_decoder(tokenizer, ends), Arithmetic().judge

    def rewards(
        completion_ids: Sequence[Sequence[int]], problem: Sequence[str], answer: Sequence[str], **_: Any
    ) -> list[float]:
        rows = zip(problem, answer, decode(completion_ids), completion_ids, strict=True)
        verdicts = [judge(asks, gold, text, finished=ids[-1] in ends).verdict for asks, gold, text, ids in rows]
        return [float(DEFAULT_REWARDS[verdict] or 0) for verdict in verdicts]

    return rewards


def train(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of one turn, with their costs."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]  # in an environment of its own

    torch.set_num_threads(asked["threads"])
    tokenizer = AutoTokenizer.from_pretrained(asked["model"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    if "ends" in asked:  # the trainer ends completions by these, and its mask with them
        model.generation_config.eos_token_id = asked["ends"]
    rewards = replayed(asked, tokenizer) if "ends" in asked else boxed(asked)
    rows = len(asked["prompts"][0]) * asked["group"]
    micro_batches = max(1, rows // asked["rows_per_pass"])
    steps: list[dict[str, Any]] = []
    spent: dict[str, Clock] = {}
    drawn: dict[str, float] = {}

    def reward(completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
        found = rewards(completion_ids, **columns)
        drawn.update(tokens=sum(map(len, completion_ids)), reward=sum(found) / len(found))
        return found

    class Timed(GRPOTrainer):  # type: ignore[misc]
        def _generate(self, *arguments: Any, **named: Any) -> Any:
            begin = now()
            found = super()._generate(*arguments, **named)
            spent["sampling"] = since(begin)
            return found

        def _generate_and_score_completions(self, *arguments: Any, **named: Any) -> Any:
            begin = now()
            found = super()._generate_and_score_completions(*arguments, **named)
            spent["batch"] = since(begin)
            return found

    class Steps(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.begin = now()

        def on_train_begin(self, *_: Any, **named: Any) -> None:
            self.begin = now()

        def on_step_end(self, *_: Any, **named: Any) -> None:
            whole, sampling, batch = since(self.begin), spent["sampling"], spent["batch"]
            self.begin = now()
            parts = {
                "sampling": sampling,
                "scoring": (batch[0] - sampling[0], batch[1] - sampling[1]),
                "update": (whole[0] - batch[0], whole[1] - batch[1]),
            }
            largest_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            steps.append({"wall_s": whole[0], "cpu_s": whole[1], "parts": parts, "largest_mb": largest_mb, **drawn})

    torch.manual_seed(asked["seed"])
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=rows // micro_batches,
            gradient_accumulation_steps=micro_batches,
            steps_per_generation=micro_batches,
            num_generations=asked["group"],
            max_completion_length=asked["limit"],
            max_steps=len(asked["prompts"]),
            shuffle_dataset=False,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            beta=0.0,
            loss_type="dapo",
            scale_rewards="group",
            num_iterations=1,
            epsilon=0.2,
            epsilon_high=0.28,
            learning_rate=asked["learning_rate"],
            lr_scheduler_type="constant",
            adam_beta1=0.9,
            adam_beta2=0.999,
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            seed=asked["seed"],
        )
        names = ("prompt", "answer", "problem")
        problems = [dict(zip(names, problem, strict=False)) for step in asked["prompts"] for problem in step]
        trainer = Timed(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(problems),
            callbacks=[Steps()],
        )
        trainer.train()
    return steps


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a trainer prints is no answer
    for line in sys.stdin:
        print(json.dumps(train(json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
