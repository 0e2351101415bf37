"""A training step beside a plain loop that does what the reference does, and what each measure buys; prints JSON.

The loop: one prompt at a time, logits of the whole prompt, cross-entropy over the whole sequence. Beside it stand batches as a
plain `Trainer` makes them, and then one measure after the other. Times are taken in turns in one run, every call with its
backward pass and its optimizer step; peak memory in a process of its own for each. Lengths vary as in the Yelp explanations,
where the texts of a prompt have a relative standard deviation of 0.14 and answers one of 0.19.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import injection_speed
import torch
from injection_speed import ITEMS, SIZES, USERS
from measuring import Call, interleave, machine, quartiles, report

from modeling_xrec.prompt_prefix import PromptPrefix

TEXT_SPREAD, ANSWER_SPREAD = 0.14, 0.19
POOL = 400
"""Examples that length grouping sorts together, `Trainer`'s 50 batches of 8."""
REQUIRED = {1.0: 2.0, 2.0: 3.0}
"""Times faster at a peak memory of so many times the reference's."""
TAIL = 4
# Tokens before the first marker that all prompts share, and whether the texts stand before the markers.
LAYOUTS = {
    "default_prompt": (12, False),
    "chat_frame": (40, False),
    "long_instruction": (100, False),
    "markers_last": (12, True),
}
# From the reference's loop to everything; each line is what it adds to the one before.
LADDER = ("reference", "batch", "grouped", "answers_only", "fused_head", "prefix_apart", "prefix_kept")
ALL = LADDER[-1]


@dataclass(frozen=True)
class Options:
    """What is measured, on what.

    Args:
        size: of the random Llama, a name among `SIZES` of `injection_speed`.
        attention: `mha` or `gqa`.
        device: `cpu` or `cuda`.
        dtype: of the backbone.
        layouts: prompts to measure, names among `LAYOUTS`.
        prompt_tokens: mean length of a prompt.
        answer_tokens: mean length of an answer.
        batch: size of the batches of the table of measures.
        batches: sizes to choose from for a given memory, ascending.
        samples: examples a reading of the clock, a multiple of `batch`.
        repetitions: readings for each.
        seed: of weights, lengths and tokens.
    """

    size: str = "100m"
    attention: str = "mha"
    device: str = "cpu"
    dtype: str = "float32"
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    prompt_tokens: int = 200
    answer_tokens: int = 60
    batch: int = 8
    batches: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    samples: int = 8
    repetitions: int = 5
    seed: int = 0

    def wait(self) -> None:
        """To be called before reading the clock."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def build_model(options: Options) -> Any:
    """XRec over the random Llama, adapters trainable, in training mode."""
    same = {name: getattr(options, name) for name in ("size", "attention", "device", "dtype", "seed")}
    models, _ = injection_speed.build_models(injection_speed.Options(modes=("qkv",), **same))
    model = models["qkv"]
    model.freeze()
    return model.train()


def examples(options: Options, layout: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Examples as they come, and as length grouping puts them together; both with the pool's mean length."""
    generator = torch.Generator().manual_seed(options.seed)
    frame, markers_last = LAYOUTS[layout]
    frame = min(frame, options.prompt_tokens // 2)
    vocabulary = SIZES[options.size]["vocabulary"]
    opening = torch.randint(3, vocabulary, (frame,), generator=generator).tolist()

    def example() -> dict[str, Any]:
        draws = torch.randn(2, generator=generator).tolist()
        text = max(round((options.prompt_tokens - frame - TAIL) * (1 + TEXT_SPREAD * draws[0])), 2)
        answer = max(round(options.answer_tokens * (1 + ANSWER_SPREAD * draws[1])), 2)
        ids = torch.randint(3, vocabulary, (text + TAIL + answer,), generator=generator).tolist()
        places = (text, text + 2) if markers_last else (0, text // 2)
        for place, marker in zip(places, (vocabulary, vocabulary + 1), strict=True):
            ids[place] = marker
        user, item = (int(torch.randint(rows, (), generator=generator)) for rows in (USERS, ITEMS))
        ids = opening + ids
        return {"ids": ids, "labels": [-100] * (len(ids) - answer) + ids[-answer:], "user": user, "item": item}

    pool = sorted((example() for _ in range(POOL)), key=lambda row: len(row["ids"]))
    spread = [pool[(2 * place + 1) * POOL // (2 * options.samples)] for place in range(options.samples)]
    order = torch.randperm(options.samples, generator=generator).tolist()
    groups = options.samples // options.batch
    starts = [(2 * group + 1) * POOL // (2 * groups) - options.batch // 2 for group in range(groups)]
    grouped = [row for start in starts for row in pool[start : start + options.batch]]
    return [spread[place] for place in order], grouped


def collate(rows: list[dict[str, Any]], device: str) -> dict[str, torch.Tensor]:
    """One batch, padded on the right."""
    longest = max(len(row["ids"]) for row in rows)
    made = {
        "input_ids": [row["ids"] + [0] * (longest - len(row["ids"])) for row in rows],
        "attention_mask": [[1] * len(row["ids"]) + [0] * (longest - len(row["ids"])) for row in rows],
        "labels": [row["labels"] + [-100] * (longest - len(row["ids"])) for row in rows],
        "user_ids": [row["user"] for row in rows],
        "item_ids": [row["item"] for row in rows],
    }
    return {name: torch.tensor(values, device=device) for name, values in made.items()}


@contextlib.contextmanager
def without(variant: str) -> Iterator[None]:
    """Holds back the measures that come after a variant."""
    with contextlib.ExitStack() as stack:
        if LADDER.index(variant) < LADDER.index("fused_head"):
            stack.enter_context(patch("modeling_xrec.answer_loss.plain_head", lambda model: None))
        if LADDER.index(variant) < LADDER.index("prefix_apart"):
            stack.enter_context(patch("modeling_xrec.modeling_xrec.can_stand_apart", lambda model: False))
        yield


def training_call(model: Any, options: Options, layout: str, variant: str, batch: int) -> Call:
    """Training steps over all samples by one variant."""
    place = LADDER.index(variant)
    batch = 1 if variant == "reference" else batch
    rows = examples(options, layout)[place >= LADDER.index("grouped")]
    batches = [collate(rows[start : start + batch], options.device) for start in range(0, len(rows), batch)]
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-4)
    settings: dict[str, Any] = {"use_cache": False}
    if place >= LADDER.index("answers_only"):
        settings["skip_logits"] = True
    if variant == "prefix_kept":
        settings["prompt_prefix"] = PromptPrefix()

    def train() -> None:
        with without(variant):
            for inputs in batches:
                model(**inputs, **settings).loss.backward()
                optimizer.step()
                optimizer.zero_grad()

    return train


def peak_of(options: Options, layout: str, variant: str, batch: int) -> int:
    """Peak bytes of this process while it trains: resident memory, or the GPU's allocations."""
    call = training_call(build_model(options), options, layout, variant, batch)
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif clear.exists():
        clear.write_text("5")  # forgets the peak of building the model
    call()
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated()
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_in_own_process(options: Options, layout: str, variant: str, batch: int) -> int:
    """`peak_of` in a fresh process."""
    task = {"options": asdict(options), "layout": layout, "variant": variant, "batch": batch}
    command = [sys.executable, str(Path(__file__).resolve()), "--peak-of", json.dumps(task)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])  # noqa: S603


def largest_batches(options: Options, layout: str, reference: int) -> dict[float, tuple[int, int] | None]:
    """For each bound on memory the largest batch size within it with every measure, and its peak."""
    found: dict[float, tuple[int, int] | None] = dict.fromkeys(REQUIRED)
    for batch in options.batches:
        # So few samples that only a batch of this size can be made of them.
        peak = peak_in_own_process(replace(options, samples=batch, batch=batch), layout, ALL, batch)
        for bound in REQUIRED:
            if peak <= bound * reference:
                found[bound] = (batch, peak)
        if peak > max(REQUIRED) * reference:
            break
    return found


def compare(model: Any, options: Options, layout: str) -> dict[str, Any]:
    """All figures of one layout."""
    one_batch = replace(options, samples=options.batch)
    peaks = {name: peak_in_own_process(one_batch, layout, name, options.batch) for name in LADDER}
    bounds = largest_batches(options, layout, peaks["reference"])
    calls = {name: training_call(model, options, layout, name, options.batch) for name in LADDER}
    chosen = {chosen[0] for chosen in bounds.values() if chosen is not None}
    for batch in chosen:
        sized = replace(options, batch=batch, samples=options.samples // batch * batch or batch)
        calls[f"{ALL}/{batch}"] = training_call(model, sized, layout, ALL, batch)
    counts = {name: options.samples for name in LADDER}
    counts |= {f"{ALL}/{batch}": options.samples // batch * batch or batch for batch in chosen}
    seconds = interleave(calls, options.repetitions, options.wait)
    rates = {name: [counts[name] / time for time in times] for name, times in seconds.items()}

    def beside_reference(name: str) -> dict[str, Any]:
        pairs = zip(rates[name], rates["reference"], strict=True)
        return {
            "samples_per_second": statistics.median(rates[name]),
            "times_faster": statistics.median(rates[name]) / statistics.median(rates["reference"]),
            "times_faster_quartiles": quartiles([own / base for own, base in pairs]),
        }

    rows, marker = examples(options, layout)[0], SIZES[options.size]["vocabulary"]
    before = statistics.mean(row["ids"].index(marker) for row in rows)
    figures: dict[str, Any] = {"tokens_before_the_first_marker": before, "measures": {}, "at_memory": {}}
    for name in LADDER:
        memory = {"peak_bytes": peaks[name], "peak_over_reference": peaks[name] / peaks["reference"]}
        figures["measures"][name] = beside_reference(name) | memory
    for bound, best in bounds.items():
        if best is not None:
            row = beside_reference(f"{ALL}/{best[0]}")
            row |= {"batch": best[0], "peak_over_reference": best[1] / peaks["reference"], "required": REQUIRED[bound]}
            figures["at_memory"][str(bound)] = row | {"met": row["times_faster"] >= REQUIRED[bound]}
    return figures


def measure(options: Options) -> dict[str, Any]:
    """All figures, as they are printed."""
    if options.samples % options.batch:
        raise SystemExit(f"expected samples to be a multiple of batch={options.batch}, found {options.samples}; change one")
    layouts = {}
    for layout in options.layouts:
        model = build_model(options)
        layouts[layout] = compare(model, options, layout)
    return {
        "options": asdict(options),
        "machine": machine(options.device),
        "backbone_parameters": sum(parameter.numel() for parameter in model.language_model.parameters()),
        "layouts": layouts,
    }


def parse(argv: Sequence[str] | None) -> tuple[Options, Path | None, str | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    choices = {
        "size": SIZES,
        "attention": ("mha", "gqa"),
        "device": ("cpu", "cuda"),
        "dtype": ("float32", "bfloat16", "float16"),
        "layouts": LAYOUTS,
    }
    for field in fields(Options):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        if isinstance(default, tuple):
            parser.add_argument(flag, type=type(default[0]), nargs="+", default=default, choices=choices.get(field.name))
        else:
            parser.add_argument(flag, type=type(default), default=default, choices=choices.get(field.name))
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    out, peak = given.pop("out"), given.pop("peak_of")
    return Options(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}), out, peak


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    options, out, peak = parse(argv)
    if peak is not None:
        task = json.loads(peak)
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in task.pop("options").items()}
        print(peak_of(Options(**settings), **task))
        return 0
    report(measure(options), out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
