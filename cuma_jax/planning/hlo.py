"""Collectives of a compiled program, from its text.

A collective inside a loop runs as often as the loop does. XLA writes the count of a loop into `known_trip_count` on CPU
and GPU; on TPU it is read from the loop's condition, whose one integer constant is the count (JAX's scans count up from
0 by 1). Computations that are called pass their callers' counts on. A collective that the compiler has cut into a chain
of fused pieces keeps one channel_id; it is counted once.
"""

import dataclasses
import math
import re
from collections import defaultdict

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ITEM_BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "f8": 8, "s16": 16, "u16": 16, "f16": 16, "bf16": 16,
              "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64}  # fmt: skip
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\) -> .*\{\n((?:[^}\n].*\n|\n)*)\}", re.MULTILINE)
_OP = re.compile(rf"= (\(?.*?\)?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")
_CALL = re.compile(r"(?:calls|to_apply|body|condition|called_computations)=\{?%([\w.\-]+)")
_WHILE = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
        bytes: of its largest side on one device (an all-gather's result, a reduce-scatter's input), once.
        group: devices that take part together.
        times: how often it runs in a step.
        shape: of the result, as XLA writes it.
        where: what of the model it belongs to, as JAX names it.
    """

    kind: str
    bytes: int
    group: int
    times: int
    shape: str
    where: str

    @property
    def moved(self) -> float:
        """Bytes that each device receives in a step, round a ring."""
        share = (self.group - 1) / self.group
        once = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return self.times * self.bytes * once


def collectives(text: str, devices: int) -> list[Collective]:
    """All collectives of the program `text` (`compiled.as_text()`), which runs on `devices`."""
    bodies = {("ENTRY" if entry else name): body.splitlines() for entry, name, body in _COMPUTATION.findall(text)}
    times = _times(bodies)
    found: dict[object, Collective] = {}
    for name, lines in bodies.items():
        for line in lines:
            match = _OP.search(line)
            if match is None or not times.get(name):
                continue
            result, kind, started = match.groups()
            group = _group_size(line, devices)
            size = _size(result, largest=bool(started) and kind == "all-gather")
            if kind == "reduce-scatter":
                size *= group
            elif kind == "all-reduce" and "all-reduce-scatter" in name:  # how a TPU writes a reduce-scatter
                kind = "reduce-scatter"
            channel = re.search(r"channel_id=(\d+)", line)
            key: object = channel[1] if channel else (name, line)
            where = re.search(r'op_name="([^"]*)"', line)
            shapes = ", ".join(f"{item}[{shape}]" for item, shape in _ARRAY.findall(result))
            item = Collective(kind, size, group, times[name], shapes, where[1] if where else "")
            if group > 1 and (key not in found or item.moved > found[key].moved):
                found[key] = item
    return list(found.values())


def _times(bodies: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs in one run of the program."""
    calls: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, lines in bodies.items():
        for line in lines:
            loop = _WHILE.search(line)
            trips = _trips(line, bodies.get(loop[1], [])) if loop else 1
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            callees = _CALL.findall(line) + (re.findall(r"%([\w.\-]+)", branches[1]) if branches else [])
            for callee in set(callees):
                calls[callee].append((name, trips))
    times = {"ENTRY": 1}

    def of(name: str) -> int:
        if name not in times:
            times[name] = 0  # a program has no recursion; this ends it if the text is odd
            times[name] = sum(of(caller) * trips for caller, trips in calls.get(name, ()))
        return times[name]

    return {name: of(name) for name in bodies}


def _trips(line: str, condition: list[str]) -> int:
    known = _TRIPS.search(line)
    if known:
        return int(known[1])
    constants = [int(c) for c in re.findall(r"= s32\[\][^ ]* constant\((\d+)\)", "\n".join(condition))]
    return max(constants, default=1)


def _size(result: str, largest: bool = False) -> int:
    """Bytes of the arrays of a result; of the largest only, where it is (operand, result) of a started collective."""
    sizes = []
    for kind, shape in _ARRAY.findall(result):
        bits = _ITEM_BITS.get(kind, 8 if kind.startswith("f8") else 32)
        sizes.append(math.prod(int(n) for n in shape.split(",") if n) * bits // 8)
    return max(sizes, default=0) if largest else sum(sizes)


def _group_size(line: str, devices: int) -> int:
    """Devices of one group, in each of the three ways that XLA writes groups."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", line):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", mesh[2]))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line):
        return int(iota[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(listed[1].split(","))
    return 2 if "source_target_pairs={{" in line else devices
