"""How far apart profile vectors lie: what a router can see of who is asking, before anything is trained.

    python benchmarks/profile_geometry.py                      the settings of configs/compare_learning.py
    python benchmarks/profile_geometry.py --json geometry.json

One vector a country (the mean over its profiles), countries of training only. `cosine` is the mean over pairs of
countries; `dimensions` the participation ratio of their covariance, (sum of eigenvalues)^2 / sum of squares;
`nearest` the median distance to the nearest other country, over the root mean square length of a vector: at 0 two
countries are one to the router. `moves` is the share of that length that differs between countries:
sqrt(variance / mean square).
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from cuma_jax.config import Config
from cuma_jax.config.presets import load_preset
from cuma_jax.data.load import load_source, source_profiles
from cuma_jax.profile_encoders.encoder_sources import Backbone, load_encoder
from cuma_jax.profile_encoders.profile_table import build_profile_table
from cuma_jax.runtime.files import cache_dir
from cuma_jax.surveys.splits import TRAIN, split_rows
from cuma_jax.surveys.units import survey_units

VARIANTS = (
    *("whole_raw", "whole_standardised", "whole_whitened", "whole_standardised_both", "backbone"),
    *("components_4", "components_8", "cuma", "region_language", "all_components", "all_components_both"),
    *("categorical", "categorical_both"),
)


def country_vectors(config: Config) -> np.ndarray:
    """The table's mean vector of every training country, float64 [N, M]."""
    cache = str(cache_dir(config.run.cache_dir))
    survey: Any = load_source(config.data, config.reads_choices, cache, config.profile)
    profiles = source_profiles(survey, config.profile)
    train_R = np.unique(survey.respondent_A[split_rows(survey_units(survey), config.data) == TRAIN])
    train_P = np.zeros(len(profiles), bool)
    train_P[profiles.profile_R[train_R]] = True
    encoder = None
    if config.profile.granularity != "categorical":
        encoder = load_encoder(config.profile, cache, _backbone(config, cache))
    table = build_profile_table(profiles, train_P, config.profile, encoder, cache, progress=False)
    code_P = profiles.codes_PF[:, profiles.fields.index("country")]
    return np.stack([table.vectors_PM[(code_P == c) & train_P].mean(0) for c in np.unique(code_P[train_P]) if c >= 0])


def _backbone(config: Config, cache: str) -> Backbone | None:
    if config.profile.encoder != "backbone":
        return None
    from cuma_jax.run.build import build_run

    a = build_run(config, progress=False)
    return Backbone(a.decoder_config, a.base, a.tokenizer, a.fingerprint, config.model.source, a.decoder.dtype)


def geometry(x_NM: np.ndarray) -> dict[str, float]:
    """The figures of the module's docstring."""
    x_NM = x_NM.astype(np.float64)
    length_N = np.linalg.norm(x_NM, axis=1)
    pair_NN = ~np.eye(len(x_NM), dtype=bool)
    cosine_NN = x_NM @ x_NM.T / np.outer(length_N, length_N)
    centred_NM = x_NM - x_NM.mean(0)
    values_K = np.linalg.svd(centred_NM, compute_uv=False) ** 2
    distance_NN = np.sqrt(np.maximum(((x_NM[:, None] - x_NM[None]) ** 2).sum(-1), 0))
    nearest_N = np.where(pair_NN, distance_NN, np.inf).min(1)
    square = (x_NM**2).sum(1).mean()
    return {
        "countries": len(x_NM),
        "width": x_NM.shape[1],
        "cosine": float(cosine_NN[pair_NN].mean()),
        "dimensions": float(values_K.sum() ** 2 / (values_K**2).sum()),
        "nearest": float(np.median(nearest_N) / np.sqrt(square)),
        "moves": float(np.sqrt((centred_NM**2).sum(1).mean() / square)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()
    comparison = load_preset("compare_learning")
    found = {}
    print(f"{'variant':26}{'countries':>10}{'width':>7}{'cosine':>8}{'dimensions':>12}{'nearest':>9}{'moves':>7}")
    for v in comparison.variants:
        if v.name in VARIANTS:
            f = found[v.name] = geometry(country_vectors(comparison.config(v, 0)))
            print(f"{v.name:26}{f['countries']:10}{f['width']:7}{f['cosine']:8.3f}{f['dimensions']:12.1f}"
                  f"{f['nearest']:9.3f}{f['moves']:7.3f}", flush=True)  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
