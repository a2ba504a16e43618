"""Distributions over the options for any (profile, question) pairs, from a trained run.

Shapes: N pairs, O options, B rows of a batch, L layers, E experts.
"""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from cuma_jax.data.batches import Rows
from cuma_jax.data.pipeline import in_order
from cuma_jax.sharding import batch_sharding, local_rows, put_batch, replicated
from cuma_jax.training.assembly import Assembly
from cuma_jax.training.forward import predict


@dataclasses.dataclass
class Predictor:
    """Callable as `predictor(profile_N, question_N) -> probs_NO`.

    Attributes:
        assembly: the run.
        adapters: its trained adapters, on the devices.
        gate_NLE: mean gate of each expert for the pairs of the last call, [N,0,0] without a router.
    """

    assembly: Assembly
    adapters: Any
    gate_NLE: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def __post_init__(self) -> None:
        a = self.assembly
        whole = replicated(a.mesh)
        self._step = jax.jit(
            lambda adapters, base, tables, batch: predict(a.decoder, base, adapters, tables, batch),
            in_shardings=(a.adapter_shardings, a.base_shardings, whole, batch_sharding(a.mesh)),
            out_shardings=whole,
        )

    def __call__(self, profile_N: np.ndarray, question_N: np.ndarray) -> np.ndarray:
        """Predicts every pair once.

        Args:
            profile_N: int32, rows of the run's profiles.
            question_N: int32, the survey's questions.

        Returns:
            float32 [N,O], zero past each question's options.
        """
        a, layout = self.assembly, self.assembly.prediction
        assert layout is not None, "conversations have no options to predict"
        size = a.config.evaluation.batch_size
        rows = Rows(profile_N, question_N, np.zeros(len(profile_N), np.int32), None, np.ones(len(profile_N)))
        batcher = layout.batcher(rows)
        probs_NO = np.zeros((len(rows), max(layout.sizes_Q)), np.float32)
        gates: np.ndarray | None = None
        # Where there is no terminal, a line every so often instead of a bar that redraws itself.
        pace = 0.1 if sys.stderr.isatty() else 30.0
        quiet = jax.process_index() != 0
        bar = tqdm(total=len(rows), desc="predicting", unit="row", disable=quiet, mininterval=pace, dynamic_ncols=True)
        with jax.set_mesh(a.mesh):
            for index_N, bucket, batch in in_order(batcher, size, local_rows(a.mesh, size)):
                placed = put_batch(batch, a.mesh)
                probs_BO, gate_BLE = jax.device_get(self._step(self.adapters, a.base, layout.tables[bucket], placed))
                if gates is None:
                    gates = np.zeros((len(rows), *gate_BLE.shape[1:]), np.float32)
                probs_NO[index_N], gates[index_N] = probs_BO[: len(index_N)], gate_BLE[: len(index_N)]
                bar.update(len(index_N))
        bar.close()
        self.gate_NLE = np.zeros((0, 0, 0), np.float32) if gates is None else gates
        return probs_NO
