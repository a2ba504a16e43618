"""Remakes tests/golden/peft: adapters exported for PEFT, and the logits that PEFT computes with them in torch.

    PYTHONPATH=.:tests/helpers python tests/golden/make_peft_golden.py      (needs torch, transformers and peft)

Each folder is what `cuma_jax.export --format peft` writes for a case of tests/formats/peft_cases.py, a few kB;
logits.npz has the logits of every case, float32. A case whose logits are not ours to 1e-4 is an error.
"""

import pathlib

import numpy as np
from peft_cases import BASE, CASES, made, torch_logits

from cuma_jax.interop.formats.peft_folder import write_peft

HERE = pathlib.Path(__file__).parent / "peft"


def main() -> None:
    """Makes every case."""
    logits = {}
    for name in CASES:
        write_peft(HERE / name, made(name).peft, BASE.name)
        logits[name] = torch_logits(HERE / name)
        difference = np.abs(logits[name] - made(name).logits_BTV).max()
        print(f"{name}: logits differ by {difference:.1e} at most")
        if difference > 1e-4:
            raise SystemExit(f"{name}: PEFT does not compute what we do")
    np.savez_compressed(HERE / "logits.npz", **logits)


if __name__ == "__main__":
    main()
