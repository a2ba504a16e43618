"""What a comparison is: variants of one base config, each run with several seeds.

A preset in `configs/compare_*.py` is a function of the file's name that returns a `Comparison`; docs/comparison.md has
one.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cuma_jax.config.methods import METHODS, apply_method
from cuma_jax.config.schema import Config
from cuma_jax.runtime.errors import CumaError

Seeds = int | tuple[int, ...]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way of training and its settings.

    Attributes:
        name: a short name, which is also the folder's.
        overrides: config fields by section that differ from the base and the method: `{"train": {"steps": 100}}`.
        seeds: how many (0, 1, ...) or which seeds; None: those of the comparison.
        title, note: what the page calls it (empty: the name), and a line for the page.
    """

    name: str
    method: str = "cuma"
    overrides: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    seeds: Seeds | None = None
    title: str = ""
    note: str = ""


def variant(
    name: str, method: str = "", seeds: Seeds | None = None, title: str = "", note: str = "", **overrides: Any
) -> Variant:
    """A variant with its overrides as keywords (`train={"steps": 100}`); without a method its name is its method."""
    return Variant(name, method or name, overrides, seeds, title, note)


def by_method(*methods: str, seeds: Seeds | None = None, **overrides: Any) -> tuple[Variant, ...]:
    """One variant for each method, named as the method, with the same seeds and overrides."""
    return tuple(variant(method, seeds=seeds, **overrides) for method in methods)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Variants of one base config that are run and shown side by side, in this order.

    Attributes:
        seeds: how many (0, 1, ...) or which seeds a variant has that names none.
        reference: the variant that all others are compared with.
        dir: folder; empty: runs/<name>.
        splits: the splits that the page speaks of first; empty: all that the base scores, in its order.
        title, note: for the page.
    """

    name: str
    base: Config
    variants: tuple[Variant, ...]
    seeds: Seeds = 1
    reference: str = "cuma"
    dir: str = ""
    splits: tuple[str, ...] = ()
    title: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        where = f"comparison {self.name!r}"
        if not isinstance(self.base, Config):
            raise CumaError(f"{where}: base must be a Config, e.g. load_config('quickstart')")
        if not self.variants or not all(isinstance(v, Variant) for v in self.variants):
            raise CumaError(f"{where}: variants must be a tuple of Variant; see by_method() and variant()")
        names = [v.name for v in self.variants]
        for name in (self.name, *names):
            if not _NAME.fullmatch(name):
                raise CumaError(f"{where}: the name {name!r} must be letters, digits and _ . + - (it names a folder)")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise CumaError(f"{where}: variants must have different names; twice there: {', '.join(twice)}")
        if self.reference not in names:
            raise CumaError(f"{where}: reference {self.reference!r} must be one of its variants: {', '.join(names)}")
        if wrong := [s for s in self.splits if s not in self.base.evaluation.splits]:
            raise CumaError(f"{where}: splits names {', '.join(wrong)}, which base.evaluation.splits does not score")
        if not self.base.evaluation.after_training:
            raise CumaError(f"{where}: base.evaluation.after_training must be True; what is not scored is not compared")
        for v in self.variants:
            for seed in self.seeds_of(v):
                self.config(v, seed)

    @property
    def folder(self) -> str:
        """Where the trials live."""
        return self.dir or f"runs/{self.name}"

    def seeds_of(self, v: Variant) -> tuple[int, ...]:
        """The seeds of a variant; a `CumaError` where there is none, one twice, or one below zero."""
        given = self.seeds if v.seeds is None else v.seeds
        seeds = tuple(range(given)) if isinstance(given, int) else tuple(given)
        if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(s, int) and s >= 0 for s in seeds):
            raise CumaError(f"comparison {self.name!r}, variant {v.name}: seeds is {given!r}; "
                            "it must be a number of at least 1, or a tuple of different seeds")  # fmt: skip
        return seeds

    def config(self, v: Variant, seed: int) -> Config:
        """The config of one trial, in <folder>/<variant>/seed<seed>; a `CumaError` for what it may not hold."""
        where = f"comparison {self.name!r}, variant {v.name}"
        try:
            config = apply_method(self.base, v.method)
            for section, fields in v.overrides.items():
                old = getattr(config, section, None)
                if not dataclasses.is_dataclass(old) or isinstance(old, type):
                    raise CumaError(f"section {section!r} is unknown")
                known = {f.name for f in dataclasses.fields(old)}
                if wrong := sorted(set(fields) - known):
                    raise CumaError(f"{section}.{wrong[0]} is unknown; known there: {', '.join(sorted(known))}")
                changed: dict[str, Any] = {section: dataclasses.replace(old, **fields)}
                config = dataclasses.replace(config, **changed)
            return dataclasses.replace(
                config,
                name=f"{v.name}, seed {seed}",
                train=dataclasses.replace(config.train, seed=seed),
                run=dataclasses.replace(config.run, dir=f"{self.folder}/{v.name}/seed{seed}"),
            )
        except CumaError as error:
            raise CumaError(f"{where}: {error}") from None

    def trials(self, names: tuple[str, ...] = (), seeds: tuple[int, ...] = ()) -> Iterator[tuple[Variant, int]]:
        """(variant, seed) of every run (with `names` or `seeds`: of these only), first seeds first, so that early on
        every variant has been tried. A `CumaError` for an unknown variant, or where nothing is left.
        """
        known = [v.name for v in self.variants]
        if wrong := [name for name in names if name not in known]:
            raise CumaError(f"comparison {self.name!r} has no variant {wrong[0]!r}; it has {', '.join(known)}")
        kept = [(i, v, s) for v in self.variants for i, s in enumerate(self.seeds_of(v))
                if (not names or v.name in names) and (not seeds or s in seeds)]  # fmt: skip
        if not kept:
            raise CumaError(f"comparison {self.name!r} has no seed {', '.join(map(str, seeds))} of these variants")
        yield from ((v, s) for _, v, s in sorted(kept, key=lambda trial: trial[0]))


def changes(base: Config, config: Config) -> dict[str, tuple[object, object]]:
    """Fields in which a trial differs from the base, but for its name, folder and seed: field -> (base's, its own)."""
    found: dict[str, tuple[object, object]] = {}
    for section in dataclasses.fields(base):
        old, new = getattr(base, section.name), getattr(config, section.name)
        if section.name == "run" or not dataclasses.is_dataclass(old):
            continue
        for field in dataclasses.fields(old):
            a, b, name = getattr(old, field.name), getattr(new, field.name), f"{section.name}.{field.name}"
            if a != b and name != "train.seed":
                found[name] = (a, b)
    return found


METHOD_NAMES = tuple(METHODS)
"""Every method, for presets that compare all."""
