"""The data of the page's rollout explorer (`explorer.html`, `explorer.js`, `rollout.js`): a sample of a run's rollouts.

Text of a model is data here; the page shows it as text only.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from extra_rl.report.choice import choose_groups
from extra_rl.report.facts import adding_up, advantage_settings, prompts, rollouts_of_groups
from extra_rl.report.text import bounded, joins_to, token_pieces, tokenizer_of
from extra_rl.results import RunFolder

TOKENS_OF_A_PAGE = 250_000
"""Tokens in the whole page, about 10 bytes each. Source: our decision, as are the limits below."""
TOKENS_OF_A_RESPONSE = (64, 600)
"""Minimum and maximum of tokens shown of a longer response: two thirds from its head, one third from its tail."""
LETTERS_OF_A_PROMPT = 4000
LETTERS_OF_AN_ANSWER = 300

PLAIN = ("id", "seed", "iteration", "prefix_length", "length", "head", "left_out", "reward", "novelty")
SHARED = (
    *("arm", "group", "kind", "problem", "origin", "verdict", "rule", "extracted", "gold", "finish"),
    *("parent", "nearest", "prefix_id", "stored_response"),
)
"""Columns of rows: plain values, and texts that many rows share."""


def collect(results: Path, limit: int, places: Container[str] | None = None) -> dict[str, Any]:
    """Return at most `limit` rollouts of a run in whole groups (`choice.choose_groups`), ready for JSON.

    places: `{arm}/s{seed}` of the runs that are shown; None: all.
    settings: arm -> its section `advantage`, and `{arm} {iteration}` where it differs from the first one.
    problems: problem_id -> prompt. pieces: distinct texts of tokens.
    tokenizer: false where token ids are shown instead of texts.
    rows: columns with one value per rollout (`PLAIN`), or `{"texts", "codes"}` where codes are indices into texts, null
    for none (`SHARED`). `tokens` are indices into pieces and `entropies` hundredths of nats, of the shown tokens: the
    first `head` and, after `left_out` others, the rest. `kind` is that of the group (`choice.KINDS`). `prefix` and
    `advantages` are objects.

    The same results give the same value. Raises InputError for a table that cannot be read.
    """
    chosen = choose_groups(results, limit, places)
    facts: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for run, groups in chosen.items():
        folders = RunFolder(run).iterations()
        facts += (row | {"kind": groups[row["group_id"]]} for row in rollouts_of_groups(folders, groups))
        made = {number: folder / "advantage.parquet" for number, folder in folders.items()}
        for number, section in ((n, advantage_settings(file)) for n, file in made.items() if file.is_file()):
            if section != settings.setdefault(run.parent.name, section):
                settings[f"{run.parent.name} {number}"] = section
    tokenizer = tokenizer_of(results)
    least, most = TOKENS_OF_A_RESPONSE
    shown = min(most, max(least, TOKENS_OF_A_PAGE // max(1, len(facts))))
    pieces: dict[str, int] = {}
    rows = [_row(row, tokenizer, shown, pieces) for row in facts]
    problems = prompts(results, {row["problem"] for row in rows})
    return {
        "tokenizer": tokenizer is not None,
        "settings": settings,
        "problems": {name: bounded(problems[name], LETTERS_OF_A_PROMPT) for name in sorted(problems)},
        "pieces": list(pieces),
        "rows": {name: [row[name] for row in rows] for name in (*PLAIN, "tokens", "entropies", "prefix", "advantages")}
        | {name: _shared([row[name] for row in rows]) for name in SHARED},
    }


def _row(row: dict[str, Any], tokenizer: Any, shown: int, pieces: dict[str, int]) -> dict[str, Any]:
    texts = token_pieces(tokenizer, row["response_tokens"])
    length = len(texts)
    head = length if length <= shown else shown - shown // 3
    tail = length if length <= shown else length - shown // 3
    response = None if joins_to(texts, row["response"], tokenizer) else bounded(row["response"], LETTERS_OF_A_PROMPT)
    entropies = row["entropies"] or []
    return {
        "id": row["rollout_id"],
        "seed": row["seed"],
        "iteration": row["iteration"],
        "prefix_length": row["prefix_length"],
        "length": length,
        "head": head,
        "left_out": tail - head,
        "reward": row["reward"],
        "novelty": _rounded(row["novelty"]),
        "arm": row["arm"],
        "group": row["group_id"],
        "kind": row["kind"],
        "problem": row["problem_id"],
        "origin": row["origin"],
        "verdict": row["verdict"],
        "rule": row["rule"],
        "extracted": _answer(row["extracted"]),
        "gold": _answer(row["gold"]),
        "finish": row["finish_reason"],
        "parent": row["parent_rollout_id"],
        "nearest": row["nearest_rollout_id"],
        "prefix_id": row["prefix_id"],
        "stored_response": response,
        "tokens": [pieces.setdefault(text, len(pieces)) for text in [*texts[:head], *texts[tail:]]],
        "entropies": [round(100 * nats) for nats in [*entropies[:head], *entropies[tail:]]],
        "prefix": _prefix(row["prefix"]),
        "advantages": [_advantage(given) for given in row["advantages"]],
    }


def _prefix(prefix: dict[str, Any] | None) -> dict[str, Any] | None:
    if prefix is None:
        return None
    numbers = ("score", "smoothed_score", "effective_neighbours")
    return prefix | {name: _rounded(prefix[name]) for name in numbers}


def _advantage(given: dict[str, Any]) -> dict[str, Any]:
    parts = adding_up(given["normalised"], given["bonus"], given["advantage"])
    return {
        **{name: given[name] for name in ("at", "members", "reward", "trained", "loss_start", "carried")},
        "group": given["advantage_group"],
        "type": given["group_type"],
        "mean": _rounded(given["mean"]),
        "sd": _rounded(given["sd"]),
        **parts._asdict(),
    }


def _shared(values: Sequence[str | None]) -> dict[str, Any]:
    texts = {value: place for place, value in enumerate(dict.fromkeys(v for v in values if v is not None))}
    return {"texts": list(texts), "codes": [None if value is None else texts[value] for value in values]}


def _answer(text: str | None) -> str | None:
    return None if text is None else bounded(text, LETTERS_OF_AN_ANSWER)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
