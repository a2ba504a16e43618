"""Machines by name: the mesh, batch and memory settings of the shipped WorldValuesBench presets on each.

`--machine v5e-256` sets, after the preset and the method and before any other flag: `mesh.*`, `train.batch_size`,
`train.micro_batches`, `evaluation.batch_size`, `model.remat` and `model.quantize`. Names are as Google counts: v5e
and v6e in chips, v5p in cores (v5p-64 is 32 chips). Every row holds the longest bucket, 1,024 tokens. What the
compiler says of each is in docs/plan.md.

**A larger batch is another experiment.** The paper's batch is 16 rows; a pod needs more to be busy. `train.steps`
(and the steps between validations and checkpoints) are divided by as much as the batch grows, so that a run sees as
many answers as before. `optimizer.learning_rate` stays: what is right for a larger batch is not measured. For Adam
the usual start is its square root (Malladi et al., 2022): 2e-5 x sqrt(512 / 16) = 1.1e-4. For the paper's
optimisation exactly, take a machine that 16 rows can fill: 1xh100, or 8xh100 with `--train.batch_size 16`.

How the meshes were chosen is in docs/plan.md. Rows are split over data x fsdp, so that product divides the batch.
"""

import dataclasses
from typing import Any, Literal

from cuma_jax.config.schema import Config
from cuma_jax.config.training import MeshConfig
from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class Machine:
    """Chips or GPUs, in all: of TPU slices that the data-centre network joins (`topology` as libtpu names it), or
    GPUs as `plan --gpu` names them."""

    devices: int
    topology: str = ""
    slices: int = 1
    gpu: str = ""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a model of some size runs on a machine: the mesh (data is what is left), rows a step, the rest as in the
    config, and why this and nothing else."""

    fsdp: int
    tensor: int
    batch: int
    micro_batches: int
    remat: Literal["none", "dots", "full"]
    reason: str
    quantize: Literal["none", "int8"] = "none"


MACHINES = {
    "v5e-16": Machine(16, "v5e:4x4"),
    "v5e-256": Machine(256, "v5e:16x16"),
    "v6e-256": Machine(256, "v6e:16x16"),
    "v5p-64": Machine(32, "v5p:2x4x4"),
    "2xv5e-256": Machine(512, "v5e:16x16", slices=2),
    "8xh100": Machine(8, gpu="h100"),
    "1xh100": Machine(1, gpu="h100"),
}

SIZES = {"Qwen3-8B": "8b", "Llama-3.1-8B-Instruct": "8b", "Qwen3-32B": "32b", "Llama-3.3-70B-Instruct": "70b"}
"""Models by the last part of their name, as on the hub or a folder's."""

_DATA = "the weights fit whole beside two rows of 1,024 tokens: nothing is gathered, only the gradient travels"
_SPLIT = "weights split no further than memory asks: gathering grows with the split, and rows hide more of it"
_TIGHT = "every layer run again in the backward pass (remat full), so that weights are split less far"

SETTINGS: dict[tuple[str, str], Setting] = {
    ("v5e-16", "8b"): Setting(4, 1, 32, 1, "dots", _SPLIT),
    ("v5e-256", "8b"): Setting(4, 1, 512, 1, "dots", _SPLIT),
    ("v6e-256", "8b"): Setting(1, 1, 512, 1, "dots", _DATA),
    ("v5p-64", "8b"): Setting(1, 1, 128, 1, "dots", _DATA),
    ("2xv5e-256", "8b"): Setting(4, 1, 1024, 1, "dots", _SPLIT),
    ("8xh100", "8b"): Setting(1, 1, 64, 1, "dots", _DATA),
    ("1xh100", "8b"): Setting(1, 1, 16, 1, "full", "the paper's batch; remat dots keeps 54 GiB of 16 long rows"),
    ("v5e-16", "32b"): Setting(8, 1, 32, 1, "full", _TIGHT),
    ("v5e-256", "32b"): Setting(8, 1, 512, 1, "full", _TIGHT),
    ("v6e-256", "32b"): Setting(4, 1, 1024, 1, "full", _TIGHT),
    ("v5p-64", "32b"): Setting(2, 1, 64, 1, "dots", _SPLIT),
    ("2xv5e-256", "32b"): Setting(8, 1, 1024, 1, "full", _TIGHT),
    ("8xh100", "32b"): Setting(4, 1, 32, 1, "dots", _SPLIT),
    ("v5e-256", "70b"): Setting(32, 1, 256, 1, "full", _TIGHT),
    ("v6e-256", "70b"): Setting(16, 1, 1024, 1, "full", _TIGHT),
    ("v5p-64", "70b"): Setting(4, 1, 128, 1, "full", _TIGHT),
    ("2xv5e-256", "70b"): Setting(32, 1, 512, 1, "full", _TIGHT),
    ("8xh100", "70b"): Setting(8, 1, 16, 1, "full", _TIGHT),
}


def setting_of(machine: str, source: str) -> Setting | None:
    """What is known of a model on a machine, or None."""
    size = SIZES.get(source.rstrip("/").rpartition("/")[2])
    return SETTINGS.get((machine, size or ""))


def named(machine: Machine) -> str:
    """The name of a machine of the table, or an empty string."""
    return next((name for name, known in MACHINES.items() if known == machine), "")


def mesh_of(machine: str, setting: Setting) -> MeshConfig:
    """The whole mesh."""
    return MeshConfig(MACHINES[machine].devices // (setting.fsdp * setting.tensor), setting.fsdp, setting.tensor)


def apply_machine(config: Config, name: str, source: str = "") -> Config:
    """`config`, after its method, as it runs on the machine `name`; `source`: the model, if not `config.model.source`.

    A `CumaError` for an unknown machine, or a model that has no settings there.
    """
    if name not in MACHINES:
        raise CumaError(f"--machine {name!r} is unknown; it must be one of {', '.join(MACHINES)}")
    source = source or config.model.source
    setting = setting_of(name, source)
    if setting is None:
        known = ", ".join(model for model, size in SIZES.items() if (name, size) in SETTINGS)
        target = f"--topology {MACHINES[name].topology}" if MACHINES[name].topology else f"--gpu {MACHINES[name].gpu}"
        raise CumaError(
            f"--machine {name} has no settings for the model {source!r}; it has them for {known}. Leave --machine out "
            f"and let the planner find a mesh: python -m cuma_jax.plan --model.source {source} {target} --search"
        )
    mesh, grown = mesh_of(name, setting), setting.batch / config.train.batch_size

    def steps(count: int) -> int:
        return max(round(count / grown), 1) if count else 0

    fields = ("steps", "eval_every", "save_every", "log_every")
    counts: dict[str, Any] = {field: steps(getattr(config.train, field)) for field in fields}
    train = dataclasses.replace(config.train, batch_size=setting.batch, micro_batches=setting.micro_batches, **counts)
    ways = mesh.data * mesh.fsdp
    evaluation = dataclasses.replace(config.evaluation, batch_size=-(-config.evaluation.batch_size // ways) * ways)
    model = dataclasses.replace(config.model, remat=setting.remat, quantize=setting.quantize)
    return dataclasses.replace(config, mesh=mesh, train=train, evaluation=evaluation, model=model)
