"""A trace of verifiers 1 as a record: a graph of messages, each with the tokens that it adds to the sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extra_rl.imported.records import BadRowError, Record, answer_text
from extra_rl.problems.columns import text_of
from extra_rl.problems.files import Row
from extra_rl.tasks.conversation import Conversation, ConversationError, parse_conversation


def record_of(row: Row, place: str, step: int | None) -> Record:
    """The record of a trace with one sampled message at the end of one path of messages.

    A node's `mask` marks the tokens that the model sampled; `logprobs` has one number for each of them.
    Raises BadRowError for a failed trace, several sampled messages or branches, and tokens that do not follow the
    prompt.
    """
    if row.get("errors") or row.get("error"):
        raise BadRowError("the rollout failed there")
    nodes = row.get("nodes")
    if not isinstance(nodes, Sequence) or not nodes or not all(isinstance(node, Mapping) for node in nodes):
        raise BadRowError("the trace has no messages")
    sampled = [number for number, node in enumerate(nodes) if node.get("sampled")]
    if sampled != [len(nodes) - 1]:
        raise BadRowError(
            f"the trace has {len(sampled)} sampled messages; only a single answer at its end can be imported"
        )
    if [node.get("parent") for node in nodes] != [None, *range(len(nodes) - 1)]:
        raise BadRowError("the trace has several branches of messages; only one path can be imported")
    data = _mapping(_mapping(row.get("task")).get("data"))
    messages = [_mapping(node.get("message")) for node in nodes]
    *asked, answer = messages
    try:
        problem = Conversation(parse_conversation(asked), place)
    except ConversationError as error:
        raise BadRowError(f"the prompt's conversation cannot be sent: {error}") from None
    prompt, tokens = _tokens(nodes)
    last = _mapping(nodes[-1])
    rewards = {
        str(name): float(one.get("score", 0.0)) * float(one.get("weight", 1.0))
        for name, one in _mapping(row.get("rewards")).items()
        if isinstance(one, Mapping)
    }
    stamp = _mapping(_mapping(row.get("info")).get("prime_rl"))
    number = _mapping(row.get("task")).get("key") or data.get("idx")
    finish = last.get("finish_reason")
    return Record(
        place=place,
        problem=problem,
        prompt_tokens=prompt or None,
        response=answer_text([answer]),
        tokens=tokens or None,
        logprobs=[float(one) for one in last.get("logprobs") or []] if tokens and last.get("logprobs") else None,
        finish=None if finish is None else "length" if finish == "length" else "stop",
        answer=text_of(data.get("answer")),
        problem_id=None if number is None else str(number),
        level=text_of(stamp.get("env_name")),
        group=text_of(stamp.get("group_id")),
        step=step,
        reward=sum(rewards.values()) if rewards else None,
        further=rewards,
    )


def _tokens(nodes: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[int]]:
    """Prompt and sampled tokens of a path; both empty where the trace has none."""
    prompt: list[int] = []
    tokens: list[int] = []
    for node in nodes:
        ids, mask = node.get("token_ids") or [], node.get("mask") or []
        if len(ids) != len(mask):
            raise BadRowError(f"a message has {len(ids)} tokens and a mask of {len(mask)}")
        for token, is_sampled in zip(ids, mask, strict=True):
            if is_sampled:
                tokens.append(int(token))
            elif tokens:
                raise BadRowError("tokens that were not sampled follow sampled ones")
            else:
                prompt.append(int(token))
    return prompt, tokens


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
