"""The openai teacher against an endpoint that is not ours: `transformers serve` with a tiny random model."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.asking import ask
from xrec_dataset_builder.journal import Journal
from xrec_dataset_builder.openai_teacher import OpenAITeacher
from xrec_dataset_builder.teacher import Request

TEMPLATE = "{% for message in messages %}<s>{{ message.role }}: {{ message.content }}</s>{% endfor %}assistant:"


def save_tiny_model(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    ends = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, **ends).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=512)
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = list(range(2, 260, 10))  # so that some answers end by themselves
    model.generation_config.do_sample = True
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("serve")
    save_tiny_model(folder / "tiny")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder / "tiny")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=offline)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.2)
    yield f"http://127.0.0.1:{port}/v1", str(folder / "tiny")
    process.kill()  # on a gentler signal it waits for its connections first
    process.wait()


@pytest.mark.slow
def test_a_tiny_model_behind_transformers_serve_answers_all_rows(endpoint, tmp_path):
    url, model = endpoint

    def request_of(number, max_tokens=12):
        messages = (("system", "Say why."), ("user", f"review {number}"))
        schema = '{"type":"object"}' if number % 2 else ""
        return Request("explanation", (str(number),), messages, schema, "openai", model, "1", 1.0, max_tokens, 0)

    answers = {}

    def accept(request, answer):
        answers[request.key[0]] = answer
        return answer.text

    with Journal(tmp_path / "j") as journal:
        rows = [request_of(number) for number in range(12)]
        asked = ask(rows, OpenAITeacher(url, 3), journal, accept, None, AskOptions(concurrency=3), False)
        again = ask(rows, OpenAITeacher(url, 3), journal, accept, None, AskOptions(concurrency=3), False)
    print(asked.counts, [reason for _, reason in asked.failures], answers)
    assert asked.counts.answered + asked.counts.failed == 12
    assert asked.counts.answered > 0
    assert {answer.finish_reason for answer in answers.values()} == {"stop"}
    assert {reason for _, reason in asked.failures} <= {"cut at the limit of 12 tokens", "an empty answer"}
    assert all(answer.prompt_tokens > 10 for answer in answers.values())
    assert again.counts.from_journal == asked.counts.answered
