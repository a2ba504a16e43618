"""The gates of a profile: exact where the router sees nothing else, averaged over prompts where it reads the text too.

Shapes: N profiles, M profile vector, L adapted layers, E experts, B rows, C projected profile width.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cuma_jax.evaluation.surveys.prediction import rows_of
from cuma_jax.interop.export.peft_adapters import Gates
from cuma_jax.interop.formats.official_tensors import GROUPS
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.experts import router_names
from cuma_jax.models.router import ProfileProjection, Router
from cuma_jax.run.forward import Model, hidden
from cuma_jax.run.inference import ask_rows, row_step
from cuma_jax.run.run import Run

Tree = Any


def owners(decoder: Decoder) -> dict[str, tuple[str, str]]:
    """Adapted linear -> (its group in the routers' statistics, its router)."""
    assert decoder.adapter is not None
    targets, router = decoder.adapter.targets, decoder.router
    found: dict[str, tuple[str, str]] = {}
    for group in GROUPS:
        names = router_names(router, [linear for linear in group if linear in targets])
        found |= {linear: ("_".join(group), name) for linear, name in names.items()}
    return found


def profile_gates(decoder: Decoder, adapters: Tree, vectors_NM: np.ndarray) -> list[Gates]:
    """The gates of profiles under a router that sees only the profile (or a lookup), one entry per profile."""
    config = decoder.router
    assert decoder.adapter is not None
    if config.inputs == "lookup":
        return [
            {t: np.broadcast_to(v_E, (decoder.n_adapted, len(v_E))) for t in decoder.adapter.targets}
            for v_E in vectors_NM
        ]
    profile_NC: Any = jnp.asarray(vectors_NM)
    if decoder.projection_layers:
        projection = ProfileProjection(decoder.projection_layers, decoder.projection_dim)
        profile_NC = projection.apply({"adapters": adapters["projection"]}, profile_NC)
    router = Router(config, decoder.adapter.experts, "embed")
    nothing, valid = jnp.zeros((len(profile_NC), 1, 1)), jnp.ones((len(profile_NC), 1), bool)

    def of_layer(weights: Tree) -> Any:
        return router.apply({"adapters": weights}, nothing, profile_NC, valid, True)[0][:, 0]

    gate_of: dict[tuple[str, str], np.ndarray] = {}
    for group, name in owners(decoder).values():
        weights = adapters["adapted_layers"][f"{group}_experts"][name]
        gate_of[group, name] = np.asarray(jax.vmap(of_layer)(weights))  # [L,N,E]
    return [{t: gate_of[owner][:, n] for t, owner in owners(decoder).items()} for n in range(len(vectors_NM))]


def averaged_gates(run: Run, adapters: Tree, rows: Sequence[int], questions: Sequence[np.ndarray]) -> list[Gates]:
    """Mean gates over the tokens of prompts (each prompt counts the same), one entry per profile: of each its row, and
    the questions (int32) that it is asked.
    """
    counts, layout = [len(asked) for asked in questions], run.prediction
    of_N, profile_N = (np.repeat(x, counts) for x in (np.arange(len(rows)), np.array(rows, np.int32)))
    assert layout is not None, "conversations have no questions to ask"
    batcher = layout.batcher(rows_of(profile_N, np.concatenate(questions)))
    sums: dict[tuple[str, str], np.ndarray] = {}
    for index_B, found in ask_rows(run, row_step(run, _mean_gates), adapters, batcher, layout.tables):
        for owner, gate_BLE in found.items():
            total = sums.setdefault(owner, np.zeros((len(rows), *gate_BLE.shape[1:])))
            np.add.at(total, of_N[index_B], gate_BLE)
    return [{t: sums[owner][n] / counts[n] for t, owner in owners(run.decoder).items()} for n in range(len(rows))]


def _mean_gates(model: Model, batch: dict[str, jax.Array]) -> dict[tuple[str, str], jax.Array]:
    """Mean gates over each row's tokens [B,L,E], by group and router."""
    _, stats = hidden(model, batch, None)
    length_B11 = batch["lengths"][:, None, None]
    return {
        (group, name): jnp.swapaxes(s.gate_BE, 0, 1) / length_B11
        for group, routers in stats.items()
        for name, s in routers.items()
    }
