"""What a run is told to set for profile vectors of another width gives that width."""

import types

import numpy as np

from cuma_jax.config import ProfileConfig
from cuma_jax.profile_encoders.normalise import fit_normaliser
from cuma_jax.profile_encoders.profile_embedders import ProfileEmbedder
from cuma_jax.run.init_adapters import _width_advice


def advice(normalise, width, granularity="profile"):
    embedder = ProfileEmbedder(granularity, ("country",), {}, {"width": 32}, None)
    table = types.SimpleNamespace(embedder=embedder)
    return _width_advice(ProfileConfig(normalise=normalise, granularity=granularity, encoder="backbone"), table, width)


def test_the_advice_for_another_width_gives_it():
    assert advice("whiten", 8) == "set profile.components to 8"
    vectors = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    assert fit_normaliser(vectors, "whiten", 8)(vectors).shape == (50, 8)
    for normalise in ("none", "l2", "standardise"):  # which leave profile.components without effect
        assert fit_normaliser(vectors, normalise, 8)(vectors).shape == (50, 32)
        assert "profile.encoder" in advice(normalise, 8)
        assert "components" not in advice(normalise, 8)
    assert "profile.granularity to profile and profile.normalise to none" in advice("whiten", 32, "field")
    assert "vectors have 64, this one's 32" in advice("none", 64)
