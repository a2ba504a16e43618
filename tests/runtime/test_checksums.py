"""A checksum is of values: of the same ones wherever they are, and of no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cuma_jax.runtime import checksums as module
from cuma_jax.runtime.checksums import checksums
from cuma_jax.runtime.json_files import is_sealed, sealed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint32", "int8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (4, 8, 6)])
def test_the_host_and_devices_of_any_layout_agree(dtype, shape):
    values = (np.random.default_rng(0).normal(size=shape) * 50).astype(jnp.dtype(dtype))
    mesh = jax.make_mesh((2, 4), ("a", "b"))
    parts = PartitionSpec("a", "b") if len(shape) == 3 else PartitionSpec()
    spread = jax.device_put(values, NamedSharding(mesh, parts))
    on_host = [int(total) for total in module._host_sums(values)]
    assert [int(total) for total in module._device_sums({"x": spread})["x"]] == on_host
    assert checksums({"x": spread}) == checksums({"x": values})


def test_every_bit_place_shape_and_type_counts():
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    known = checksums({"x": values})
    for bit in range(0, 32 * values.size, 7):
        other = values.copy()
        other.view(np.uint32).reshape(-1)[bit // 32] ^= 1 << bit % 32
        assert checksums({"x": other}) != known
    swapped = values[::-1].copy()
    for other in (swapped, values.reshape(5, 3), values.view(np.uint32)):
        assert checksums({"x": other}) != known


def test_a_seal_is_broken_by_any_change():
    values = sealed({"base": "b", "loss": 0.5})
    assert is_sealed(values)
    assert not is_sealed(values | {"loss": 0.25})
    assert not is_sealed({"base": "b", "loss": 0.5})
