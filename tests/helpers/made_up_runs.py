"""Runs without a model: real splits, real scoring, real files; only the predictions are made up, from the seed."""

import functools
import json
import pathlib

import numpy as np
from guessing import evaluate_guess

from cuma_jax.config import Config
from cuma_jax.config.comparison import Comparison, by_method, variant
from cuma_jax.data.load import load_source, source_units
from cuma_jax.evaluation.results import write_results
from cuma_jax.run.folder import open_run, write_config
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import build_profiles
from cuma_jax.surveys.splits import split_rows, split_table


@functools.cache
def _data(data, sentence):
    source = load_source(data, True, "")
    units = source_units(source)
    return source, units, build_profiles(source, (), sentence), split_rows(units, data)


def made_up_run(config: Config) -> bool:
    """As `train_run` does: a country's answers, mixed with everybody's by rank (8: its own), noisy by the seed."""
    if config.adapter.kind == "none":
        raise CumaError("method base cannot run on <this> source")
    if config.adapter.kind == "full":
        raise ZeroDivisionError("planted & loud")
    folder = open_run(config)
    survey, units, profiles, split_A = _data(config.data, config.profile.sentence)
    rng = np.random.default_rng([config.train.seed, config.adapter.experts])
    country = profiles.fields.index("country")
    keep = config.adapter.rank / 8
    sizes = [len(q.options) for q in survey.questions]
    count_QGO = np.full((len(sizes), len(profiles.vocab["country"]) + 1, max(sizes)), 1e-3)
    group_A = profiles.codes_PF[profiles.profile_R[survey.respondent_A], country]
    np.add.at(count_QGO, (survey.question_A, group_A, survey.option_A), 1.0)
    noise_QGO = rng.gamma(6.0, 1.0 / 6.0, count_QGO.shape)

    def predict(profile_U, question_U):
        group_U = profiles.codes_PF[profile_U, country]
        own = count_QGO[question_U, group_U] / count_QGO[question_U, group_U].sum(-1, keepdims=True)
        pooled = count_QGO.sum(1)[question_U]
        pooled /= pooled.sum(-1, keepdims=True)
        mixed = (keep * own + (1 - keep) * pooled) * noise_QGO[question_U, group_U]
        mixed[np.arange(max(sizes)) >= np.array(sizes)[question_U][:, None]] = 0.0
        return mixed / mixed.sum(-1, keepdims=True)

    about = {"training_seconds": 10.0 * config.adapter.experts, "evaluation_seconds": 1.5,
             "trainable_parameters": 1000 * config.adapter.experts}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    split_table(units, config.data).to_parquet(folder / "split.parquet", index=False)
    lines = [json.dumps({"step": s, "loss": 1.0, "examples_per_s": 8.0}) + "\n" for s in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    write_results(evaluate_guess(survey, profiles, split_A, predict, config.evaluation, about), folder)
    return True


def made_up_comparison(base: Config, folder: pathlib.Path, **more) -> Comparison:
    """Two variants with several seeds, one with one, one refused and one broken."""
    return Comparison(
        name="made_up",
        base=base,
        variants=(
            *by_method("cuma", "lora", seeds=2),
            variant("flat", "cuma", title="Rank 1 <b>&", note="says 'everybody' & <i>", adapter={"rank": 1}),
            *by_method("base", "full"),
        ),
        dir=str(folder),
        **more,
    )
