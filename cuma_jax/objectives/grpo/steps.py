"""One training step of GRPO: replies are written and scored, and the policy is updated on them; and its validation.

Shapes: N rows, O options.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from cuma_jax.data.batches import Batch, SurveyBatcher
from cuma_jax.data.pipeline import TrainBatches
from cuma_jax.data.prompts import ConversationPrompts, SurveyPrompts
from cuma_jax.objectives.grpo.policy import make_update
from cuma_jax.objectives.grpo.rollouts import Rollouts
from cuma_jax.objectives.reference import ReferencePolicy
from cuma_jax.rewards.agreement import energy_distance
from cuma_jax.rewards.total import make_reward
from cuma_jax.run.forward import predict
from cuma_jax.run.inference import row_step
from cuma_jax.run.rows import rows_of
from cuma_jax.run.run import Run
from cuma_jax.runtime.files import cache_dir
from cuma_jax.runtime.processes import process_count
from cuma_jax.runtime.sharding import local_rows, put_batch
from cuma_jax.surveys.survey import Survey
from cuma_jax.training.step import TrainState, UpdateRule

Tree = Any
_VALIDATION_STEP = 2**31 - 1
"""Replies to held-out prompts are written as at this step, which training does not reach: always with the same keys."""


class GrpoSteps:
    """See `run.objective.Steps`.

    Args:
        batches: of prompts to train on.
        rule: how gradients become updates.
        reference: what the policy is held to; None: nothing.

    Raises:
        CumaError: prompts that do not divide over the mesh, or a reward that cannot be had here.
    """

    synchronous = True

    def __init__(self, run: Run, batches: TrainBatches, rule: UpdateRule, reference: ReferencePolicy | None):
        config, prompts = run.config, batches.batcher
        assert isinstance(prompts, SurveyPrompts | ConversationPrompts)
        self._run, self._prompts = run, prompts
        cache = str(cache_dir(config.run.cache_dir))
        train_A, processes = run.mask("train"), process_count()
        reward = make_reward(config, run.source, run.profiles, train_A, cache, processes)
        self._rollouts = Rollouts(run, reward)
        self._update = make_update(run.decoder, config, rule, run.mesh, run.base_shardings)
        self._reference = None if reference is None else reference.adapters()
        self._validate = _validation(run, self._rollouts)

    def step(self, state: TrainState, bucket: int, batch: Batch) -> tuple[TrainState, dict[str, Any]]:
        """One step on this process's prompts `batch`; the old state's buffers are reused.

        Metrics beside the update's: figures of the rewards, `reply_tokens`, and `seconds_*` of the step's parts.
        """
        run, began = self._run, time.perf_counter()
        number = int(jax.device_get(state.step))
        written = self._rollouts.write(state.adapters, bucket, batch, number)
        sampled = time.perf_counter()
        rewarded = self._rollouts.score(written, self._prompts, number)
        rows = self._rollouts.rows(batch, written, rewarded)
        scored = time.perf_counter()
        placed = put_batch(rows, run.mesh)
        tables = run.training.tables[bucket]
        state, metrics = self._update(state, run.base, self._reference, tables, written.below, placed)
        jax.block_until_ready(metrics)
        share = len(written.length_B) / run.config.train.batch_size
        seconds = {
            "seconds_sampling": sampled - began,
            "seconds_rewards": scored - sampled,
            "seconds_update": time.perf_counter() - scored,
        }
        return state, metrics | rewarded.figures | {"reply_tokens": written.length_B.sum() / share} | seconds

    def validate(self, adapters: Tree) -> dict[str, float]:
        """Figures of held-out rows, `loss` among them; empty where there are none."""
        return self._validate(adapters)


def _validation(run: Run, rollouts: Rollouts) -> Callable[[Tree], dict[str, float]]:
    if not run.mask("validation").any() or not run.config.train.eval_batches:
        return lambda adapters: {}
    if isinstance(run.source, Survey) and run.config.reward.survey:
        return _HeldOutAnswers(run)
    return _HeldOutReplies(run, rollouts)


class _HeldOutAnswers:
    """A survey's held-out answers against the model's distribution over the options, without sampling.

    `loss` in nats is that of the objective choice, so that a run can be compared with the one it starts from; its
    optimum is people's distribution, as the reward's is. `agreement` is minus the energy distance from the row's
    answers, `accuracy` the share of answers on the likeliest option; all are means over rows.
    """

    def __init__(self, run: Run):
        config = run.config
        assert run.prediction is not None
        self._run, size = run, config.evaluation.batch_size
        batcher: SurveyBatcher = run.prediction.training_rows(run.mask("validation"))
        local = local_rows(run.mesh, size)
        count = max(config.train.eval_batches * config.train.batch_size // size, 1)
        source = TrainBatches(batcher, size, count, config.train.seed, local)
        self._batches = [(source.draw(i)[1], *source[i]) for i in range(count)]
        self._rows, self._questions = batcher.rows, run.survey.questions
        self._step = row_step(run, predict)

    def __call__(self, adapters: Tree) -> dict[str, float]:
        run, found = self._run, []
        assert run.prediction is not None
        for index_N, bucket, batch in self._batches:
            tables = run.prediction.tables[bucket]
            probs_NO, _ = jax.device_get(self._step(adapters, run.base, tables, put_batch(batch, run.mesh)))
            found += [self._scores(n, p_O) for n, p_O in zip(index_N.tolist(), probs_NO, strict=False)]
        return dict(zip(("loss", "agreement", "accuracy"), np.mean(found, axis=0).tolist(), strict=True))

    def _scores(self, row: int, p_O: np.ndarray) -> tuple[float, float, float]:
        question = self._questions[self._rows.question_N[row]]
        options = len(question.options)
        if self._rows.target_NO is None:
            target_O = np.eye(options)[self._rows.option_N[row]]
        else:
            target_O = self._rows.target_NO[row, :options].astype(np.float64)
        p_O = p_O[:options].astype(np.float64)
        loss = -float(target_O @ np.log(np.maximum(p_O, 1e-30)))
        return loss, -energy_distance(p_O, target_O, question.ordered), float(target_O[np.argmax(p_O)])


class _HeldOutReplies:
    """The mean reward of replies to held-out prompts; `loss` is its negative. Costs what sampling and a judge cost."""

    def __init__(self, run: Run, rollouts: Rollouts):
        train, prompts = run.config.train, rows_of(run, "validation")
        assert isinstance(prompts, SurveyPrompts | ConversationPrompts)
        self._rollouts, self._prompts = rollouts, prompts
        size = run.objective.rows_per_step(run.config)
        source = TrainBatches(self._prompts, size, train.eval_batches, train.seed, local_rows(run.mesh, size))
        self._batches = [source[i] for i in range(train.eval_batches)]

    def __call__(self, adapters: Tree) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for number, (bucket, batch) in enumerate(self._batches):
            step = _VALIDATION_STEP - number
            written = self._rollouts.write(adapters, bucket, batch, step)
            for name, value in self._rollouts.score(written, self._prompts, step).figures.items():
                found.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        return {"loss": -means["reward"], **means}
