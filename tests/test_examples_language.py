"""The example that goes on with a text: its stretches, its network beside PyTorch's own, and whole runs of it."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import io
import json
import math
import signal
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.support import faults, scripts
from tests.support.folders import checkpoint, history, same_results
from tests.support.scripts import ROOT

LANGUAGE = ROOT / "examples" / "language"
if not LANGUAGE.is_dir():
    pytest.skip("the example is not there", allow_module_level=True)

import evaluate
from engine.errors import UserError
from engine.hyperparameters import load_params
from examples.language.data_loader import encode, fetch_dataloader, in_words, write_sums
from examples.language.net import Net, configure_optimizer, configure_scheduler, continued, decode, loss_fn

TEXT = "Zu Bruck am Tor, da saß ein Schmied; er schlug das Eisen, 17 Schläge lang.\n" * 40
TINY = {"batch_size": 4, "num_epochs": 2, "steps_per_epoch": 6, "block_size": 8, "width": 16, "num_heads": 2}


@pytest.fixture
def folder(tmp_path):
    """A text of one's own, in two files."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "1.txt").write_text(TEXT[:1000], encoding="utf-8")
    (tmp_path / "text" / "2.txt").write_text(TEXT[1000:], encoding="utf-8")
    return tmp_path / "text"


def params_of(tmp_path, **values):
    path = tmp_path / "params.json"
    written = json.loads((LANGUAGE / "experiments" / "small" / "params.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps({**written, **TINY, **values}))
    return load_params(path)


class TestText:
    @pytest.mark.parametrize("tokens", ["characters", "bytes"])
    def test_the_stretches_are_those_of_the_text(self, folder, tmp_path, tokens):
        params = params_of(tmp_path, tokens=tokens)
        loaders = fetch_dataloader(["train", "val", "test"], folder, params)
        whole = TEXT if tokens == "characters" else TEXT.encode()
        cuts = [0, round(0.9 * len(whole)), round(0.95 * len(whole)), len(whole)]
        for (split, batches), start, end in zip(loaders.items(), cuts, cuts[1:], strict=False):
            part = whole[start:end]
            step = 1 if split == "train" else 8
            places = range(0, len(part) - 8, step)
            expected = [(part[place : place + 8], part[place + 1 : place + 9]) for place in places]
            seen = [pair for inputs, labels in batches for pair in zip(inputs, labels, strict=True)]
            told = [tuple(decode(tokens_, params) for tokens_ in pair) for pair in seen]
            if tokens == "bytes":
                expected = [tuple(piece.decode(errors="replace") for piece in pair) for pair in expected]
            assert sorted(told) == sorted(expected)
            if split != "train":
                assert told == expected

    def test_any_text_comes_back(self, tmp_path):
        text = "naïve 日本語 🙂\n\tend\x00"
        for tokens in ("characters", "bytes"):
            params = params_of(tmp_path, tokens=tokens)
            assert decode(encode(text, params), params) == text

    def test_a_character_that_was_not_learned_is_told(self, tmp_path):
        params = params_of(tmp_path)
        encode("abc", params)
        with pytest.raises(UserError, match=r"'é'.*bytes"):
            encode("abé", params)

    def test_a_text_that_is_too_short_is_told(self, tmp_path):
        (tmp_path / "a.txt").write_text("short")
        with pytest.raises(UserError, match="test has 0 tokens"):
            fetch_dataloader(["test"], tmp_path, params_of(tmp_path))

    def test_the_sums_are_right(self, tmp_path):
        write_sums(tmp_path / "sums")
        numbers = {in_words(number): number for number in range(200)}
        assert len(numbers) == 200
        assert [in_words(number) for number in (0, 13, 20, 99, 100, 142)] == [
            "zero", "thirteen", "twenty", "ninety-nine", "one hundred", "one hundred forty-two",
        ]  # fmt: skip
        for line in (tmp_path / "sums" / "sums.txt").read_text().splitlines():
            left, right = line.removesuffix(".").split(" is ")
            one, other = left.split(" plus ")
            assert numbers[one] + numbers[other] == numbers[right]


class TestNetwork:
    def test_it_computes_what_pytorchs_own_layers_do(self, tmp_path):
        params = params_of(tmp_path, num_layers=2)
        params.characters = "abcdefg"
        torch.manual_seed(1)
        net = Net(params).eval()
        tokens = torch.randint(7, (3, 8))
        stream = net.tokens.weight[tokens] + net.places.weight[:8]
        for block in net.blocks:
            layer = nn.TransformerEncoderLayer(
                16, 2, 64, dropout=0, activation="gelu", batch_first=True, norm_first=True, bias=False
            )
            layer.self_attn.in_proj_weight.data = block.attention.inputs.weight.data
            layer.self_attn.out_proj.weight.data = block.attention.output.weight.data
            layer.linear1.weight.data = block.feed_forward[0].weight.data
            layer.linear2.weight.data = block.feed_forward[2].weight.data
            layer.norm1.weight.data = block.attention_norm.weight.data
            layer.norm2.weight.data = block.feed_forward_norm.weight.data
            stream = layer(stream, src_mask=nn.Transformer.generate_square_subsequent_mask(8), is_causal=True)
        expected = nn.functional.layer_norm(stream, (16,)) @ net.tokens.weight.T
        torch.testing.assert_close(net(tokens), expected)

    def test_no_place_sees_a_later_one(self, tmp_path):
        params = params_of(tmp_path)
        params.characters = "abcdefg"
        net = Net(params).eval()
        tokens = torch.randint(7, (1, 8))
        other = tokens.clone()
        other[0, 5:] = (other[0, 5:] + 1) % 7
        assert torch.equal(net(tokens)[0, :5], net(other)[0, :5])
        assert not torch.equal(net(tokens)[0, 5], net(other)[0, 5])

    def test_the_loss_of_an_untrained_network_is_that_of_guessing(self, tmp_path):
        params = params_of(tmp_path)
        params.characters = "abcdefg"
        outputs = Net(params).eval()(torch.randint(7, (64, 8)))
        losses = loss_fn(outputs, torch.randint(7, (64, 8)))
        assert losses["loss"].item() == pytest.approx(math.log(7), abs=0.02)
        assert losses["bits_per_token"].item() == pytest.approx(losses["loss"].item() / math.log(2))

    def test_matrices_decay_and_nothing_else(self, tmp_path):
        params = params_of(tmp_path)
        params.characters = None
        net = Net(params)
        decaying, others = configure_optimizer(net, params).param_groups
        assert {parameter.dim() for parameter in decaying["params"]} == {2}
        assert {parameter.dim() for parameter in others["params"]} == {1}
        assert sum(len(group["params"]) for group in (decaying, others)) == len(list(net.parameters()))
        assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)

    def test_the_learning_rate_rises_and_falls_to_a_tenth(self, tmp_path):
        params = params_of(tmp_path, warmup_steps=10)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=params.learning_rate)
        scheduler, unit = configure_scheduler(optimizer, params, 110)
        rates = [optimizer.param_groups[0]["lr"]]
        for _ in range(110):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        assert unit == "step"
        expected = {0: 1 / 11, 5: 6 / 11, 10: 1, 35: 0.1 + 0.9 * (2 + math.sqrt(2)) / 4, 60: 0.55, 110: 0.1}
        assert {step: rates[step] / params.learning_rate for step in expected} == pytest.approx(expected)

    def test_a_text_is_continued_by_what_the_network_learned(self):
        class Alphabet(nn.Module):
            """Says that after each token comes the next one of five."""

            block_size = 2

            def forward(self, tokens):
                assert tokens.shape[1] <= self.block_size
                return 100.0 * nn.functional.one_hot((tokens + 1) % 5, 5)

        prompts = torch.tensor([[3], [0]])
        assert continued(Alphabet(), prompts, 6).tolist() == [[3, 4, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 0, 1]]


class TestRun:
    def test_it_goes_on_with_a_text_of_ones_own_to_the_same_bits(self, folder, tmp_path):
        settings = {**TINY, "data_dir": str(folder), "save_steps": 2}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        command = ["--from", LANGUAGE / "experiments" / "small", *words]
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        assert scripts.run("train", "--model_dir", whole, *command, output=tmp_path).status == 0
        dying = partial(faults.act_at_batch, 42, faults.die)  # of 5 modules a step: within the second epoch
        assert (
            scripts.run("train", "--model_dir", killed, *command, before=dying, output=tmp_path).status
            == -signal.SIGKILL
        )
        assert 0 < checkpoint(killed)["step"] < 12
        assert scripts.run("train", "--model_dir", killed, output=tmp_path).status == 0
        assert same_results(whole, killed)

        scores = history(killed)[-1]
        assert scores["val_perplexity"] == pytest.approx(math.exp(scores["val_loss"]), rel=1e-4)
        assert scores["val_bits_per_token"] == pytest.approx(scores["val_loss"] / math.log(2), rel=1e-5)
        evaluate.main(["--model_dir", str(killed)])
        samples = (killed / "samples.txt").read_text(encoding="utf-8").split("---")
        assert len(samples) == 3
        assert set("".join(samples)) <= set(TEXT) | {"-"}
        assert np.isfinite(json.loads((killed / "metrics_test_best.json").read_text())["perplexity"])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network that has seen the text of two letters in turn so often that it can go on with nothing else."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text").mkdir()
    (folder / "text" / "1.txt").write_text("ab\n" * 3000)
    settings = {**TINY, "data_dir": str(folder / "text"), "steps_per_epoch": 60, "learning_rate": 0.03}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = ["--from", LANGUAGE / "experiments" / "small", *words]
    done = scripts.run("train", "--model_dir", folder / "run", *command, output=folder)
    assert done.status == 0, done.stderr
    return folder / "run"


class TestPredict:
    def test_a_text_from_the_command_line_a_file_or_a_line_goes_on(self, run, tmp_path, script):
        (tmp_path / "prompt.txt").write_text("ab\na")
        pipe = partial(read_from, "ab\n\nba\n")
        out = tmp_path / "texts.jsonl"
        words = ["b", tmp_path / "prompt.txt", "-", "--out", out]
        done = script("predict", "--model_dir", run, *words, before=pipe)
        assert done.status == 0, done.stderr
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["file"] for row in rows] == ["b", str(tmp_path / "prompt.txt"), "ab", "ba"]
        for row, prompt in zip(rows, ["b", "ab\na", "ab", "ba"], strict=True):
            assert row["text"].startswith(prompt)
            assert len(row["text"]) == len(prompt) + 400
            assert row["text"][len(prompt) :].count("ab\n") > 120  # of at most 134

    def test_texts_stand_below_each_other(self, run, script):
        lines = script("predict", "--model_dir", run, "ab", "b").stdout.splitlines()
        assert lines[:3] == ["== ab", "ab", "ab"]
        assert "== b" in lines

    def test_what_cannot_go_on_is_named(self, run, script):
        done = script("predict", "--model_dir", run, "", "xyz", "ab")
        assert done.status == 2
        assert done.stderr.splitlines() == [
            ": holds nothing to go on with",
            'xyz: \'xyz\' was not in the text that it learned from; with "tokens": "bytes" all is known',
            "error: 2 of 3 inputs could not be read; the others are predicted",
        ]
        assert done.stdout.startswith("== ab\nab\n")


def read_from(text):
    sys.stdin = io.StringIO(text)
