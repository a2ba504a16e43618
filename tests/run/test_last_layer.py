"""The last adapted layer at each row's last token alone: the same values, gradients and statistics, in float32."""

import dataclasses
import functools

import numpy as np
import pytest
from conftest import changed
from same import same_step

from cuma_jax.config.methods import apply_method
from cuma_jax.run import forward
from cuma_jax.run.forward import Model, last_layer_pays

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)
TARGETS = {"adapter": {"targets": ("q", "k", "v")}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "sections"),
    [
        ("soft", TARGETS | {"objective": {"balance": 0.01}}),  # of the best K, rounding may choose another
        (
            "cuma_persona",
            {
                "router": {"gate": "soft"},
                "adapter": {"targets": ("q", "v"), "layers": 1},
                "train": {"question_cache": "off"},
            },
        ),
        ("lora", {"adapter": {"targets": ("q", "o", "down")}}),
        ("prefix", {}),
        ("full", {}),
    ],
)
def test_values_gradients_and_statistics_equal_the_full_computation(
    debug_config, run_on, random_adapters, loss_and_gradients, train_batches, monkeypatch, method, sections
):
    run = run_on(changed(apply_method(debug_config, method), **sections))
    adapters, (bucket, batch) = random_adapters(run), train_batches(run)[0]
    assert len(set(batch["lengths"])) > 1
    assert last_layer_pays(run.decoder)

    def found(pays):
        # Another run, so that programs are compiled anew.
        monkeypatch.setattr(forward, "last_layer_pays", lambda decoder: pays)
        of = dataclasses.replace(run)
        with run.mesh:
            predicted = forward.predict(Model(run.decoder, run.base, adapters, run.prediction.tables[bucket]), batch)
        return loss_and_gradients(of, adapters, batch, bucket), predicted

    (step, predicted), (full_step, full) = found(True), found(False)
    same_step(step, full_step, close, rtol=1e-5)
    for one, other in zip(predicted, full, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_it_is_used_exactly_where_it_is_exact(debug_run, debug_config):
    decoder = debug_run.decoder.clone(adapter=changed(debug_config, **TARGETS).adapter)
    assert last_layer_pays(decoder)
    assert not last_layer_pays(decoder.clone(deterministic=False))
    assert not last_layer_pays(decoder.clone(remat="full"))
    assert not last_layer_pays(decoder.clone(quantize="int8"))
    assert not last_layer_pays(decoder.clone(adapter=None))
    # A router after the attention reads every token.
    assert not last_layer_pays(decoder.clone(adapter=dataclasses.replace(decoder.adapter, targets=("q", "o"))))
