"""How much faster a train step is with the last adapted layer computed at each row's last token alone.

    python benchmarks/last_layer.py                                        the quickstart
    python benchmarks/last_layer.py --source random:tiny --data invented   seconds

The same run, its step compiled both ways, takes the same batch in turns. Losses must agree.
"""

import dataclasses

import steps


def main() -> None:
    """Parses, times, prints."""
    parser = steps.quickstart_arguments(__doc__)
    parser.add_argument("--layers", type=int, default=3, help="adapted layers at the top")
    parser.add_argument("--repeats", type=int, default=21, help="timed steps of each")
    args = parser.parse_args()

    import jax

    from cuma_jax.run import forward
    from cuma_jax.run.build import build_run
    from cuma_jax.runtime.jax_setup import prepare_jax
    from cuma_jax.runtime.sharding import put_batch
    from cuma_jax.training.loop import Trainer

    config = steps.quickstart(args)
    config = dataclasses.replace(
        config,
        adapter=dataclasses.replace(config.adapter, layers=args.layers),
        train=dataclasses.replace(config.train, batch_size=args.batch),
    )
    prepare_jax(config.run.cache_dir)
    run = build_run(config)
    if not forward.last_layer_pays(run.decoder):
        parser.error("every layer is computed whole in this setting (see run/forward.py)")
    pays, taking = forward.last_layer_pays, {}
    for name, rule in {"whole": lambda decoder: False, "last token": pays}.items():
        forward.last_layer_pays = rule
        trainer = Trainer(run)
        bucket, batch = trainer.batches[0]
        rest = (run.base, run.training.tables[bucket], put_batch(batch, run.mesh))
        taking[name] = steps.Step(trainer.steps.train_step, trainer.fresh(), rest)
        with jax.set_mesh(run.mesh):
            taking[name]()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in taking}
    apart = 0.0
    with jax.set_mesh(run.mesh):
        for _ in range(args.repeats):
            for name, step in taking.items():
                seconds[name].append(step())
            apart = max(apart, abs(taking["whole"].loss - taking["last token"].loss))
    for name, spent in seconds.items():
        figures = steps.summary(spent)
        print(f"{name:10s} {figures['median_s']:8.4f} s per step ({figures['min_s']:.4f} to {figures['max_s']:.4f})")
    ratio = steps.paired_ratio(seconds["whole"], seconds["last token"])
    print(f"losses differ by at most {apart:.1e}; {ratio:.2f} times as fast, {args.layers} layers adapted")
    results = {name: steps.summary(spent) for name, spent in seconds.items()}
    steps.report(args, results | {"ratio": ratio, "loss_difference": apart})


if __name__ == "__main__":
    main()
