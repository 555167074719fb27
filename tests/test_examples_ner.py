"""The example that finds names in sentences: its vocabulary, its batches, its scores, and whole runs of it."""
# ruff: noqa: E402  # what may not be there can only be imported after a look

import csv
import functools
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.support import faults
from tests.support.folders import checkpoint, contents, history, read, same_results
from tests.support.scripts import ROOT

NER = ROOT / "examples" / "ner"
if not NER.is_dir():
    pytest.skip("the example is not there", allow_module_level=True)

import evaluate
from engine.errors import UserError
from engine.experiment.folder import Experiment
from engine.training.device import Device
from engine.training.task import fetch_batches, load_task
from examples.ner import build_dataset, build_vocab, data_loader
from examples.ner.data_loader import NO_LABEL, SimilarLengths, fetch_dataloader
from examples.ner.net import EntityF1, Net, accuracy, loss_fn, predict, worst_sentences

CORPUS = {
    "train": [
        ("Ada met Bo", "B-per O B-per"),
        ("Ada left", "B-per O"),
        ("Bo went to New York", "B-per O O B-geo I-geo"),
    ],
    "val": [("Cy met Ada", "B-per O B-per"), ("it rained", "O O")],
    "test": [("Ada saw it on Monday", "B-per O O O B-tim")],
}


def write(folder, corpus):
    """The files of a corpus."""
    for split, sentences in corpus.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(("sentences", "labels")):
            text = "".join(f"{sentence[number]}\n" for sentence in sentences)
            (folder / split / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "corpus", CORPUS)


@pytest.fixture
def built(corpus):
    build_vocab.main(["--data_dir", str(corpus)])
    return corpus


def words_of(folder):
    return (folder / "words.txt").read_text().split("\n")


def tags_of(folder):
    return (folder / "tags.txt").read_text().split("\n")


# The vocabulary


def test_words_come_from_train_alone_and_tags_from_all_splits(built):
    assert words_of(built) == ["<pad>", "UNK", "Ada", "Bo", "met", "left", "went", "to", "New", "York", ""]
    assert tags_of(built) == ["O", "B-per", "B-geo", "I-geo", "B-tim", ""]
    assert read(built, "dataset_params.json") == {
        "train_size": 3,
        "val_size": 2,
        "test_size": 1,
        "vocab_size": 10,
        "number_of_tags": 5,
        "pad_word": "<pad>",
        "pad_tag": "O",
        "unk_word": "UNK",
    }


def test_what_is_too_rare_is_left_out(corpus, capsys):
    build_vocab.main(["--data_dir", str(corpus), "--min_count_word", "2", "--min_count_tag", "6"])
    assert words_of(corpus) == ["<pad>", "UNK", "Ada", "Bo", ""]
    assert tags_of(corpus) == ["O", "B-per", ""]
    assert "train: 3 sentences, 60.0% of the words unknown, 40.0% tagged O" in capsys.readouterr().out


def test_words_called_like_padding_or_unknown_are_there_once(corpus):
    write(corpus, {"train": [("UNK <pad> <pad>", "O O O")]})
    build_vocab.main(["--data_dir", str(corpus)])
    assert words_of(corpus) == ["<pad>", "UNK", ""]


def test_the_small_corpus_has_the_vocabulary_that_is_built_from_it_again_and_again(tmp_path):
    shipped = contents(NER / "data")
    shutil.copytree(NER / "data", tmp_path / "data")
    for _ in range(2):
        build_vocab.main(["--data_dir", str(tmp_path / "data")])
        assert contents(tmp_path / "data") == shipped


def test_a_corpus_may_lack_a_test(corpus):
    shutil.rmtree(corpus / "test")
    build_vocab.main(["--data_dir", str(corpus)])
    assert "B-tim" not in tags_of(corpus)


FAULTS = {
    "a word too many": (
        "val/sentences.txt",
        "Cy met Ada\nit rained again\n",
        "val: line 2 has 3 words in .* 2 tags in",
    ),
    "a line too few": ("val/labels.txt", "B-per O B-per\n", "val: line 2 has 2 words in .* 0 tags in"),
    "another scheme": ("test/labels.txt", "S-PER O O O O\n", 'test/labels.txt: line 1: "S-PER" is of a scheme'),
    "no tag": ("test/labels.txt", "B-per O  O O\n", 'test/labels.txt: line 1: "" is of a scheme'),
    "not UTF-8": ("train/sentences.txt", b"Ren\xe9\n", r"train/sentences.txt: not UTF-8 text \(byte 3\)"),
    "no file": ("train/labels.txt", None, "train/labels.txt: no such file; a corpus has"),
}


@pytest.mark.parametrize(("name", "content", "said"), FAULTS.values(), ids=FAULTS)
def test_a_corpus_with_a_fault_is_refused(corpus, name, content, said):
    (corpus / name).unlink()
    if content is not None:
        (corpus / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(corpus)
    with pytest.raises(UserError, match=said):
        build_vocab.main(["--data_dir", str(corpus)])
    assert contents(corpus) == before


def run_module(name, *words, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", name, *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_fault_is_one_line_and_status_2(corpus):
    (corpus / "val" / "labels.txt").write_text("B-per O\nO O\n")
    done = run_module("examples.ner.build_vocab", "--data_dir", str(corpus))
    line = f"error: {corpus}/val: line 1 has 3 words in sentences.txt and 2 tags in labels.txt\n"
    assert (done.returncode, done.stderr) == (2, line)


# Kaggle's file


def test_the_file_from_kaggle_is_cut_in_its_order(tmp_path):
    rows = ["Sentence #,Word,POS,Tag"]
    for number in range(20):
        rows += [f"Sentence: {number},Caf\xe9s,NNS,B-org", ',"""",``,O', f",n{number},NN,O"]
    (tmp_path / "ner_dataset.csv").write_bytes("\n".join(rows).encode("windows-1252"))
    build_dataset.main([str(tmp_path / "ner_dataset.csv"), "--data_dir", str(tmp_path / "kaggle")])
    found = {}
    for split in ("train", "val", "test"):
        found[split] = (tmp_path / "kaggle" / split / "sentences.txt").read_text(encoding="utf-8").splitlines()
        labels = (tmp_path / "kaggle" / split / "labels.txt").read_text().splitlines()
        assert labels == ["B-org O O"] * len(found[split])
    assert [len(lines) for lines in found.values()] == [14, 3, 3]
    assert [*found["train"], *found["val"], *found["test"]] == [f'Caf\xe9s " n{number}' for number in range(20)]
    build_vocab.main(["--data_dir", str(tmp_path / "kaggle")])


def test_another_file_is_refused(tmp_path):
    (tmp_path / "ner.csv").write_text("word,tag\n")
    with pytest.raises(UserError, match=r"ner.csv: has no column Sentence #"):
        build_dataset.main([str(tmp_path / "ner.csv")])
    with pytest.raises(UserError, match=r"nowhere.csv: no such file"):
        build_dataset.main([str(tmp_path / "nowhere.csv")])
    (tmp_path / "ner.csv").write_text("Sentence #,Word,POS,Tag\nSentence: 1,\u201d,N,O\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"ner.csv: not encoded as Kaggle's file is"):
        build_dataset.main([str(tmp_path / "ner.csv")])


# The batches


def batches_of(folder, *splits, **values):
    """The loaders of some splits, and what they have taught."""
    params = SimpleNamespace(**{"batch_size": 2, "num_workers": 0, **values})
    return fetch_dataloader(splits, str(folder), params), params


def test_a_batch_is_as_long_as_its_longest_sentence(built):
    loaders, params = batches_of(built, "val")
    (((words, lengths), labels),) = loaders["val"]
    assert words.tolist() == [[1, 4, 2], [1, 1, 0]]  # Cy, it and rained are not in train
    assert lengths.tolist() == [3, 2]
    assert labels.tolist() == [[1, 0, 1], [0, 0, NO_LABEL]]
    assert params.tags == ["O", "B-per", "B-geo", "I-geo", "B-tim"]
    assert loaders["val"].names == ["Cy met Ada", "it rained"]


def test_a_tag_that_was_left_out_is_none(corpus):
    build_vocab.main(["--data_dir", str(corpus), "--min_count_tag", "6"])
    (((_, _), labels),) = batches_of(corpus, "test")[0]["test"]
    assert labels.tolist() == [[1, 0, 0, 0, 0]]


def test_only_a_blank_parts_words(built):
    write(built, {"val": [("10\xa0000 met\x85 Ada", "O O B-per")]})
    (((words, _), _),) = batches_of(built, "val")[0]["val"]
    assert words.tolist() == [[1, 1, 2]]


def test_the_vocabulary_is_that_of_the_training_even_if_the_files_have_changed(built):
    _, params = batches_of(built, "train")
    before = batches_of(built, "val", words=params.words, tags=params.tags)[0]["val"].dataset
    (built / "words.txt").write_text("other\nUNK\n")
    after = batches_of(built, "val", words=params.words, tags=params.tags)[0]["val"].dataset
    assert [words.tolist() for words, _ in before] == [words.tolist() for words, _ in after]


@pytest.mark.parametrize("split", ["train", "val"])
def test_what_is_evaluated_is_in_the_order_of_its_file(built, split):
    _, params = batches_of(built, "train")
    loader = batches_of(built, split, words=params.words, tags=params.tags)[0][split]
    assert [" ".join(CORPUS[split][row][0].split(" ")) for row in range(len(loader.dataset))] == loader.names
    lengths = [length for (_, lengths), _ in loader for length in lengths.tolist()]
    assert lengths == [len(sentence.split()) for sentence, _ in CORPUS[split]]


def test_training_batches_hold_each_sentence_once_among_others_of_its_length():
    lengths = torch.randint(1, 60, (103,), generator=torch.Generator().manual_seed(0)).tolist()
    order = SimilarLengths(lengths, batch_size=10)
    passes = [list(order) for _ in range(2)]
    assert len(order) == len(passes[0]) == 11
    assert passes[0] != passes[1]
    for batches in passes:
        assert sorted(row for batch in batches for row in batch) == list(range(103))
        padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
        assert padded < 1.25 * sum(lengths)
        first = [lengths[batch[0]] for batch in batches]
        assert first != sorted(first)
    assert {frozenset(batch) for batch in passes[0]} != {frozenset(batch) for batch in passes[1]}


def test_training_batches_are_of_the_size_that_params_say(built):
    loader = batches_of(built, "train", batch_size=2)[0]["train"]
    assert sorted(len(lengths) for (_, lengths), _ in loader) == [1, 2]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("val/labels.txt", "B-per O\nO O\n", "val: line 1 has 3 words in sentences.txt and 2 tags in labels.txt"),
        ("val/labels.txt", "B-per O B-per\n", "val: line 2 has 2 words in sentences.txt and 0 tags in labels.txt"),
        ("val/sentences.txt", None, r"sentences.txt: no such file; python -m examples.ner.build_vocab"),
        ("words.txt", None, r"words.txt: no such file; python -m examples.ner.build_vocab"),
        ("val/sentences.txt", b"Ren\xe9 met Ada\nit rained\n", r"val/sentences.txt: not UTF-8 text \(byte 3\)"),
    ],
)
def test_batches_need_files_that_match(built, name, text, said):
    (built / name).unlink()
    if text:
        (built / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said):
        batches_of(built, "val")


# The network


def net_of(**values):
    words, tags = ["<pad>", "UNK", *(f"w{n}" for n in range(18))], ["O", "B-per", "I-per", "B-geo"]
    torch.manual_seed(1)
    return Net(SimpleNamespace(**{"words": words, "tags": tags, "embedding_dim": 6, "lstm_hidden_dim": 5, **values}))


WORDS, LENGTHS = torch.randint(2, 20, (4, 9), generator=torch.Generator().manual_seed(2)), torch.tensor([9, 1, 4, 7])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_fills_up_a_batch_changes_nothing(bidirectional):
    net = net_of(bidirectional=bidirectional).eval()
    logits = net((WORDS, LENGTHS))["logits"]
    assert logits.shape == (4, 9, 4)
    for row, length in enumerate(LENGTHS):
        alone = net((WORDS[row : row + 1, :length], length[None]))["logits"]
        torch.testing.assert_close(logits[row, :length], alone[0])


def test_both_ways_are_those_of_a_bidirectional_lstm():
    net = net_of(bidirectional=True).eval()
    both = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    names = [name for name, _ in both.named_parameters()]
    ways = [net.lstms[name.endswith("_reverse")].state_dict()[name.removesuffix("_reverse")] for name in names]
    both.load_state_dict(dict(zip(names, ways, strict=True)))
    packed = pack_padded_sequence(net.embedding(WORDS), LENGTHS, batch_first=True, enforce_sorted=False)
    hidden, _ = pad_packed_sequence(both(packed)[0], batch_first=True)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(net((WORDS, LENGTHS))["logits"][row, :length], net.fc(hidden)[row, :length])


def test_words_are_dropped_in_training_alone():
    net = net_of(word_dropout=0.5)
    unknown = net((torch.ones_like(WORDS), LENGTHS))["logits"]
    net.eval()
    torch.testing.assert_close(net((WORDS, LENGTHS))["logits"], net_of().eval()((WORDS, LENGTHS))["logits"])
    everything = net_of(word_dropout=1.0)
    torch.testing.assert_close(everything((WORDS, LENGTHS))["logits"], unknown)


def test_dropout_is_for_training_alone():
    net = net_of(dropout_rate=0.5)
    assert not torch.equal(net((WORDS, LENGTHS))["logits"], net((WORDS, LENGTHS))["logits"])
    net.eval()
    assert torch.equal(net((WORDS, LENGTHS))["logits"], net((WORDS, LENGTHS))["logits"])
    dropped = []
    net.dropout.register_forward_hook(lambda _, inputs, outputs: dropped.append(outputs.shape))
    net((WORDS, LENGTHS))
    assert dropped == [(4, 9, 6), (4, 9, 5)]


# Loss and scores


def outputs_of(rows, lengths, tags=5):
    """What a network that is sure of the tags `rows` says."""
    return {"logits": 9.0 * nn.functional.one_hot(torch.tensor(rows), tags), "lengths": torch.tensor(lengths)}


def test_loss_and_accuracy_count_words():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 3, 1], [2, NO_LABEL, NO_LABEL]])
    total, count = loss_fn({"logits": logits}, labels)
    words = torch.cat([logits[0], logits[1, :1]])
    assert count == 4
    torch.testing.assert_close(total / count, nn.functional.cross_entropy(words, torch.tensor([0, 3, 1, 2])))
    outputs = {"logits": outputs_of([[0, 3, 2], [2, 0, 0]], [3, 1])["logits"].numpy()}
    assert accuracy(outputs, labels.numpy()) == (3, 4)


TAGS = ["O", "B-per", "I-per", "B-geo", "I-geo"]
NO, BP, IP, BG, IG = range(5)
ENTITIES = {  # labels, predicted tags, and how many entities are right, predicted, labelled
    "all right": ([BP, IP, NO, BG], [BP, IP, NO, BG], (2, 2, 2)),
    "nothing found": ([BP, IP, NO, BG], [NO, NO, NO, NO], (0, 0, 2)),
    "nothing there": ([NO, NO], [NO, NO], (0, 0, 0)),
    "too short": ([BP, IP, IP], [BP, IP, NO], (0, 1, 1)),
    "of another kind": ([BP, IP], [BG, IG], (0, 1, 1)),
    "two neighbours": ([BP, BP], [BP, IP], (0, 1, 2)),
    "begins with I-": ([BP, IP, NO], [IP, IP, NO], (1, 1, 1)),
    "I- of another kind": ([BP, IG], [BP, BG], (2, 2, 2)),
}


@pytest.mark.parametrize(("labels", "tags", "counts"), ENTITIES.values(), ids=ENTITIES)
def test_entities_are_right_as_a_whole_or_not(labels, tags, counts):
    metric = EntityF1(TAGS)
    metric.update(outputs_of([tags], [len(tags)]), torch.tensor([labels]))
    right, predicted, labelled = counts
    expected = {"precision": right / max(predicted, 1), "recall": right / max(labelled, 1)}
    assert metric.compute() == pytest.approx({"f1": 2 * right / max(predicted + labelled, 1), **expected})


def test_of_plain_tags_neighbours_that_are_alike_are_one_entity():
    metric = EntityF1(["O", "PER", "LOC"])
    labels, tags = [1, 1, 0, 2, 1], [1, 1, 0, 2, 2]  # PER, LOC and PER; PER and a LOC that is too long
    metric.update({"logits": outputs_of([tags], [5], tags=3)["logits"]}, torch.tensor([labels]))
    assert metric.compute() == pytest.approx({"f1": 2 / 5, "precision": 1 / 2, "recall": 1 / 3})


def test_the_worst_sentences_come_first_each_word_above_its_tags():
    sentences = ["Anna sings", "New York sleeps", "all well"]
    labelled = [["B-per", "O"], ["B-geo", "I-geo", "O"], ["O", "O"]]
    predicted = [["O", "O"], ["B-per", "I-per", "O"], ["O", "O"]]
    assert worst_sentences(sentences, labelled, predicted).splitlines() == [
        "2 of 3 sentences have a wrong tag",
        "",
        "2 of 3 wrong, sentence 2",
        "           New    York   sleeps",
        "true       B-geo  I-geo  O",
        "predicted  B-per  I-per  O",
        "",
        "1 of 2 wrong, sentence 1",
        "           Anna   sings",
        "true       B-per  O",
        "predicted  O      O",
    ]


def test_entities_are_counted_over_the_split_however_it_is_cut():
    rows = [(labels, tags) for labels, tags, _ in ENTITIES.values()]
    alone, together = EntityF1(TAGS), EntityF1(TAGS)
    for labels, tags in rows:
        alone.update(outputs_of([tags], [len(tags)]), torch.tensor([labels]))
    padded = [(labels + [NO_LABEL] * (4 - len(labels)), tags + [BG] * (4 - len(tags))) for labels, tags in rows]
    labels, tags = map(list, zip(*padded, strict=True))
    together.update(outputs_of(tags, [len(labels) for labels, _ in rows]), torch.tensor(labels))
    right, predicted, labelled = (sum(counts[part] for *_, counts in ENTITIES.values()) for part in range(3))
    expected = {"f1": 2 * right / (predicted + labelled), "precision": right / predicted, "recall": right / labelled}
    assert alone.compute() == together.compute() == pytest.approx(expected)


def test_a_pass_goes_on_from_a_checkpoint(tmp_path):
    first, second = EntityF1(TAGS), EntityF1(TAGS)
    first.update(outputs_of([[BP, IP]], [2]), torch.tensor([[BP, IP]]))
    torch.save(first.state_dict(), tmp_path / "state")
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for metric in (first, second):
        metric.update(outputs_of([[BG]], [1]), torch.tensor([[BP]]))
    assert first.compute() == second.compute() == {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    first.reset()
    first.update(outputs_of([[BP]], [1]), torch.tensor([[BP]]))
    assert first.compute()["f1"] == 1


def test_predictions_are_lines_of_tags_as_long_as_the_sentences():
    outputs = outputs_of([[BP, IP, NO], [BG, NO, NO]], [3, 1])
    assert predict(outputs, SimpleNamespace(tags=TAGS)) == {"tags": ["B-per I-per O", "B-geo"]}


# Whole runs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The experiment `tiny` as it is, trained and tested."""
    import train

    folder = tmp_path_factory.mktemp("tiny") / "experiment"
    train.main(["--model_dir", str(folder), "--from", str(NER / "experiments" / "tiny")])
    evaluate.main(["--model_dir", str(folder)])
    return folder


def test_it_learns_more_than_to_say_that_nothing_is_a_name(tiny):
    scores = read(tiny, "metrics_test_best.json")
    labels = (NER / "data" / "test" / "labels.txt").read_text().split()
    always_nothing = labels.count("O") / len(labels)
    assert always_nothing < 0.7
    assert scores["accuracy"] > always_nothing + 0.2
    assert scores["f1"] > 0.8
    predicted = " ".join(line["tags"] for line in table(tiny)).split()
    assert set(predicted) > {"O", "B-per", "I-per", "B-geo", "B-org", "I-org", "B-tim"}


def table(folder):
    return list(csv.DictReader((folder / "predictions_test.csv").open(encoding="utf-8")))


def test_the_table_of_predictions_has_the_sentences_and_their_tags(tiny):
    lines = table(tiny)
    assert [line["file"] for line in lines] == (NER / "data/test/sentences.txt").read_text().splitlines()
    assert [len(line["tags"].split(" ")) for line in lines] == [len(line["file"].split(" ")) for line in lines]
    labels = " ".join((NER / "data" / "test" / "labels.txt").read_text().splitlines()).split(" ")
    tags = " ".join(line["tags"] for line in lines).split(" ")
    right = sum(tag == label for tag, label in zip(tags, labels, strict=True)) / len(labels)
    assert read(tiny, "metrics_test_best.json")["accuracy"] == pytest.approx(right)


def test_sentences_from_the_keyboard_and_from_a_file_are_tagged_as_in_evaluation(tiny):
    import predict as script

    file = NER / "data" / "test" / "sentences.txt"
    sentence = file.read_text().splitlines()[0]
    given = script.main(["--model_dir", str(tiny), sentence, str(file)])
    assert given["tags"][1:] == [line["tags"] for line in table(tiny)]
    assert (given["file"][0], given["tags"][0]) == (sentence, given["tags"][1])


def test_the_log_has_a_line_for_each_kind_of_name(tiny):
    log = (tiny / "evaluate.log").read_text()
    for kind in ("per", "geo", "org", "tim", "gpe"):
        found = [line.split() for line in log.splitlines() if line.split()[:1] == [kind]]
        assert len(found) == 1
    assert [line for line in log.splitlines() if "spurious" in line and "f1-score" in line]


def test_the_best_epoch_is_that_of_the_best_f1(tiny):
    rows = history(tiny)
    best = max(rows, key=lambda row: (row["val_f1"], -row["val_loss"], row["epoch"]))
    assert checkpoint(tiny, "best")["epoch"] == best["epoch"]


@pytest.mark.parametrize("size", [1, 5])
def test_no_score_depends_on_the_batch_size(tiny, size, monkeypatch):
    monkeypatch.setattr(data_loader, "EVALUATION_BATCH", size)
    best, params = checkpoint(tiny, "best"), Experiment(tiny).params()
    params.learn(best["learned"])
    task, device = load_task(params.task, params), Device(torch.device("cpu"))
    model = task.Net(params)
    model.load_state_dict(best["state_dict"])
    batches = fetch_batches(task, ["test"], params, device)["test"]
    assert len(batches) == -(-12 // size)
    scores = evaluate.evaluate(model, batches, task, params, device)
    assert scores == pytest.approx(read(tiny, "metrics_test_best.json"), rel=1e-4)


def test_a_part_of_a_split_may_be_evaluated(tiny, tmp_path, monkeypatch):
    """Sentences from all over the split, each with the tags that it has when all are evaluated."""
    monkeypatch.setattr(data_loader, "EVALUATION_BATCH", 5)
    folder = shutil.copytree(tiny, tmp_path / "copy")
    evaluate.main(["--model_dir", str(folder), "--max_eval_batches", "1"])
    (part,) = folder.glob("predictions_test_*.csv")
    lines = list(csv.DictReader(part.open(encoding="utf-8")))
    assert lines == [table(tiny)[place] for place in (0, 2, 4, 7, 9)]


def test_sentences_without_labels_are_tagged(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sentences.txt").write_text("Anna lives in Paris .\nIt rained .\n")
    folder = shutil.copytree(tiny, tmp_path / "copy")
    evaluate.main(["--model_dir", str(folder), "--data_dir", str(tmp_path), "--split", "mine"])
    (table,) = folder.glob("predictions_mine*.csv")
    with table.open() as file:
        assert [row["tags"] for row in csv.DictReader(file)] == ["B-per O O B-geo O", "O O O"]


EXPERIMENTS = sorted(path.parent.name for path in NER.glob("experiments/*/params.json"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_runs(name, tmp_path, script):
    data = ["--set", f"data_dir={NER / 'data'}"]
    short = [*data, "--set", "num_epochs=1", "--set", "max_train_batches=2", "--set", "max_eval_batches=1"]
    folder = tmp_path / name
    assert script("train", "--model_dir", folder, "--from", NER / "experiments" / name, *short).status == 0
    done = script("evaluate", "--model_dir", folder)
    assert done.status == 0, done.stderr
    assert set(read(folder, "metrics_test_best.json")) == {"accuracy", "f1", "precision", "recall", "loss"}
    assert "WARNING" not in (folder / "train.log").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
def test_a_run_that_was_killed_within_an_epoch_ends_with_the_same_bits(tmp_path, script):
    run = ["--from", NER / "experiments" / "tiny", "--set", f"data_dir={NER / 'data'}"]
    run += ["--set", "num_epochs=2", "--set", "save_steps=2"]
    assert script("train", "--model_dir", tmp_path / "whole", *run).status == 0
    kill = functools.partial(faults.kill_at_replace, 11, True)
    assert script("train", "--model_dir", tmp_path / "killed", *run, before=kill).status != 0
    stopped = checkpoint(tmp_path / "killed")
    assert stopped["step"] % 7 != 0
    assert len(stopped["scores"]["objects"]["f1"]["batches"]) == stopped["step"] % 7
    assert script("train", "--model_dir", tmp_path / "killed").status == 0
    assert same_results(tmp_path / "whole", tmp_path / "killed")


def test_the_courses_network_is_the_courses():
    params = json.loads((NER / "experiments" / "course" / "params.json").read_text())
    assert (params["embedding_dim"], params["lstm_hidden_dim"]) == (50, 50)
    assert (params["batch_size"], params["num_epochs"], params["learning_rate"]) == (5, 10, 1e-3)
    net = net_of(embedding_dim=50, lstm_hidden_dim=50)
    assert sum(weight.numel() for weight in net.parameters()) == 20 * 50 + 4 * 50 * (50 + 50 + 2) + 50 * 4 + 4


def test_a_copy_starts_a_project(tmp_path, script):
    shutil.copytree(NER, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "model" / "data" / "words.txt").unlink()
    run = ["--model_dir", "experiments/first", "--from", "model/experiments/tiny", "--set", "task=model"]
    run += ["--set", "data_dir=model/data", "--set", "num_epochs=1"]
    refused = script("train", *run, cwd=tmp_path)
    assert refused.status == 2
    assert "words.txt: no such file; python -m model.build_vocab" in refused.stderr
    assert run_module("model.build_vocab", cwd=tmp_path).returncode == 0
    done = script("train", *run, cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "model/net.py" in read(tmp_path / "experiments" / "first", "run.json")["code"]
