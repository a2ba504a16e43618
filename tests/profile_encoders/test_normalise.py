import numpy as np
import pytest

from cuma_jax.profile_encoders.normalise import fit_normaliser


def vectors(count, width, rank=None, seed=0):
    """Nearly collinear vectors, as mean pooling gives: a large common part and small differences of unequal size."""
    rng = np.random.default_rng(seed)
    sizes = 0.3 ** np.arange(rank or width)
    differences = rng.normal(size=(count, rank or width)) * sizes @ rng.normal(size=(rank or width, width))
    return (5.0 + 0.1 * differences).astype(np.float32)


def whiten_by_eigh(train_NC, x_NC, components):
    """The slow twin: the covariance written out, its eigenvectors one by one."""
    train_NC, x_NC = train_NC.astype(np.float64), x_NC.astype(np.float64)
    mean_C = sum(train_NC) / len(train_NC)
    covariance_CC = sum(np.outer(x - mean_C, x - mean_C) for x in train_NC) / len(train_NC)
    values, axes = np.linalg.eigh(covariance_CC)
    columns = []
    for component in range(1, components + 1):
        axis = axes[:, -component]
        axis = axis * np.sign(axis[np.abs(axis).argmax()])
        columns.append([(x - mean_C) @ axis / np.sqrt(values[-component]) for x in x_NC])
    return np.array(columns).T


@pytest.mark.parametrize(("count", "width", "components"), [(40, 12, 5), (9, 30, 5)])
def test_whitened_training_vectors_have_zero_mean_and_identity_covariance(count, width, components):
    train_NC, new_NC = vectors(count, width), vectors(7, width, seed=1)
    normaliser = fit_normaliser(train_NC, "whiten", components)
    white_NK = normaliser(train_NC).astype(np.float64)
    np.testing.assert_allclose(white_NK.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(white_NK.T @ white_NK / count, np.eye(components), atol=1e-3)
    np.testing.assert_allclose(white_NK, whiten_by_eigh(train_NC, train_NC, components), atol=1e-3)
    np.testing.assert_allclose(normaliser(new_NC), whiten_by_eigh(train_NC, new_NC, components), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("count", "rank", "filled"), [(4, 20, 3), (50, 3, 3), (2, 20, 1), (1, 20, 0), (0, 20, 0)])
def test_directions_without_variance_become_zero_columns_not_noise(count, rank, filled):
    train_NC, new_NC = vectors(count, 20, rank), vectors(5, 20, rank, seed=1)
    normaliser = fit_normaliser(train_NC, "whiten", 6)
    for x_NC in (train_NC, new_NC):
        white_NK = normaliser(x_NC)
        assert white_NK.shape == (len(x_NC), 6)
        assert np.isfinite(white_NK).all()
        np.testing.assert_array_equal(white_NK[:, filled:], 0)
        assert (len(x_NC) == 0) or (np.abs(white_NK[:, :filled]).max(0, initial=0) > 0.1).all()


def test_components_are_at_most_the_encoders_width():
    assert fit_normaliser(vectors(30, 6), "whiten", 100)(vectors(30, 6)).shape == (30, 6)


def test_standardised_coordinates_have_zero_mean_and_unit_variance_and_constant_ones_are_zero():
    train_NC = vectors(30, 8)
    train_NC[:, 3] = 0.1
    out_NC = fit_normaliser(train_NC, "standardise", 3)(train_NC)
    np.testing.assert_allclose(out_NC.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(out_NC.std(0), [1, 1, 1, 0, 1, 1, 1, 1], atol=1e-3)
    np.testing.assert_array_equal(fit_normaliser(train_NC[:1], "standardise", 3)(train_NC), 0)


def test_l2_gives_unit_length_and_none_gives_the_vectors_back():
    x_NC = vectors(5, 8)
    np.testing.assert_allclose(np.linalg.norm(fit_normaliser(x_NC, "l2", 3)(x_NC), axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fit_normaliser(x_NC, "none", 3)(x_NC), x_NC)
