"""The plan of an experiment: counts, work, hours, memory and disk put together, as plain values for a table or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from extra_rl.config.experiment import Experiment
from extra_rl.config.sections import ModelConfig, TaskConfig
from extra_rl.planning import counts, work
from extra_rl.planning.compute import Speed
from extra_rl.planning.counts import Assumptions, Rollouts, Sections
from extra_rl.planning.disk import disk_of, evaluation_bytes
from extra_rl.planning.engines import engine_rows
from extra_rl.planning.memory import Lengths
from extra_rl.planning.peaks import peaks_of
from extra_rl.planning.shapes import Shape, shape_of

Figures = dict[str, Any]


def plan_of(experiment: Experiment, assumed: Assumptions, speed: Speed) -> Figures:
    """The whole plan: `expected` at the assumed lengths, `at_most` with every rollout at its limit.

    Bytes, operations (floating point) and hours (of one device) are plain numbers. Raises ConfigError for a model whose
    shape is not known.
    """
    run, common = experiment.run, experiment.common
    prepare = common["prepare"]
    shape = shape_of(ModelConfig.model_validate(prepare["model"]), TaskConfig.model_validate(prepare["task"]))
    evaluations = 1 + len(experiment.arms) * len(run.seeds) * counts.evaluations_of(run)
    peaks = _largest_peaks(experiment, shape, speed.device.memory)
    return {
        "name": run.name,
        "model": {"source": prepare["model"]["source"], "parameters": shape.parameters, "shape": asdict(shape)},
        "run": {
            "iterations": counts.iterations_of(run),
            "seeds": len(run.seeds),
            "evaluations": evaluations,
            "jobs": counts.jobs(run, experiment.arms),
        },
        "assumptions": {
            "mean_response": assumed.response,
            "mean_prompt": assumed.prompt,
            "hard_share": assumed.hard_share,
            "longest_prompt": counts.longest_prompt(common),
            "longest_response": counts.longest_response(common),
            "precision": work.precision_of(common),
            "device": asdict(speed.device),
            "utilisation": speed.utilisation,
            "decoders": {backend: asdict(speed.decoders[backend]) for backend in _backends(experiment)},
            "shards": counts.shards_of(run),
        },
        "problems": {"training": counts.training_problems(common), "held_out": counts.held_out(common)},
        **_pair(experiment, shape, assumed, speed),
        "memory": peaks,
        "notes": _notes(experiment, shape, peaks),
    }


def _pair(experiment: Experiment, shape: Shape, assumed: Assumptions, speed: Speed) -> Figures:
    """The same figures twice: as expected, and at most."""
    common = experiment.common
    bound = Assumptions(counts.longest_response(common), counts.longest_prompt(common), hard_share=1.0)
    found = {}
    for name, lengths in (("expected", assumed), ("at_most", bound)):
        arms = {}
        for arm, sections in experiment.arms.items():
            rollouts = counts.expected(sections, assumed) if lengths is assumed else counts.at_most(sections)
            iterations = counts.iterations_of(experiment.run)
            if lengths is assumed:  # short responses stretch a token budget over all iterations
                iterations = counts.active_iterations(sections, iterations, rollouts)
            arms[arm] = _arm(experiment, sections, shape, rollouts, lengths.prompt, iterations, speed)
        evaluation = _evaluation(common, shape, lengths, speed)
        found[name] = {"arms": arms, "evaluation": evaluation, "total": _total(experiment, shape, arms, evaluation)}
    return found


def _arm(
    experiment: Experiment,
    sections: Sections,
    shape: Shape,
    rollouts: Rollouts,
    prompt: float,
    active: int,
    speed: Speed,
) -> Figures:
    """One arm and seed, of which `active` iterations sample."""
    run, shards = experiment.run, counts.shards_of(experiment.run)
    regenerating = counts.regenerating_iterations(sections, run, active)
    problems = counts.training_problems(sections)
    disk = disk_of(sections, run, shape, rollouts, prompt, problems if problems is not None else 10**9)
    operations = work.operations_of(sections, shape, rollouts, prompt)
    hours = work.hours_of(sections, shape, rollouts, prompt, speed, shards)
    return {
        "iteration": {
            "fresh": rollouts.fresh,
            "regenerated": rollouts.regenerated,
            "sampled_tokens": rollouts.tokens,
            "rows": work.rows_of(sections, shape, rollouts, prompt, speed.device.memory, shards),
            "operations": operations,
            "hours": {kind: spent.device for kind, spent in hours.items()},
            "clock_hours": {kind: spent.clock for kind, spent in hours.items()},
            "bytes": disk.iteration,
        },
        "active_iterations": active,
        "fresh": active * rollouts.fresh,
        "regenerated": regenerating * rollouts.regenerated,
        "sampled_tokens": counts.sampled_tokens(sections, active, regenerating, rollouts),
        "operations": active * sum(operations.values()),
        "hours": active * sum(spent.device for spent in hours.values()),
        "clock_hours": active * sum(spent.clock for spent in hours.values()),
        "bytes": disk.total,
    }


def _evaluation(sections: Sections, shape: Shape, lengths: Assumptions, speed: Speed) -> Figures:
    """One evaluation of one policy."""
    evaluate = sections["evaluate"]
    samples = evaluate["samples"] * sum(count or 0 for count in counts.held_out(sections).values())
    share = lengths.response / counts.longest_response(sections)  # of its own limit, as in training
    mean = Lengths(lengths.prompt, share * evaluate["max_response_tokens"])
    operations, hours = work.evaluation_of(sections, shape, samples, mean, speed)
    return {
        "samples": samples,
        "sampled_tokens": samples * mean.response,
        "operations": operations,
        "hours": hours.device,
        "clock_hours": hours.clock,
        "bytes": evaluation_bytes(samples, mean.response, cached=evaluate["cache"] is not None),
    }


def _total(experiment: Experiment, shape: Shape, arms: Figures, evaluation: Figures) -> Figures:
    """All arms and seeds with all their evaluations, and the initial policy."""
    run = experiment.run
    seeds, evaluations = len(run.seeds), 1 + len(arms) * len(run.seeds) * counts.evaluations_of(run)
    summed = {
        key: seeds * sum(arm[key] for arm in arms.values()) + evaluations * evaluation[key]
        for key in ("sampled_tokens", "operations", "hours")
    }
    stored = seeds * sum(sum(arm["bytes"].values()) for arm in arms.values())
    return {**summed, "bytes": stored + evaluations * evaluation["bytes"] + 4.0 * shape.parameters}


def _backends(experiment: Experiment) -> list[str]:
    """What samples, in any arm or evaluation."""
    sections = [experiment.common, *experiment.arms.values()]
    return sorted({found[stage]["sampling"]["backend"] for found in sections for stage in ("generate", "evaluate")})


def _largest_peaks(experiment: Experiment, shape: Shape, device: float) -> dict[str, dict[str, float]]:
    """stage -> part -> bytes, of the arm that needs most."""
    found: dict[str, dict[str, float]] = {}
    for sections in experiment.arms.values():
        for stage, parts in peaks_of(sections, shape, device).items():
            if sum(parts.values()) > sum(found.get(stage, {}).values()):
                found[stage] = parts
    return found


def _one_row(sections: Sections, shape: Shape, engine: dict[str, float]) -> bool:
    """Whether vLLM's share holds the longest prompt and response; the first thing that it checks."""
    tokens, devices = sections["prepare"]["model"]["context_tokens"], work.devices_of(sections, "generate")
    precision = work.precision_of(sections)
    return engine_rows(shape, engine, precision=precision, devices=devices, tokens=tokens) > 0


def _notes(experiment: Experiment, shape: Shape, memory: dict[str, dict[str, float]]) -> list[str]:
    """What this plan could not know, and what the configuration should not ask for."""
    common = experiment.common
    unknown = [name for name, count in counts.held_out(common).items() if count is None]
    context = common["prepare"]["model"]["context_tokens"]
    notes = []
    if any(sections["generate"]["rounds"] > 1 for sections in experiment.arms.values()):
        notes.append(
            "generate.rounds: at most, every round samples as many problems as the first; expected, as many as of the "
            "round before are hard (all-right groups are not counted). Rounds are counted as one call of the sampler."
        )
    if any(sections["select"].get("compute_budget") for sections in experiment.arms.values()):
        notes.append("select.compute_budget is not looked at: iterations that it leaves empty are counted as sampled.")
    if unknown:
        notes.append(f"How many problems {', '.join(unknown)} has is not known here: counted as none.")
    if counts.training_problems(common) is None:
        notes.append("How many training problems there are is not known here: novelty memory is counted without limit.")
    if shape.positions and context > shape.positions:
        notes.append(f"model.context_tokens {context:,} is more than the model's {shape.positions:,} positions.")
    if _backends(experiment) == ["vllm"] and not _one_row(common, shape, memory["generate"]):
        notes.append(
            f"vLLM has no room for the keys and values of one row of {context:,} tokens: raise "
            "sampling.engine.gpu_memory_utilization, or lower model.context_tokens."
        )
    if "warm_start" in common and common["warm_start"]["steps"]:
        notes.append("The warm start's own training is not counted.")
    return notes
