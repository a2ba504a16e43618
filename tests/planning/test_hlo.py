"""Collectives are counted as often as they run, whichever way XLA writes loops and groups."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cuma_jax.planning.hlo import collectives

TPU = """
%piece.1 (p.0: bf16[8,4]) -> bf16[8,16] {
  %p.0 = bf16[8,4]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[8,16]{1,0} all-gather(%p.0), channel_id=7, replica_groups=mesh['a'=4,'b'=2] {'a'}
}

%piece.2 (p.1: bf16[8,4]) -> bf16[8,16] {
  %p.1 = bf16[8,4]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[8,16]{1,0} all-gather(%p.1), channel_id=7, replica_groups=mesh['a'=4,'b'=2] {'a'}
}

%all-reduce-scatter.3 (p.2: f32[16]) -> f32[4] {
  %p.2 = f32[16]{0} parameter(0)
  ROOT %all-reduce.4 = f32[16]{0} all-reduce(%p.2), channel_id=8, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
}

%body (b.0: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %f.1 = bf16[8,16]{1,0} fusion(%x), kind=kCustom, calls=%piece.1
  %f.2 = bf16[8,16]{1,0} fusion(%x), kind=kCustom, calls=%piece.2
  %f.3 = f32[4]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.3
}

%condition (c.0: (s32[], bf16[8,4])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(36)
  ROOT %lt = pred[] compare(%i, %constant.9), direction=LT
}

%outer_body (o.0: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %while.1 = (s32[], bf16[8,4]) while(%t), condition=%condition, body=%body
}

%outer_condition (d.0: (s32[], bf16[8,4])) -> pred[] {
  %constant.2 = s32[] constant(3)
}

ENTRY %main (m.0: bf16[8,4]) -> f32[] {
  %while.2 = (s32[], bf16[8,4]) while(%t), condition=%outer_condition, body=%outer_body
  %all-reduce.5 = (f32[2]{0}, f32[]) all-reduce(%a, %b), channel_id=9, replica_groups=[2,4]<=[8], to_apply=%add
  %all-to-all.6 = s8[64]{0} all-to-all(%c), channel_id=10, replica_groups=[8,1]<=[8], dimensions={0}
}
"""


def test_loops_multiply_chains_count_once_and_groups_of_one_not_at_all():
    found = {item.kind: item for item in collectives(TPU, 8)}
    assert set(found) == {"all-gather", "reduce-scatter", "all-reduce"}
    gather, scatter, reduce = (found[kind] for kind in ("all-gather", "reduce-scatter", "all-reduce"))
    assert (gather.times, gather.bytes, gather.group) == (108, 8 * 16 * 2, 4)
    assert (scatter.times, scatter.bytes, scatter.group) == (108, 16 * 4, 4)
    assert (reduce.times, reduce.bytes, reduce.group) == (1, 12, 4)
    assert gather.moved == 108 * 256 * 3 / 4
    assert reduce.moved == 2 * 12 * 3 / 4


@pytest.mark.parametrize("length", [1, 5])
def test_a_gather_inside_a_real_scan_runs_as_often_as_the_scan(length):
    mesh = jax.make_mesh((8,), ("x",), (AxisType.Auto,))
    split, whole = NamedSharding(mesh, PartitionSpec(None, "x")), NamedSharding(mesh, PartitionSpec())

    def run(w_LDF, x_BD):
        return jax.lax.scan(
            lambda x, w_DF: (jnp.tanh(x @ jax.lax.with_sharding_constraint(w_DF, whole)), None), x_BD, w_LDF
        )[0]

    shapes = jax.ShapeDtypeStruct((length, 16, 16), jnp.float32), jax.ShapeDtypeStruct((8, 16), jnp.float32)
    step = jax.jit(run, in_shardings=(split, NamedSharding(mesh, PartitionSpec("x"))))
    gathers = [c for c in collectives(step.lower(*shapes).compile().as_text(), 8) if c.kind == "all-gather"]
    # One gather of a layer in the loop, or of all layers before it: the same bytes.
    assert sum(c.times * c.bytes for c in gathers) == length * 16 * 16 * 4
    assert {c.group for c in gathers} == {8}
