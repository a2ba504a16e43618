"""Remakes tests/golden/reference/*_every_layout: an adapter of every linear, and what the official code computes.

    python tests/golden/make_reference_golden.py CHECKOUT [FOLDER]      (needs torch and transformers)

CHECKOUT is a copy of github.com/Throll/CuMA; FOLDER holds base_qwen3 (default: tests/golden/reference). The other cases
there were made the same way. All seven linears, one router for q, k and v but one each for gate and up, three layers in
each router, no top-K routing, and lambda_lm: what the scripts' settings leave out.
"""

import json
import pathlib
import sys
import types

import numpy as np

NAME = "qwen3_every_layout"
SETTINGS = {
    "lora_r": 2, "lora_alpha": 3, "dropout": 0.0, "num_experts": 4, "top_k": 2, "use_hydra_lora": False,
    "demographic_embed_dim": 5, "router_hidden_dim": 6, "num_router_mlp_layers": 3, "top_k_routing_strategy": False,
    "lambda_auxiliary": 0.01, "lambda_lm": 0.5, "share_router_for_qkv": True, "share_router_for_w_i": False,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}  # fmt: skip
KEPT = (".layers.1.self_attn.o_proj.", ".layers.2.mlp.up_proj.", ".layers.0.self_attn.v_proj.", ".routers.7.")
"""Gradients that are kept, by part of their names."""


def run(checkout: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes the case.

    Args:
        checkout: of the official code.
        folder: with the base; the case is written there.
    """
    sys.path.insert(0, str(checkout))
    import torch
    from models.cuma_model import apply_cuma, save_check_point
    from transformers import AutoModelForCausalLM
    from utils.cultural_config import CuMAConfig

    torch.manual_seed(0)
    config = CuMAConfig(**SETTINGS, target_modules_lora=SETTINGS["target_modules"], torch_dtype="torch.float32")
    base = AutoModelForCausalLM.from_pretrained(folder / "base_qwen3", dtype=torch.float32, attn_implementation="eager")
    model = apply_cuma(base, config).train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(torch.randn_like(p) * (0.2 if "lora_" in name else 0.3))
    lengths = torch.tensor([12, 9, 4])
    ids = torch.randint(3, 512, (3, 12))
    mask = (torch.arange(12)[None] < lengths[:, None]).long()
    labels = torch.where((mask == 1) & (torch.arange(12)[None] >= 2), ids, -100)
    profile = torch.randn(3, SETTINGS["demographic_embed_dim"])
    out = folder / f"adapter_{NAME}"
    args = types.SimpleNamespace(save_dir=str(out), model="base_qwen3")
    save_check_point(model, args, types.SimpleNamespace(save_pretrained=lambda where: None), None, config)
    path = out / "adapter_config.json"  # what it saves leaves lambda_lm out
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lambda_lm": SETTINGS["lambda_lm"]}, indent=1))

    def forward():
        model.router_manager.set_demographic_embed(profile)
        logits = model(input_ids=ids, attention_mask=mask).logits
        lm = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return logits, lm, model.router_manager.get_auxiliary_loss(lm, mask)

    logits, lm, total = forward()
    total.backward()
    routers = model.router_manager.routers
    aux = [float(router.load_balancing_loss(mask)) for router in routers]
    arrays = {
        "input_ids": ids, "attention_mask": mask, "labels": labels, "demographic_embed": profile,
        "out/logits": logits, "out/lm_loss": lm, "out/aux_loss": sum(aux), "out/aux_per_router": aux,
        "out/total_loss": total, **{f"out/routing/{i}": router.routing_weight for i, router in enumerate(routers)},
        **{f"out/grad/{name}": p.grad.clone() for name, p in trained.items() if any(k in name for k in KEPT)},
    }  # fmt: skip
    optimizer = torch.optim.AdamW(list(trained.values()), lr=2e-3, weight_decay=0.01)
    losses, norms = [], []
    for _ in range(3):
        optimizer.zero_grad()
        loss = forward()[2]
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)))
        losses.append(float(loss))
        optimizer.step()
    arrays |= {"out/step_loss": losses, "out/step_gnorm": norms}
    found = {k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.array(v) for k, v in arrays.items()}
    np.savez_compressed(folder / f"{NAME}.npz", **found)


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent / "reference"
    run(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here)
