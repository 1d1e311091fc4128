"""How good the board's predictions of a changed limit are.

    python benchmarks/outlooks.py --first 12 --seeds 38

The worlds of `tuner.py` (step costs that are linear, padded, or with a logarithm; a restless
machine), in virtual time. In each, two changes one after the other: the limit is looked at, what is
shown of a halved or doubled value is noted, the value is set and measured for 40 s. Prints each
change of tokens/s as predicted and as measured, and for every figure how far ln(measured ÷
predicted) is off, and in how many cases the interval shown held what was measured.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics

from tuner import Virtual, World

from tputtui.knobs import coarse_step

KINDS = ("linear", "padded", "log")
NAMES = ("max_num_seqs", "max_num_batched_tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=30)
    options = parser.parse_args()
    off: dict[str, list[tuple[float, bool]]] = {}
    beyond = 0
    for seed in range(options.first, options.first + options.seeds):
        draw = random.Random(seed)
        kind = KINDS[seed % len(KINDS)]
        virtual = Virtual(World(seed, kind), seed)
        session = virtual.session
        session.steer.limits.set("max_num_seqs", draw.choice((16, 32, 64)))
        virtual.run(25.0)
        for _ in range(2):
            name = draw.choice(NAMES)
            limits = session.steer.limits
            now = limits.asked(name)
            steps = {coarse_step(name, now, way, limits.ceilings) for way in (-1, 1)} - {now}
            session.consider(name, *sorted(steps))
            virtual.run(3.0)
            shown = [each for each in session.advance().outlooks if each.name == name]
            if not shown:
                continue
            look = draw.choice(shown)
            if look.beyond:
                beyond += 1
                continue
            limits.set(name, look.value)
            virtual.run(40.0)
            row = session.advance().trials[-1]
            for key, expected in look.figures.items():
                if (measured := row.value(key)) > 0:
                    held = abs(measured - expected.value) <= expected.half
                    off.setdefault(key, []).append((math.log(measured / expected.value), held))
            told = look.figures["tokens_per_s"].change
            gave = row.differences[0].change if row.differences else math.nan
            print(
                f"{kind:<7}{seed:3d} {name} {now} → {look.value}: tokens/s {told:+.1%} predicted, "
                f"{gave:+.1%} measured",
                flush=True,
            )
    for key, rows in off.items():
        errors = [error for error, _ in rows]
        inside = sum(held for _, held in rows)
        print(
            f"{key:<14} {len(rows)} changes: off by {statistics.median(map(abs, errors)):.1%} in "
            f"the median, {max(map(abs, errors)):.0%} at most; within the interval in {inside}"
        )
    print(f"{beyond} changes were off the measured range, and not predicted")


if __name__ == "__main__":
    main()
