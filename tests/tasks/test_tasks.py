"""Properties of every generated task, and the disjointness of its sets."""

import numpy as np
import pytest

from extra_rl.config.judges import TASKS
from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ConfigError
from extra_rl.models.tokenizers import word_level
from extra_rl.tasks.base import Problem, Task, generate
from extra_rl.tasks.load import load_task
from extra_rl.tasks.sets import demonstration_stream, make_sets
from extra_rl.verdict import Verdict


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(TaskConfig(name=request.param))


def canonicals(problems: list[Problem]) -> set[str]:
    return {problem.canonical for problem in problems}


def test_demonstrations_are_correct_and_vary(task: Task) -> None:
    rng = np.random.default_rng(0)
    for level in task.levels:
        for problem in generate(task, level, 10, rng):
            response = task.demonstration(problem, rng)
            judgement = task.judge(problem.prompt, problem.answer, response, finished=True)
            assert judgement.verdict is Verdict.RIGHT, (problem, response)
            assert judgement.extracted == problem.answer
    many = {task.demonstration(problem, rng) for _ in range(20)}
    assert len(many) > 5 or task.name == "arithmetic"  # which has one form


def test_every_beginning_of_a_demonstration_can_end_correctly_until_an_error(task: Task) -> None:
    rng = np.random.default_rng(0)
    for level in task.levels:
        for problem in generate(task, level, 5, rng):
            words = task.demonstration(problem, rng).split()
            for length in range(len(words)):
                assert task.can_end_right(problem.prompt, problem.answer, " ".join(words[:length]))
            place = words.index("=") + 1
            faulty = [*words[:place], str(int(words[place]) + 1), *words[place + 1 :], task.boundary_token]
            assert not task.can_end_right(problem.prompt, problem.answer, " ".join(faulty))


def test_texts_are_words_of_the_vocabulary(task: Task) -> None:
    tokenizer = word_level(task.vocabulary)
    rng = np.random.default_rng(0)
    assert task.boundary_token in task.vocabulary
    for level in task.levels:
        problem = task.sample(level, rng)
        for text in (problem.prompt, problem.answer, task.demonstration(problem, rng)):
            token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(token_ids) == text
            assert len(token_ids) == len(text.split())


def test_sets_are_disjoint_and_distinct_in_every_level(task: Task) -> None:
    count = 30 if task.name == "arithmetic" else 96  # its level L2 has 116 products
    train, levels = dict.fromkeys(task.levels, count + count // 2), len(task.levels)
    sets = make_sets(task, 0, train=train, tuning_per_level=count, final_per_level=count)
    assert (len(sets.train), len(sets.tuning), len(sets.final)) == (sum(train.values()), levels * count, levels * count)
    everything = [*sets.train, *sets.tuning, *sets.final]
    assert len(canonicals(everything)) == len(everything)
    assert len({problem.problem_id for problem in everything}) == len(everything)
    assert sets.held_out == canonicals(sets.tuning) | canonicals(sets.final)


def test_sets_depend_on_the_seed_and_held_out_sets_not_on_the_training_size(task: Task) -> None:
    few = make_sets(task, 0, train={"L6": 5}, tuning_per_level=8, final_per_level=8)
    again = make_sets(task, 0, train={"L6": 5}, tuning_per_level=8, final_per_level=8)
    more = make_sets(task, 0, train={"L5": 9, "L6": 7}, tuning_per_level=8, final_per_level=8)
    other = make_sets(task, 1, train={"L6": 5}, tuning_per_level=8, final_per_level=8)
    assert few == again
    assert (few.tuning, few.final) == (more.tuning, more.final)
    assert canonicals(few.train) < canonicals(more.train)
    assert few.final != other.final


def test_the_training_set_is_shuffled_over_levels(task: Task) -> None:
    sets = make_sets(task, 0, train={"L1": 50, "L6": 50}, tuning_per_level=1, final_per_level=1)
    first_half = [problem.level for problem in sets.train[:50]]
    assert 15 < first_half.count("L1") < 35


def test_a_level_that_is_too_small_is_named() -> None:
    task = load_task(TaskConfig(name="signed_sum"))
    with pytest.raises(ConfigError, match=r"signed_sum, level L1: 1000 distinct problems"):
        generate(task, "L1", 1000, np.random.default_rng(0))
    assert len(generate(task, "L1", 366, np.random.default_rng(0))) == 366  # 12 * 36 - 12 * 11 / 2: all


def test_unknown_names_are_refused() -> None:
    task = load_task(TaskConfig(name="signed_sum"))
    with pytest.raises(ConfigError, match=r"task\.name: math"):
        load_task(TaskConfig(name="math"))
    with pytest.raises(ConfigError, match="no level 'L7'"):
        generate(task, "L7", 1, np.random.default_rng(0))
    for weights in ({"L7": 1.0}, {"L1": 0.0}, {"L1": 2.0, "L2": -1.0}):
        with pytest.raises(ConfigError, match="level weights"):
            demonstration_stream(task, 0, level_weights=weights, exclude=frozenset())


def test_demonstrations_follow_weights_and_avoid_excluded_problems(task: Task) -> None:
    held_out = generate(task, "L1", 300, np.random.default_rng(0))
    prompts_L1 = {problem.prompt for problem in held_out}
    excluded = frozenset(problem.canonical for problem in held_out)
    stream = demonstration_stream(task, 0, level_weights={"L1": 3, "L6": 1}, exclude=excluded)
    pairs = stream(0, 200)
    short = [(prompt, response) for prompt, response in pairs if response.count(task.boundary_token) == 0]
    assert 120 < len(short) < 180  # 150 expected, standard deviation 6
    assert not {prompt for prompt, _ in short} & prompts_L1
    assert stream(0, 200) == pairs
    assert stream(1, 200) != pairs
