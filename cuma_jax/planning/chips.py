"""What a chip can do. A plan's times are predictions from these figures; nothing is measured.

Looked up: bf16 FLOP/s, HBM and its speed of v4, v5e, v5p and v6e, and the network of v5e and v5p, on Google's pages
(cloud.google.com/tpu/docs/v4, v5e, v5p, v6e); the HBM that a program may use is what libtpu 0.0.42.1 says when one
is too large. FLOP/s and memory of H100, H200, A100 and L4, and NVLink of H100 and A100, against secondary pages
that quote NVIDIA's data sheets (dense bf16, not "with sparsity"; NVLink one way, half the figure given).

Not looked up, and to be checked before a figure rests on them: the one-way speed of a TPU link (Google gives 50
GB/s on v5e, 100 on v5p and v6e by its totals; a tenth less is assumed here), v4's links, the network of v4, v6e and
of GPUs, and the RTX cards.
"""

import dataclasses

from cuma_jax.runtime.errors import CumaError

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as JAX counts them.

    Attributes:
        flops: bf16 multiply-adds a second, times two.
        hbm: bytes of memory that a program may use.
        hbm_speed: bytes a second from and to memory.
        link: bytes a second, one way, of one link to a neighbour (TPU), or to all other GPUs of a machine together.
        links: links a mesh axis can use at once: both ways round a ring (TPU), or one switch.
        network: bytes a second and chip between slices or machines.
    """

    name: str
    flops: float
    hbm: int
    hbm_speed: float
    link: float
    links: int
    network: float


TPUS = {
    # libtpu's topologies of v4 have two devices a chip (one a core): half of everything each.
    "v4": Chip("TPU v4 core", 1.375e14, int(15.25 * GIB), 0.6e12, 4.5e10, 2, 3.1e9),
    "v5e": Chip("TPU v5e", 1.97e14, int(15.75 * GIB), 8.19e11, 4.5e10, 2, 3.1e9),
    "v5p": Chip("TPU v5p", 4.59e14, int(95.74 * GIB), 2.765e12, 9.0e10, 2, 6.2e9),
    "v6e": Chip("TPU v6e", 9.18e14, int(31.25 * GIB), 1.64e12, 9.0e10, 2, 1.25e10),
}
# Memory: what the card has, less about 1 GiB of the driver's and XLA's own; XLA takes 75% of it unless
# XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
GPUS = {
    "h100": Chip("H100 80 GB SXM", 9.89e14, 79 * 10**9, 3.35e12, 4.5e11, 1, 5.0e10),
    "h200": Chip("H200 141 GB SXM", 9.89e14, 139 * 10**9, 4.8e12, 4.5e11, 1, 5.0e10),
    "a100": Chip("A100 80 GB SXM", 3.12e14, 79 * 10**9, 2.04e12, 3.0e11, 1, 2.5e10),
    "rtx4090": Chip("RTX 4090 24 GB", 1.65e14, 23 * 10**9, 1.01e12, 3.2e10, 1, 1.25e9),
    "rtx3090": Chip("RTX 3090 24 GB", 7.1e13, 23 * 10**9, 9.4e11, 3.2e10, 1, 1.25e9),
    "l4": Chip("L4 24 GB", 1.21e14, int(22.5 * 10**9), 3.0e11, 3.2e10, 1, 1.25e9),
}


def tpu_of(topology: str) -> Chip:
    """The chip of a topology such as `v5e:16x16`; a `CumaError` where the table has none, or there are no sizes."""
    name, colon, sizes = topology.partition(":")
    if name not in TPUS:
        raise CumaError(f"--topology {topology}: no facts about a chip {name!r}; there are {', '.join(TPUS)}")
    if not colon or not all(size.isdigit() for size in sizes.split("x")):
        raise CumaError(
            f"--topology {topology}: give the chip and the sizes of the slice, such as v5e:16x16 or v5p:4x4x4"
        )
    return TPUS[name]


def gpu_of(name: str) -> Chip:
    """The GPU of a short name such as `h100`; a `CumaError` where it is not in the table."""
    if name not in GPUS:
        raise CumaError(f"--gpu {name}: not in the table; there are {', '.join(GPUS)}")
    return GPUS[name]
