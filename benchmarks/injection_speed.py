"""What the injection costs beside the plain backbone, and what a batch gains over one row at a time; prints JSON.

The models share one set of random weights. Every repetition times all of them, one after the other and beginning with another
each time, so that a slow moment of the machine falls on all alike. Two exact counts stand beside the times, because no timing
on a shared machine resolves one percent: the operations that a call dispatches, and the bytes of the storages they make.
"""

import argparse
import copy
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from measuring import Call, added_share, interleave, ledger_of, machine, quartiles, report
from transformers import AutoModelForCausalLM, LlamaConfig, StoppingCriteria, StoppingCriteriaList

from modeling_xrec import XRecForCausalLM

SIZES = {
    "tiny": {"hidden_size": 32, "layers": 2, "heads": 4, "key_heads": 2, "intermediate": 64, "vocabulary": 200},
    "100m": {"hidden_size": 768, "layers": 12, "heads": 12, "key_heads": 4, "intermediate": 2048, "vocabulary": 32_000},
    "1b": {"hidden_size": 2048, "layers": 16, "heads": 32, "key_heads": 8, "intermediate": 8192, "vocabulary": 128_256},
    "8b": {"hidden_size": 4096, "layers": 32, "heads": 32, "key_heads": 8, "intermediate": 14_336, "vocabulary": 128_256},
}
PLAIN, MODES = "plain", ("qkv", "attention", "input")
PHASES = ("decode", "end_to_end")
REQUIRED = {"prefill": 1.03, "decode": 1.01, "batch_decode": 6.0, "batch_end_to_end": 3.0}
GOALS = {"prefill": 1.01, "decode": 1.0}
USERS, ITEMS = 1000, 1000


@dataclass(frozen=True)
class Options:
    """What is measured, on what.

    Args:
        size: of the random Llama, a name among `SIZES`.
        attention: `mha`, one key and value head a query head, or `gqa`, fewer, as in Llama-3.
        device: `cpu` or `cuda`.
        dtype: of the weights.
        modes: injections to measure.
        batches: batch sizes; the largest is also the one that is set against single rows.
        prompt_tokens: length of every prompt.
        new_tokens: generated for every row.
        decode_steps: one-token steps behind one reading of the clock.
        repetitions: readings at the largest batch; up to four times as many at smaller, cheaper ones.
        rounds: generations of the whole batch.
        single_rows: rows generated on their own in each round.
        seed: of weights and prompts.
    """

    size: str = "100m"
    attention: str = "mha"
    device: str = "cpu"
    dtype: str = "float32"
    modes: tuple[str, ...] = MODES
    batches: tuple[int, ...] = (1, 8, 32)
    prompt_tokens: int = 200
    new_tokens: int = 64
    decode_steps: int = 8
    repetitions: int = 5
    rounds: int = 3
    single_rows: int = 4
    seed: int = 0

    def wait(self) -> None:
        """To be called before reading the clock."""
        if self.device == "cuda":
            torch.cuda.synchronize()


class StepClock(StoppingCriteria):
    """Notes when the first and the newest token of a generation were there; stops nothing."""

    def __init__(self, wait: Call, new_tokens: int) -> None:
        self.wait, self.new_tokens, self.seen = wait, new_tokens, 0
        self.first = self.last = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Called after every token, for the whole batch."""
        self.seen += 1
        if self.seen in (1, self.new_tokens):
            self.wait()
            self.first, self.last = (self.first or time.perf_counter()), time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def build_models(options: Options) -> tuple[dict[str, Any], dict[str, str]]:
    """The plain backbone and an XRec model for each mode, all over the same weights.

    Returns:
        Models by name, and for each mode that the backbone cannot take the reason.
    """
    size = SIZES[options.size]
    config = LlamaConfig(
        vocab_size=size["vocabulary"], hidden_size=size["hidden_size"], intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
        num_key_value_heads=size["heads" if options.attention == "mha" else "key_heads"],
        tie_word_embeddings=options.size == "1b", pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(options.seed)
    with torch.device(options.device):
        backbone = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, options.dtype)).eval()
    models: dict[str, Any] = {PLAIN: backbone.requires_grad_(False)}
    refused: dict[str, str] = {}
    for mode in options.modes:
        settings: dict[str, Any] = {"injection": mode, "num_users": USERS, "num_items": ITEMS}
        settings |= {"user_token_id": size["vocabulary"], "item_token_id": size["vocabulary"] + 1}
        try:
            model = XRecForCausalLM.from_backbone(_same_weights(backbone), **settings)
        except ValueError as error:
            refused[mode] = str(error)
        else:
            models[mode] = model.to(options.device).requires_grad_(False)
    return models, refused


def _same_weights(model: torch.nn.Module) -> Any:
    """New modules over the same tensors, so that hooks on one model are not hooks on another."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def prompts(options: Options, batch: int) -> dict[str, torch.Tensor]:
    """Random prompts of one length, each row's two markers at places of its own, with the ids of a user and an item."""
    generator = torch.Generator().manual_seed(options.seed)
    vocabulary = SIZES[options.size]["vocabulary"]
    ids = torch.randint(3, vocabulary, (batch, options.prompt_tokens), generator=generator)
    places = torch.stack([torch.randperm(options.prompt_tokens, generator=generator)[:2] for _ in range(batch)])
    ids.scatter_(1, places, torch.tensor([vocabulary, vocabulary + 1]).expand(batch, 2))
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "user_ids": torch.randint(USERS, (batch,), generator=generator),
        "item_ids": torch.randint(ITEMS, (batch,), generator=generator),
    }
    return {name: tensor.to(options.device) for name, tensor in made.items()}


def prefill_calls(models: dict[str, Any], inputs: dict[str, torch.Tensor]) -> dict[str, Call]:
    """One forward over the prompt for each model; the plain backbone reads token 0 in the markers' places."""
    plain = {"input_ids": inputs["input_ids"].clone(), "attention_mask": inputs["attention_mask"]}
    plain["input_ids"][plain["input_ids"] >= models[PLAIN].config.vocab_size] = 0

    def call(name: str) -> Call:
        given = plain if name == PLAIN else inputs
        return lambda: models[name](**given, use_cache=True, logits_to_keep=1)

    return {name: call(name) for name in models}


def decode_calls(models: dict[str, Any], inputs: dict[str, torch.Tensor], steps: int) -> dict[str, Call]:
    """Some one-token steps for each model behind its own filled cache, which is cut back afterwards."""
    length = inputs["input_ids"].shape[1]
    token = inputs["input_ids"].new_full((len(inputs["input_ids"]), 1), 5)
    caches = {name: call().cache for name, call in prefill_calls(models, inputs).items()}

    def call(name: str) -> Call:
        beyond = {} if name == PLAIN else {"chunk_start": -1}

        def decode() -> None:
            for step in range(1, steps + 1):
                mask = inputs["attention_mask"].new_ones(len(token), length + step)
                models[name](token, attention_mask=mask, cache=caches[name], use_cache=True, logits_to_keep=1, **beyond)
            caches[name].crop(-steps)

        return decode

    return {name: call(name) for name in models}


def compare(calls: dict[str, Call], what: str, repetitions: int, wait: Call, steps: int = 1) -> dict[str, Any]:
    """Each model beside the plain backbone: times, operations, bytes.

    Args:
        calls: what to time, by model.
        what: `prefill` or `decode`.
        repetitions: readings of the clock for each model.
        wait: to call before each reading.
        steps: forward passes in one call.

    Returns:
        By model milliseconds a forward pass, and for all but the plain one the ratio of medians, the quartiles of the
        repetitions' own ratios, the operations beyond the plain backbone's, the share of the CPU's time that they take, and
        the bytes over its bytes.
    """
    seconds = interleave(calls, repetitions, wait)
    ledgers = {name: ledger_of(call) for name, call in calls.items()}
    plain, found = ledgers[PLAIN], dict[str, Any]()
    for name, times in seconds.items():
        ledger = ledgers[name]
        row: dict[str, Any] = {
            "median_ms": 1000 * statistics.median(times) / steps,
            "operations": ledger.operations.total() / steps,
            "new_bytes": ledger.new_bytes / steps,
        }
        found[name] = row
        if name == PLAIN:
            continue
        ratio = statistics.median(times) / statistics.median(seconds[PLAIN])
        more = {kind: ledger.operations[kind] - plain.operations[kind] for kind in ledger.operations | plain.operations}
        row |= {
            "ratio": ratio,
            "ratio_quartiles": quartiles([own / base for own, base in zip(times, seconds[PLAIN], strict=True)]),
            "more_operations": sum(more.values()) / steps,
            "more_operations_by_kind": {kind: count / steps for kind, count in sorted(more.items()) if count},
            "added_share_of_cpu_time": added_share(calls[name], calls[PLAIN]),
            "new_bytes_ratio": ledger.new_bytes / plain.new_bytes,
            "required": REQUIRED[what],
            "goal": GOALS[what],
            "met": ratio <= REQUIRED[what],
        }
    return found


def generate(model: Any, inputs: dict[str, torch.Tensor], options: Options) -> dict[str, float]:
    """Seconds of one greedy generation: `decode`, from first to last token, and `end_to_end`, from call to return.

    Raises:
        RuntimeError: the rows did not get the tokens that were asked for.
    """
    wait = options.wait
    clock = StepClock(wait, options.new_tokens)
    wait()
    start = time.perf_counter()
    output = model.generate(
        **inputs, max_new_tokens=options.new_tokens, do_sample=False, stopping_criteria=StoppingCriteriaList([clock])
    )
    wait()
    if output.shape[1] != options.prompt_tokens + options.new_tokens:
        raise RuntimeError(f"expected {options.new_tokens} new tokens a row, found {output.shape[1] - options.prompt_tokens}")
    return {"decode": clock.last - clock.first, "end_to_end": time.perf_counter() - start}


def batch_against_rows(model: Any, options: Options) -> dict[str, Any]:
    """Tokens a second of one batch and of its rows one at a time, as the reference generates, in turns.

    In every round the batch is generated once, and `single_rows` of its rows each on their own.
    """
    batch = max(options.batches)
    inputs = prompts(options, batch)
    rows = [{name: tensor[row : row + 1] for name, tensor in inputs.items()} for row in range(batch)]
    generate(model, rows[0], options)
    rates: dict[tuple[str, str], list[float]] = {(size, what): [] for size in ("batch", "single") for what in PHASES}
    for turn in range(options.rounds):
        chosen = [rows[(turn * options.single_rows + place) % batch] for place in range(options.single_rows)]
        whole, singles = generate(model, inputs, options), [generate(model, row, options) for row in chosen]
        for phase, tokens in zip(PHASES, (options.new_tokens - 1, options.new_tokens), strict=True):
            rates["batch", phase].append(batch * tokens / whole[phase])
            rates["single", phase].append(len(singles) * tokens / sum(times[phase] for times in singles))
    found: dict[str, Any] = {"batch": batch, "new_tokens": options.new_tokens, "rounds": options.rounds}
    for what in PHASES:
        own, single = rates["batch", what], rates["single", what]
        times_faster, required = statistics.median(own) / statistics.median(single), REQUIRED[f"batch_{what}"]
        found[what] = {
            "batch_tokens_per_second": statistics.median(own),
            "single_tokens_per_second": statistics.median(single),
            "times_faster": times_faster,
            "times_faster_quartiles": quartiles([a / b for a, b in zip(own, single, strict=True)]),
            "required": required,
            "met": times_faster >= required,
        }
    return found


def measure(options: Options) -> dict[str, Any]:
    """All figures, as they are printed."""
    models, refused = build_models(options)
    wait, steps = options.wait, options.decode_steps
    figures: dict[str, Any] = {
        "options": asdict(options),
        "machine": machine(options.device),
        "backbone_parameters": sum(parameter.numel() for parameter in models[PLAIN].parameters()),
        "modes_refused_by_this_backbone": refused,
        "prefill": {},
        "decode": {},
    }
    with torch.no_grad():
        for batch in options.batches:
            inputs = prompts(options, batch)
            repetitions = options.repetitions * min(4, math.isqrt(max(options.batches) // batch))
            figures["prefill"][batch] = compare(prefill_calls(models, inputs), "prefill", repetitions, wait)
            figures["decode"][batch] = compare(decode_calls(models, inputs, steps), "decode", repetitions, wait, steps)
    generator = next(models[mode] for mode in options.modes if mode in models)
    figures["generation"] = {"injection": generator.config.injection} | batch_against_rows(generator, options)
    return figures


def parse(argv: Sequence[str] | None) -> tuple[Options, Path | None]:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    choices = {
        "size": SIZES,
        "modes": MODES,
        "attention": ("mha", "gqa"),
        "device": ("cpu", "cuda"),
        "dtype": ("float32", "bfloat16", "float16"),
    }
    for field in fields(Options):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        if isinstance(default, tuple):
            parser.add_argument(flag, type=type(default[0]), nargs="+", default=default, choices=choices.get(field.name))
        else:
            parser.add_argument(flag, type=type(default), default=default, choices=choices.get(field.name))
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    given = vars(parser.parse_args(argv))
    out = given.pop("out")
    return Options(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}), out


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes with `--out`."""
    options, out = parse(argv)
    report(measure(options), out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
