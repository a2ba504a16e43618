"""A config made real: everything of a run that does not change while it trains.

Shapes: N rows (answers, conversations or pairs).
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from cuma_jax.config import Config
from cuma_jax.config.checks import SPLITS
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.models.decoder import Decoder
from cuma_jax.models.families import DecoderConfig
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.profile_encoders.profile_table import ProfileTable
from cuma_jax.run.decoders import init_variables
from cuma_jax.run.init_adapters import start_adapters
from cuma_jax.run.layouts import Layout, SurveyLayout
from cuma_jax.run.objective import Objective
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_tree, with_shardings
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey
from cuma_jax.surveys.units import Units
from cuma_jax.tokenization.tokenizer import Tokenizer

Tree = Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A config made real.

    Attributes:
        objective: what training minimises.
        mesh: the devices.
        source: the data: a survey, or preference data as conversations.
        units: what its rows belong to.
        profiles: its persons' distinct profiles.
        split_N: int8, the split of every row (answer or conversation), as positions in `SPLITS`.
        tokenizer: the base's, or the one that was asked for.
        files, fingerprint: the base's files and what tells it from another base.
        decoder: with dropout off; `train_decoder` has it on. For a lookup both have as many experts as training has
            values of the field, where `config` says 0.
        base, base_shardings: the frozen weights.
        adapter_shapes, adapter_shardings: the trainable tree, abstract.
        table: profile vectors; None where no router sees them.
        training: rows as the objective supervises them.
        prediction: rows as options are predicted (`training` itself, for `choice`); None for conversations.
    """

    config: Config
    objective: Objective
    mesh: Mesh
    source: Survey | Preferences
    units: Units
    profiles: Profiles
    split_N: np.ndarray
    tokenizer: Tokenizer
    files: ModelFiles
    fingerprint: str
    decoder: Decoder
    train_decoder: Decoder
    base: Tree
    base_shardings: Tree
    adapter_shapes: Tree
    adapter_shardings: Tree
    table: ProfileTable | None
    training: Layout
    prediction: SurveyLayout | None

    @property
    def decoder_config(self) -> DecoderConfig:
        """Shapes of the base."""
        return self.decoder.config

    @property
    def survey(self) -> Survey:
        """The survey that the run was trained on.

        Raises:
            CumaError: it was trained on conversations.
        """
        if not isinstance(self.source, Survey):
            raise CumaError(f"{self.source.name} was read as conversations; there are no survey questions to predict")
        return self.source

    def mask(self, split: str) -> np.ndarray:
        """Bool [N], the rows of a split."""
        return self.split_N == SPLITS.index(split)

    def init_adapters(self, seed: int) -> Tree:
        """Adapters to start training from, on their devices: those of `adapter.init_from`, or fresh ones."""
        if not self.config.adapter.init_from:
            return self.fresh_adapters(seed)
        return put_tree(self.start, self.adapter_shardings)

    @functools.cached_property
    def start(self) -> Tree:
        """The adapters of `adapter.init_from`, checked, in host memory; None where it is empty."""
        if not self.config.adapter.init_from:
            return None
        return start_adapters(self.config, self.files, self.decoder_config, self.adapter_shapes, self.table)

    def fresh_adapters(self, seed: int) -> Tree:
        """New adapters, made on their devices: the model starts as its base (with a prefix, near it)."""

        def init(key: jax.Array) -> Tree:
            return nn.meta.unbox(init_variables(self.decoder, self._profile_width, key)["adapters"])

        return jax.jit(init, out_shardings=self.adapter_shardings)(jax.random.key(seed))

    def identity_adapters(self, seed: int) -> Tree:
        """Adapters with which the model is its base: fresh ones, or a prefix of no tokens."""
        if self.config.adapter.kind != "prefix":
            return self.fresh_adapters(seed)
        none = jax.tree.map(lambda s: np.zeros((len(s), 0, *s.shape[2:]), s.dtype), self.adapter_shapes)
        return put_tree(none, self.adapter_shardings)

    @property
    def abstract_adapters(self) -> Tree:
        """Shapes of the adapters, and where they live."""
        return with_shardings(self.adapter_shapes, self.adapter_shardings)

    @property
    def trainable_parameters(self) -> int:
        """How many numbers are trained, counted from shapes."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.adapter_shapes))

    @property
    def _profile_width(self) -> int:
        return 0 if self.table is None else self.table.width
