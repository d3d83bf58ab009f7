"""A rollout as lines for a terminal. Text of a model is escaped, so that it cannot control the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from extra_rl.report.facts import adding_up, advantage_settings, formula, prompts, weighted_sum, weights_of
from extra_rl.report.lookup import Found
from extra_rl.report.text import joins_to, token_pieces, tokenizer_of, visible
from extra_rl.results import iteration_name

LEVELS = (0.1, 0.3, 0.7, 1.2, 2.0)
"""Entropies in nats at which the next colour begins; rollout.js has the same."""
COLOURS = ("", "\x1b[30;48;5;230m", "\x1b[30;48;5;223m", "\x1b[30;48;5;221m", "\x1b[30;48;5;215m", "\x1b[30;48;5;208m")
"""Black on pale to strong orange, legible with any colours of the terminal."""
RESET = "\x1b[0m"
CUT = "|cut|"
SHOWN_PEAKS = 5
TABLES = ("verify", "score_entropy")


def lines_of(found: Found, results: Path, folder: Path, *, colour: bool) -> list[str]:
    """Return the lines of `extra explain`. folder: of the iteration. colour: use escape sequences."""
    row = found.row
    tokenizer = tokenizer_of(results)
    pieces = token_pieces(tokenizer, row["response_tokens"])
    prompt = prompts(results, [row["problem_id"]]).get(row["problem_id"])
    lines = [
        *_head(row),
        "",
        "prompt",
        *_indented(visible(prompt) if prompt is not None else "(missing in prepare/train.parquet)"),
        "",
        _title_of_text(row, colour),
        *_indented(_text(pieces, row, colour)),
    ]
    if tokenizer is None:
        lines.append("  (warm_start/policy has no tokenizer: token ids are shown)")
    if not joins_to(pieces, row["response"], tokenizer):
        lines += ["", "response as stored", *_indented(visible(row["response"]))]
    lines += ["", "highest entropy", *_peaks(pieces, row)]
    lines += ["", "prefix", *_prefix(row)]
    for title, name in (("parent", row["parent_rollout_id"]), ("nearest", row["nearest_rollout_id"])):
        lines += ["", title, f"  {_relative(name, found.others)}"]
    lines += (
        [f"  novelty {row['novelty']:.6g} before weight, centring and scaling"] if row["novelty"] is not None else []
    )
    lines += ["", f"siblings ({len(found.siblings)})", *(f"  {_line(sibling)}" for sibling in found.siblings)]
    lines += ["", "reward to advantage", *_numbers(row, folder), *_advantages(row, folder)]
    lines += ["", "files", *(f"  {file}" for file in files_of(row, folder))]
    return [*lines, "", "polars", f"  {query(row['rollout_id'], folder)}"]


def _head(row: dict[str, Any]) -> list[str]:
    verdict = row["verdict"] or "not judged yet"
    rule = f" by rule {_quoted(row['rule'])}" if row["rule"] is not None else ""
    read = "none" if row["extracted"] is None else _quoted(row["extracted"])
    gold = "not known yet" if row["gold"] is None else _quoted(row["gold"])
    length = len(row["response_tokens"])
    return [
        row["rollout_id"],
        f"  {row['origin']}, {length} tokens, finish reason {row['finish_reason']}, group {row['group_id']}",
        f"  problem {_quoted(row['problem_id'])}",
        f"  {verdict}{rule}; extracted answer: {read}; reference answer: {gold}",
    ]


def _quoted(text: str) -> str:
    """Return untrusted text on one line."""
    return visible(text, keep="")


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.split("\n")]


def _title_of_text(row: dict[str, Any], colour: bool) -> str:
    if row["entropies"] is None:
        return "response (entropies unknown)"
    if not colour:
        return "response"
    keys = [f"< {LEVELS[0]}", *(f"{nats}+" for nats in LEVELS)]
    shown = (f"{paint} {key} {RESET}" if paint else f" {key} " for paint, key in zip(COLOURS, keys, strict=True))
    return f"response, coloured by entropy in nats:{''.join(shown)}"


def _text(pieces: Sequence[str], row: dict[str, Any], colour: bool) -> str:
    entropies = row["entropies"]
    parts = []
    for place, piece in enumerate(pieces):
        if place and place == row["prefix_length"]:
            parts.append(f" {CUT}")
        paint = COLOURS[sum(entropies[place] >= nats for nats in LEVELS)] if colour and entropies else ""
        text = visible(piece)
        # a colour that continues past a newline would fill the rest of the line
        parts.append("\n".join(f"{paint}{part}{RESET}" if paint and part else part for part in text.split("\n")))
    return "".join(parts) or "(empty)"


def _peaks(pieces: Sequence[str], row: dict[str, Any]) -> list[str]:
    if row["entropies"] is None:
        return ["  unknown: score_entropy has not run yet, or skipped this rollout (score_entropy.rows: signal)"]
    order = sorted(range(len(pieces)), key=lambda i: -row["entropies"][i])[:SHOWN_PEAKS]
    return [f"  token {i + 1:>4}  {row['entropies'][i]:.2f} nats  {_quoted(pieces[i])!r}" for i in order]


def _prefix(row: dict[str, Any]) -> list[str]:
    if row["origin"] == "fresh":
        return ["  none: a fresh rollout"]
    parent = "its parent" if row["parent_rollout_id"] is not None else "a worked solution"
    stored = ", a stored trajectory" if row["origin"] == "replayed" else ""
    lines = [
        f"  the first {row['prefix_length']} tokens of {parent}{stored}; the continuation begins after {CUT} above"
    ]
    if not row["prefix_length"]:
        lines = ["  empty: a fresh sample (control)"]
    found = row["prefix"]
    if found is None:
        return [*lines, f"  choose_prefixes.parquet has no row {row['prefix_id']}"]
    score = "no score" if found["score"] is None else f"score {found['score']:.4f} nats (mean over its tokens)"
    if found["smoothed_score"] is not None:
        score += f", smoothed {found['smoothed_score']:.4f}"
        score += f" over {found['effective_neighbours']:.2f} effective neighbours"
    rank = f"rank {found['rank'] + 1} of {found['candidates']} candidates"
    return [*lines, f"  cut: {found['cut_reason']}; {score}; {rank}; when: {found['when']}"]


def _relative(name: str | None, others: dict[str, dict[str, Any]]) -> str:
    if name is None:
        return "none"
    return _line(others[name]) if name in others else f"{name} (not in this run's folders)"


def _line(row: dict[str, Any]) -> str:
    answer = "no answer" if row["extracted"] is None else f"answer {_quoted(row['extracted'])[:60]}"
    value = f", advantage {row['advantages'][-1]['advantage']:.3f}" if row["advantages"] else ""
    cut = f", cut from {row['parent_rollout_id']} at {row['prefix_length']}" if row["parent_rollout_id"] else ""
    return f"{row['rollout_id']:<24} {row['origin']:<11} {row['verdict'] or 'not judged yet'}, {answer}{value}{cut}"


def _numbers(row: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield the named numbers of the judge and their weighted sum; nothing without numbers."""
    if not row["numbers"]:
        return
    numbers = {number["name"]: number["value"] for number in row["numbers"]}
    yield "  numbers       " + ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
    weights = weights_of(folder / f"verify_{_source(row, folder)}.parquet")
    if weights and row["reward"] is not None:
        yield f"  reward        {row['reward']:.6g} = {weighted_sum(numbers, weights)}"


def _advantages(row: dict[str, Any], folder: Path) -> Iterator[str]:
    if not row["advantages"]:
        yield "  the stage advantage has not run yet"
    for given in row["advantages"]:
        settings = advantage_settings(folder.with_name(iteration_name(given["at"])) / "advantage.parquet")
        parts = adding_up(given["normalised"], given["bonus"], given["advantage"])
        role = ", as parent of a joined group" if given["carried"] else ""
        yield f"  iteration {given['at']}{role}: group {given['advantage_group']}, {given['group_type']}"
        how = formula(given, settings)
        yield f"    reward      {'none' if given['reward'] is None else format(given['reward'], '.6g')}"
        yield f"    normalised  {parts.normalised:.6f}" + (f" = {how}" if how else "")
        yield f"    + bonus     {parts.bonus:.6f}" + _bonus_settings(settings)
        yield f"    = sum       {parts.total:.6f}"
        if parts.final != parts.total:
            yield f"    advantage   {parts.final:.6f} (guided_advantage: {settings.get('guided_advantage', 'unknown')})"
        why = "trained" if given["trained"] == "trained" else f"not trained: {given['trained']}"
        yield f"    {why}" + (f", from token {given['loss_start'] + 1} on" if given["loss_start"] else "")


def _bonus_settings(settings: dict[str, Any]) -> str:
    names = ("weight", "centring", "scale", "placement")
    return f" ({', '.join(f'{name} {settings[name]}' for name in names)})" if all(n in settings for n in names) else ""


def files_of(row: dict[str, Any], folder: Path) -> list[str]:
    """Return the existing tables that the facts were read from."""
    of = _source(row, folder)
    names = [of, *(f"{stage}_{of}" for stage in TABLES), "novelty"]
    files = [folder / f"{name}.parquet" for name in names]
    files += [folder.with_name(iteration_name(given["at"])) / "advantage.parquet" for given in row["advantages"]]
    if row["prefix"] is not None:
        files.append(folder.with_name(iteration_name(row["prefix"]["found_in"])) / "choose_prefixes.parquet")
    return [str(file) for file in files if file.is_file()]


def _source(row: dict[str, Any], folder: Path) -> str:
    """Return the stage that sampled a rollout."""
    return "regenerate" if _is_in(row["rollout_id"], folder / "regenerate.parquet") else "generate"


def _is_in(rollout_id: str, file: Path) -> bool:
    import polars as pl

    return file.is_file() and not pl.scan_parquet(file, glob=False).filter(rollout_id=rollout_id).collect().is_empty()


def query(rollout_id: str, folder: Path) -> str:
    """Return a polars expression for the row, to run after importing `polars as pl` and `scan_iteration`."""
    return f'scan_iteration({str(folder)!r}).filter(pl.col("rollout_id") == {rollout_id!r}).collect()'
