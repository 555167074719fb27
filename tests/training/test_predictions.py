"""Each line of a table of predictions is that of one example: its name, its label, what the network says of it."""

import csv
import logging

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from engine.data import SamePass
from engine.hyperparameters import load_params
from engine.training import MacroF1, Predictions

COUNT = 10


class Numbered(Dataset):
    """The n-th example is the number n, and so is its label."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.tensor([float(index)]), torch.tensor(float(index))


NAMES = [f"example {number}" for number in range(COUNT)]
NUMBERS = Numbered()
CHOSEN = [7, 2, 5, 5, 0]


class Backwards(DataLoader):
    def __iter__(self):
        return iter(list(super().__iter__())[::-1])


def params_of(**values):
    return load_params("params.json", values)


def predicted(loader, model=lambda inputs: inputs, predict=None, **params):
    """The columns of a whole split, as `evaluate` fills them."""
    predictions = Predictions("test", loader, params_of(**params), predict, None)
    batches = SamePass(loader, seed=1, split="test")
    for inputs, labels in batches:
        predictions.add(model(inputs), labels, batches.examples, batches.indices)
    predictions.finish()
    return predictions.columns


def named(loader, names=NAMES):
    loader.names = names
    return loader


class TestNames:
    @pytest.mark.parametrize(
        "loader",
        [
            DataLoader(NUMBERS, 4),
            DataLoader(NUMBERS, 4, shuffle=True),
            DataLoader(NUMBERS, 4, sampler=SubsetRandomSampler(CHOSEN)),
            DataLoader(NUMBERS, 4, sampler=RandomSampler(NUMBERS, replacement=True, num_samples=25)),
            DataLoader(NUMBERS, batch_sampler=BatchSampler(RandomSampler(NUMBERS), 3, drop_last=True)),
            DataLoader(NUMBERS, batch_sampler=[[9, 1], [0, 3, 4]]),
        ],
        ids=["in order", "shuffled", "some of them", "drawn with replacement", "batch sampler", "lists"],
    )
    def test_each_goes_with_its_own_example(self, loader):
        columns = predicted(named(loader))
        assert columns["file"] == [f"example {label:.0f}" for label in columns["label"]]
        assert columns["prediction"] == columns["label"]
        assert len(columns["file"]) > 4

    def test_a_subset_has_names_of_its_own(self):
        columns = predicted(named(DataLoader(Subset(NUMBERS, CHOSEN), 2, shuffle=True), [NAMES[i] for i in CHOSEN]))
        assert columns["file"] == [f"example {label:.0f}" for label in columns["label"]]

    @pytest.mark.parametrize(
        "loader",
        [
            named(Backwards(NUMBERS, 4, shuffle=True)),
            named(DataLoader(NUMBERS, 4, sampler=SubsetRandomSampler(CHOSEN)), NAMES[:5]),
            named(DataLoader(NUMBERS, 4), NAMES[:7]),
        ],
        ids=["an order of its own", "names of the chosen", "too few"],
    )
    def test_where_it_cannot_be_told_which_is_whose_there_are_none_and_that_is_said(self, loader, caplog):
        columns = predicted(loader)
        assert [*columns] == ["label", "prediction"]
        assert "in an order that cannot be told" in caplog.text

    def test_part_of_a_split_has_the_first_names(self):
        class Some(list):
            pass

        columns = predicted(named(Some([(torch.zeros(4, 1), torch.zeros(4))])), max_eval_batches=1)
        assert columns["file"] == NAMES[:4]


def in_batches(outputs, labels, size=4):
    """A loader whose inputs are what the network is to say."""
    return DataLoader(TensorDataset(outputs, labels), size)


class TestColumns:
    @pytest.mark.parametrize("count", [5, 6, 9])
    def test_outputs_that_are_squeezed_lose_no_line(self, count):
        """A last batch of one has outputs of no dimension; with two classes, of as many as two examples."""
        numbers = torch.arange(count, dtype=torch.float32)
        columns = predicted(in_batches(numbers[:, None], numbers), lambda outputs: outputs.squeeze())
        assert columns == {"label": numbers.tolist(), "prediction": numbers.tolist()}
        logits, labels = torch.eye(2)[numbers.long() % 2] * 9, numbers.long() % 2
        columns = predicted(in_batches(logits, labels), lambda outputs: outputs.squeeze())
        assert columns["prediction"] == columns["label"] == labels.tolist()

    def test_outputs_of_which_nobody_knows_whose_they_are_are_left_out_and_that_is_said(self, caplog):
        """Two views of each example, one set after the other: there is no row for each example."""
        logits, labels = torch.eye(3)[torch.arange(8) % 3] * 9, torch.arange(8) % 3
        columns = predicted(in_batches(logits, labels), lambda outputs: torch.cat([outputs, -outputs]))
        assert columns == {"label": labels.tolist()}
        assert '"prediction" is left out: 8 values for 4 examples' in caplog.text

    def test_a_batch_without_examples_has_no_lines(self):
        batches = [(torch.eye(3), torch.arange(3)), (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))]
        assert predicted(batches)["prediction"] == [0, 1, 2]

    def test_classes_may_be_an_array(self):
        columns = predicted(in_batches(torch.eye(2), torch.arange(2)), classes=np.array(["no", "yes"]))
        assert columns["label"] == columns["prediction"] == ["no", "yes"]

    def test_a_column_of_another_length_is_left_out_and_the_others_are_written(self, caplog):
        numbers = torch.arange(9.0)
        columns = predicted(
            in_batches(numbers, numbers), predict=lambda outputs, params: {"mine": outputs, "both": outputs.repeat(2)}
        )
        assert columns == {"label": numbers.tolist(), "mine": numbers.tolist()}
        assert caplog.messages == ['predictions: "both" is left out: 8 values for 4 examples']

    def test_several_targets_are_numbers_and_no_classes(self):
        outputs, labels = torch.randn(9, 3), torch.randn(9, 3)
        columns = predicted(in_batches(outputs, labels))
        assert [*columns] == ["label_0", "label_1", "label_2", "prediction_0", "prediction_1", "prediction_2"]
        assert torch.equal(torch.tensor([columns[f"prediction_{place}"] for place in range(3)]).T, outputs)

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
    def test_outputs_that_are_no_scores_are_numbers_and_no_classes(self, dtype):
        outputs, labels = torch.arange(6).reshape(3, 2).to(dtype), torch.arange(3) % 2
        columns = predicted(in_batches(outputs, labels))
        assert columns == {"label": labels.tolist(), "prediction_0": [0, 2, 4], "prediction_1": [1, 3, 5]}

    def test_several_answers_at_once_go_by_the_names_of_the_classes(self):
        outputs, labels = torch.randn(9, 2), torch.randint(0, 2, (9, 2)).float()
        columns = predicted(in_batches(outputs, labels), classes=["cat", "dog"])
        assert [*columns] == ["label_cat", "label_dog", "prediction_cat", "prediction_dog"]
        assert columns["label_dog"] == labels[:, 1].tolist()

    def test_numbers_of_64_bits_stay_what_they_are(self):
        values = torch.tensor([0.1, 1e9 + 0.358], dtype=torch.float64)
        assert predicted(in_batches(values, values))["prediction"] == values.tolist()

    def test_numbers_of_16_bits_are_written_too(self):
        values = torch.tensor([0.5, 2.0], dtype=torch.bfloat16)
        assert predicted(in_batches(values, values))["prediction"] == [0.5, 2.0]

    def test_classes_and_their_probabilities_are_torch_s(self):
        logits, labels = torch.randn(9, 3), torch.arange(9) % 3
        columns = predicted(in_batches(logits, labels), classes=["a", "b", "c"])
        probabilities, indices = torch.softmax(logits, dim=1).max(dim=1)
        assert columns["prediction"] == ["abc"[index] for index in indices]
        assert columns["label"] == list("abcabcabc")
        assert columns["probability"] == pytest.approx(probabilities.tolist())

    @pytest.mark.parametrize("classes", [["a", "b"], None, 2], ids=["names", "none", "a number"])
    def test_labels_that_are_ignored_are_blank(self, classes):
        labels = torch.tensor([0, -100, 1, -1, 1])
        columns = predicted(in_batches(torch.eye(2)[[0, 0, 1, 1, 0]], labels), classes=classes)
        names = ["a", "b"] if isinstance(classes, list) else [0, 1]
        assert [str(label) for label in columns["label"]] == [str(names[0]), "", str(names[1]), "", str(names[1])]
        assert columns["prediction"] == [names[index] for index in (0, 0, 1, 1, 0)]

    def test_pictures_and_sequences_are_no_lines(self):
        for shape in ((9, 3, 4, 4), (9, 64)):
            assert predicted(in_batches(torch.randn(shape), torch.randn(shape))) == {}


class TestReport:
    """What `evaluate.py` leaves of a classification takes what is there."""

    def report(self, columns, folder, classes=None, caplog=None):
        from engine.training.classification import write_report

        predictions = Predictions(
            "test", [], params_of(**({"classes": classes} if classes else {})), None, None, columns
        )
        with caplog.at_level(logging.INFO):
            write_report(predictions, folder)

    def test_scores_are_scikit_learn_s_over_what_has_a_label(self, tmp_path, caplog):
        from sklearn.metrics import f1_score

        labels, guesses = ["a", "", "b", "a", "b", "a"], ["a", "b", "b", "b", "a", "a"]
        self.report({"label": labels, "prediction": guesses}, tmp_path, ["a", "b", "lacking"], caplog)
        rows = list(csv.DictReader((tmp_path / "classes_test.csv").open()))
        assert [row["class"] for row in rows] == ["a", "b", "mean"]  # over the classes that are there
        counted = [(label, guess) for label, guess in zip(labels, guesses, strict=True) if label]
        assert float(rows[-1]["F1"]) == pytest.approx(f1_score(*zip(*counted, strict=True), average="macro"))
        assert rows[-1]["support"] == "5"
        assert "test: 1 of 6 have no label" in caplog.text
        assert (tmp_path / "confusion_test.png").is_file()

    def test_the_f1_of_the_table_is_the_one_of_the_log(self, tmp_path, caplog):
        """Of classes that never occur, that are only labels or only guesses, and of labels that are ignored."""
        labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, -100, 4, -100])
        guesses = torch.tensor([0, 1, 1, 3, 2, 2, 0, 5, 4, 0])
        logged = MacroF1(7)
        for part in (slice(0, 4), slice(4, 10)):
            logged.update(torch.eye(7)[guesses[part]], labels[part])
        columns = {
            "label": ["" if label < 0 else str(label) for label in labels.tolist()],
            "prediction": [str(guess) for guess in guesses.tolist()],
        }
        self.report(columns, tmp_path, [str(number) for number in range(7)], caplog)
        rows = list(csv.DictReader((tmp_path / "classes_test.csv").open()))
        by_hand = {"0": 2 / 4, "1": 2 / 4, "2": 4 / 5, "3": 0, "4": 1}
        assert {row["class"]: float(row["F1"]) for row in rows[:-1]} == pytest.approx(by_hand)
        assert float(rows[-1]["F1"]) == pytest.approx(logged.compute()) == pytest.approx(sum(by_hand.values()) / 5)

    @pytest.mark.parametrize(
        "columns",
        [
            {"label": ["a", "b"], "word": ["x", "y"]},
            {"label": ["a", "b"], "prediction": ["surely a", "perhaps b"]},
            {"prediction": ["a", "b"]},
            {},
        ],
        ids=["other columns", "other words", "no labels", "nothing"],
    )
    def test_other_columns_are_no_error(self, columns, tmp_path, caplog):
        self.report(columns, tmp_path, ["a", "b"], caplog)
        assert "test: no table of classes" in caplog.text
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("classes", [None, 3])
    def test_classes_without_names_are_numbers(self, classes, tmp_path, caplog):
        self.report({"label": [10, 2, 2], "prediction": [10, 2, 10]}, tmp_path, classes, caplog)
        assert [row["class"] for row in csv.DictReader((tmp_path / "classes_test.csv").open())] == ["2", "10", "mean"]

    def test_of_many_classes_the_worst_are_on_the_screen_and_all_in_the_file(self, tmp_path, caplog):
        names = [f"class{number:03}" for number in range(200)]
        guesses = [*names[:150], *names[:50]]
        self.report({"label": names, "prediction": guesses}, tmp_path, names, caplog)
        assert "the 20 classes with the lowest F1 of 200" in caplog.text
        assert len(caplog.text.splitlines()) < 30
        assert len((tmp_path / "classes_test.csv").read_text().splitlines()) == 202

    def test_a_regression_leaves_a_picture_of_each_target(self, tmp_path, caplog):
        from engine.training.regression import predicted_figure, targets, write_report

        generator = np.random.default_rng(0)
        truth, guesses = generator.normal(size=(2, 50))
        columns = {"label_x": truth.tolist(), "prediction_x": guesses.tolist(), "label_y": truth.tolist()}
        columns |= {"prediction_y": truth.tolist()}
        predictions = Predictions("test", [], params_of(), None, None, columns)
        with caplog.at_level(logging.INFO):
            write_report(predictions, tmp_path)
        error = float(np.sqrt(np.mean((truth - guesses) ** 2)))
        assert (
            f"test: x: root mean square error {error:.4g}; {truth.std():.4g} if it were always the mean" in caplog.text
        )
        assert "test: y: root mean square error 0;" in caplog.text
        assert (tmp_path / "predicted_test.png").stat().st_size > 5000
        axes = predicted_figure(targets(predictions), "test").axes
        assert np.allclose(axes[0].collections[0].get_offsets(), np.column_stack([truth, guesses]))
        assert axes[0].get_xlim() == axes[0].get_ylim()
