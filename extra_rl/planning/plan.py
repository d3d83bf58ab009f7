"""The plan of an experiment: counts, FLOP, memory, disk and time put together, as plain values for a table or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.planning import counts
from extra_rl.planning.counts import Sections
from extra_rl.planning.disk import disk_of, evaluation_bytes
from extra_rl.planning.memory import floors_of
from extra_rl.planning.rate import Measured
from extra_rl.planning.shapes import Shape, shape_of

Figures = dict[str, Any]


def plan_of(experiment: Experiment, device: float | None = None) -> Figures:
    """The plan without times. device: bytes of a device's memory, where the user has named it.

    Bytes and FLOP are plain numbers. Raises ConfigError for a model whose shape is not known.
    """
    run, common = experiment.run, experiment.common
    prepare = common["prepare"]
    shape = shape_of(ModelConfig.model_validate(prepare["model"]), TaskConfig.model_validate(prepare["task"]))
    evaluation = _evaluation(common)
    arms = {name: _arm(experiment, sections, shape) for name, sections in experiment.arms.items()}
    evaluations = 1 + len(arms) * len(run.seeds) * counts.evaluations_of(run)
    stored = len(run.seeds) * sum(sum(arm["bytes"].values()) for arm in arms.values())
    memory = _floors(experiment, shape, evaluation)
    return {
        "name": run.name,
        "model": {"source": prepare["model"]["source"], "parameters": shape.parameters, "shape": asdict(shape)},
        "run": {
            "iterations": counts.iterations_of(run),
            "seeds": len(run.seeds),
            "evaluations": evaluations,
            "jobs": counts.jobs(run, experiment.arms),
        },
        "longest": {"prompt": counts.longest_prompt(common), "response": counts.longest_response(common)},
        "problems": {"training": counts.training_problems(common), "held_out": counts.held_out(common)},
        "arms": arms,
        "evaluation": evaluation,
        "total": {
            "sampled_tokens": len(run.seeds) * sum(arm["sampled_tokens"] for arm in arms.values())
            + evaluations * evaluation["sampled_tokens"],
            "flop": len(run.seeds) * sum(arm["flop"] for arm in arms.values()),
            "bytes": stored + evaluations * evaluation["bytes"] + 4.0 * shape.parameters,
        },
        "memory": memory,
        "too_much": _too_much(common, memory, device) if device else {},
        "notes": _notes(experiment, shape),
    }


def hours_at(rate: float, plan: Figures) -> Figures:
    """Hours at most of the whole experiment, at `rate` sampled tokens per second."""
    return {"rate": rate, "hours": {"at_most": plan["total"]["sampled_tokens"] / rate / 3600}}


def hours_from(measured: Mapping[str, Measured], experiment: Experiment, plan: Figures) -> Figures:
    """Hours by what finished iterations took, one job after the other: `expected` with responses of their mean length,
    `at_most` with every response at the limit. Evaluations are counted where one was measured."""
    run, samples = experiment.run, plan["evaluation"]["samples"]
    evaluate = experiment.common["evaluate"]["max_response_tokens"]
    arms: Figures = {}
    for arm, found in measured.items():
        sections = experiment.arms[arm]
        rows, limit = counts.at_most(sections).rows, counts.longest_response(sections)
        mean = found.tokens / found.rows
        figures: Figures = {"iterations": found.iterations, "mean_response": mean}
        lengths = {"expected": (min(limit, mean), min(evaluate, found.evaluation_mean)), "at_most": (limit, evaluate)}
        for name, (length, of_sample) in lengths.items():
            whole = sum(found.iteration_seconds(counts.tokens_of_run(sections, run, length)[1]).values())
            budget = sections["select"]["compute_budget"]
            if budget is not None and found.flop:
                whole = min(whole, (budget / found.flop + 1) * sum(found.seconds.values()))
            evaluation = found.evaluation_seconds(samples * of_sample)
            figures[name] = {
                "iteration_seconds": found.iteration_seconds(rows * length),
                "evaluation_seconds": evaluation,
                "hours": (whole + counts.evaluations_of(run) * evaluation) / 3600,
            }
        arms[arm] = figures
    initial = next(iter(arms.values()))
    hours = {
        name: len(run.seeds) * sum(figures[name]["hours"] for figures in arms.values())
        + initial[name]["evaluation_seconds"] / 3600
        for name in ("expected", "at_most")
    }
    return {"arms": arms, "hours": hours}


def _arm(experiment: Experiment, sections: Sections, shape: Shape) -> Figures:
    """One arm and seed, at most."""
    run, rollouts, limit = experiment.run, counts.at_most(sections), counts.longest_response(sections)
    problems = counts.training_problems(sections)
    prompt = counts.longest_prompt(sections)
    disk = disk_of(sections, run, shape, rollouts, prompt, problems if problems is not None else 10**9)
    flop, iterations = counts.flop_at_most(sections, shape.parameters), counts.iterations_of(run)
    return {
        "iteration": {
            "fresh": rollouts.fresh,
            "regenerated": rollouts.regenerated,
            "sampled_tokens": rollouts.sampled_tokens,
            "flop": flop,
            "bytes": disk.iteration,
        },
        "fresh": iterations * rollouts.fresh,
        "regenerated": counts.regenerating_iterations(sections, run) * rollouts.regenerated,
        "sampled_tokens": counts.tokens_of_run(sections, run, limit)[0],
        "flop": counts.with_budget(iterations * flop, flop, sections["select"]["compute_budget"]),
        "bytes": disk.total,
    }


def _evaluation(sections: Sections) -> Figures:
    """One evaluation of one policy. samples are exact where all problems are known, else those of the known ones."""
    evaluate = sections["evaluate"]
    samples = evaluate["samples"] * sum(count or 0 for count in counts.held_out(sections).values())
    tokens = samples * evaluate["max_response_tokens"]
    stored = evaluation_bytes(samples, evaluate["max_response_tokens"], cached=evaluate["cache"] is not None)
    return {"samples": samples, "sampled_tokens": tokens, "bytes": stored}


def _floors(experiment: Experiment, shape: Shape, evaluation: Figures) -> dict[str, dict[str, float]]:
    """stage -> part -> bytes, of the arm that needs most."""
    known = None not in counts.held_out(experiment.common).values()
    found: dict[str, dict[str, float]] = {}
    for sections in experiment.arms.values():
        samples = evaluation["samples"] if known else None
        for stage, parts in floors_of(sections, shape, experiment.run.generation.shards, samples).items():
            if sum(parts.values()) > sum(found.get(stage, {}).values()):
                found[stage] = parts
    return found


def _too_much(sections: Sections, memory: dict[str, dict[str, float]], device: float) -> dict[str, float]:
    """stage -> bytes that it may take on a device of so many, for the stages whose floor is above that. vLLM may take
    its share."""
    found = {}
    for stage, parts in memory.items():
        sampling = sections["evaluate" if stage == "evaluate" else "generate"]["sampling"]
        samples = stage in ("generate", "regenerate", "evaluate") and sampling["backend"] == "vllm"
        share = sampling["engine"]["gpu_memory_utilization"] if samples else 1.0
        if sum(parts.values()) > share * device:
            found[stage] = share * device
    return found


def _notes(experiment: Experiment, shape: Shape) -> list[str]:
    """What this plan cannot know, and what the configuration should not ask for."""
    common, arms = experiment.common, experiment.arms.values()
    unknown = [name for name, count in counts.held_out(common).items() if count is None]
    context, steps = common["prepare"]["model"]["context_tokens"], common["warm_start"]["steps"]
    notes = {
        "select.token_budget: counted for the sampled tokens of a run, not for its rollouts, FLOP and disk.": any(
            sections["select"]["token_budget"] for sections in arms
        ),
        "select.compute_budget: counted for the FLOP of a run, not for its rollouts, tokens and disk.": any(
            sections["select"]["compute_budget"] for sections in arms
        ),
        "score_entropy.rows: signal: only rows with a signal are scored; FLOP are those with all rows scored.": any(
            sections["score_entropy"]["rows"] == "signal" for sections in arms
        ),
        "generate.source: demonstrations: fresh rollouts are read, not sampled; they are scored and trained on.": any(
            sections["generate"]["source"] == "demonstrations" for sections in arms
        ),
        "generate.rounds: every round is counted as sampled in full.": any(
            sections["generate"]["rounds"] > 1 for sections in arms
        ),
        f"How many problems {', '.join(unknown)} has is not known before `prepare`: counted as none.": unknown,
        "How many training problems there are is not known before `prepare`: novelty memory grows without limit.": (
            counts.training_problems(common) is None
        ),
        f"model.context_tokens {context:,} is more than the model's {shape.positions:,} positions.": (
            0 < shape.positions < context
        ),
        f"The warm start's own training ({steps:,} steps) is not counted.": steps,
    }
    return [text for text, applies in notes.items() if applies]
