"""The plan of an experiment: counts, FLOP, memory, disk and time, as plain values for a table or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.planning import counts
from extra_rl.planning.counts import Sections
from extra_rl.planning.disk import disk_of, evaluation_bytes
from extra_rl.planning.memory import floors_of
from extra_rl.planning.rate import Rate
from extra_rl.planning.shapes import Shape, shape_of

Figures = dict[str, Any]


def plan_of(experiment: Experiment, device: float | None = None) -> Figures:
    """Return the plan without time. device: bytes of a device's memory, None where it is not given.

    Raises ConfigError for a model whose shape is not known.
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


def time_of(rate: Rate, experiment: Experiment, plan: Figures) -> Figures:
    """Return the hours of the whole experiment at a measured rate, one job after the other.

    `expected` has responses of the measured mean length, `at_most` has every response at the limit. Evaluations are
    included where one was measured.
    """
    common, run = experiment.common, experiment.run
    limits = counts.longest_response(common), common["evaluate"]["max_response_tokens"]
    means = min(limits[0], rate.mean_response), min(limits[1], rate.evaluation_mean)
    samples = plan["run"]["evaluations"] * plan["evaluation"]["samples"]
    hours = {}
    for name, (response, of_sample) in {"expected": means, "at_most": limits}.items():
        tokens = sum(counts.tokens_of_run(sections, run, response)[1] for sections in experiment.arms.values())
        hours[name] = rate.hours(len(run.seeds) * tokens, samples * of_sample)
    return {**asdict(rate), "hours": hours}


def _arm(experiment: Experiment, sections: Sections, shape: Shape) -> Figures:
    """Return the upper bounds of one arm and seed."""
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
    """Return the counts of one evaluation. Benchmarks of unknown size are counted as empty."""
    evaluate = sections["evaluate"]
    samples = evaluate["samples"] * sum(count or 0 for count in counts.held_out(sections).values())
    tokens = samples * evaluate["max_response_tokens"]
    stored = evaluation_bytes(samples, evaluate["max_response_tokens"], cached=evaluate["cache"] is not None)
    return {"samples": samples, "sampled_tokens": tokens, "bytes": stored}


def _floors(experiment: Experiment, shape: Shape, evaluation: Figures) -> dict[str, dict[str, float]]:
    """Return stage -> part -> bytes, of the arm that needs most."""
    known = None not in counts.held_out(experiment.common).values()
    found: dict[str, dict[str, float]] = {}
    for sections in experiment.arms.values():
        samples = evaluation["samples"] if known else None
        for stage, parts in floors_of(sections, shape, experiment.run.generation.shards, samples).items():
            if sum(parts.values()) > sum(found.get(stage, {}).values()):
                found[stage] = parts
    return found


def _too_much(sections: Sections, memory: dict[str, dict[str, float]], device: float) -> dict[str, float]:
    """Return stage -> available bytes, for the stages whose floor exceeds them. vLLM has a share of the device."""
    found = {}
    for stage, parts in memory.items():
        sampling = sections["evaluate" if stage == "evaluate" else "generate"]["sampling"]
        samples = stage in ("generate", "regenerate", "evaluate") and sampling["backend"] == "vllm"
        share = sampling["engine"]["gpu_memory_utilization"] if samples else 1.0
        if sum(parts.values()) > share * device:
            found[stage] = share * device
    return found


def _notes(experiment: Experiment, shape: Shape) -> list[str]:
    """Return what this plan does not know or include."""
    common, arms = experiment.common, experiment.arms.values()
    unknown = [name for name, count in counts.held_out(common).items() if count is None]
    context, steps = common["prepare"]["model"]["context_tokens"], common["warm_start"]["steps"]
    notes = {
        "select.token_budget: bounds the sampled tokens of a run, not its rollouts, FLOP and disk in this plan.": any(
            sections["select"]["token_budget"] for sections in arms
        ),
        "select.compute_budget: bounds the FLOP of a run, not its rollouts, tokens, disk and hours in this plan.": any(
            sections["select"]["compute_budget"] for sections in arms
        ),
        "score_entropy.rows: signal: only rows with a signal are scored; the FLOP include all rows.": any(
            sections["score_entropy"]["rows"] == "signal" for sections in arms
        ),
        "generate.source: demonstrations: fresh rollouts are read, not sampled; they are scored and trained on.": any(
            sections["generate"]["source"] == "demonstrations" for sections in arms
        ),
        "schedule: its changes are not counted; every iteration is counted as the first one.": any(
            experiment.phases.values()
        ),
        "generate.rounds: every round is counted in full.": any(
            sections["generate"]["rounds"] > 1 for sections in arms
        ),
        f"The size of {', '.join(unknown)} is not known before `prepare`; it is counted as empty.": unknown,
        "The number of training problems is not known before `prepare`, so it does not bound the novelty memory.": (
            counts.training_problems(common) is None
        ),
        f"model.context_tokens {context:,} is more than the model's {shape.positions:,} positions.": (
            0 < shape.positions < context
        ),
        f"The training of the warm start ({steps:,} steps) is not part of FLOP and hours.": steps,
    }
    return [text for text, applies in notes.items() if applies]
