"""Whether batches are what the network and the loss can take, and what the first layer is given."""

import warnings

import torch
from torch import Tensor, nn

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.project import Broken, Project
from engine.nested import as_pair, tensors_in
from engine.training import mean_losses
from engine.wording import some

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase)
LARGEST_SCALE = 10.0  # layers begin with weights that are made for inputs about as large as 1
MOST_COLUMNS = 256  # of a table; what is wider is a picture


def batch_passes(project: Project) -> Finding:
    """A batch of each split goes through network, loss and backward, and the loss is one finite number."""
    for split, batches in project.batches.items():
        if not batches:
            return failed(f"{split} has no batch", "look at fetch_dataloader: is the split empty?")
        try:
            model = project.network()
            result = project.run(model.train(split == "train"), batches[0])
            result.loss.backward()
        except CannotJudge as reason:
            return warned(f"{split}: {reason}", "there is nothing to train on or to score")
        except (Broken, RuntimeError) as error:
            advice = "bring the shapes and types of batches, network and loss together"
            return failed(f"{split}: {error}; the batch is {form(batches[0])}", advice)
        if not torch.isfinite(result.loss):
            advice = "look for a logarithm of 0, a division by 0, or NaN in the data"
            return failed(f"{split}: the first loss is {result.loss.item()}", advice)
    share = f"; examined with 1 in {project.cut:.3g} of its examples, as a step takes long" if project.cut > 1 else ""
    return passed(f"a batch is {form(project.batches['train'][0])}{share}")


def form(batch: object) -> str:
    """Shapes and types: `(32, 1, 8, 8) float32, (32,) int64`."""
    tensors = [f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors_in(batch)]
    return some(tensors, most=4) or f"a {type(batch).__name__} without tensors"


def numbers_are_finite(project: Project) -> Finding:
    """No NaN and no infinity in any batch."""
    for split, batches in project.batches.items():
        for number, batch in enumerate(batches):
            for tensor in tensors_in(batch):
                if not torch.isfinite(tensor).all():
                    where = f"{split}, batch {number + 1}: {_columns(~torch.isfinite(tensor))}"
                    return failed(where, "fill in or leave out what is missing before it becomes a tensor")
    return passed(f"in {sum(map(len, project.batches.values()))} batches")


def _columns(bad: Tensor) -> str:
    """Which columns of a table, or how many numbers of another tensor, are bad."""
    if bad.dim() == 2:
        columns = bad.any(0).nonzero().flatten().tolist()
        return f"NaN or infinite in column {some([str(column) for column in columns])} (counted from 0)"
    return f"{int(bad.sum())} of {bad.numel()} numbers are NaN or infinite"


def inputs_are_normalised(project: Project) -> Finding:
    """What the first layer with weights is given is about as large as 1."""
    given: list[Tensor] = []
    model = project.network()
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
        for module in model.modules()
        if isinstance(module, WEIGHTED)
    ]
    with torch.no_grad():
        project.run(model.eval(), project.batches["train"][0])
    for hook in hooks:
        hook.remove()
    inputs = next((tensor.float() for tensor in given if isinstance(tensor, Tensor)), None)
    if inputs is None:
        raise CannotJudge("the network has no linear, convolutional or recurrent layer to look at")
    scale = float(inputs.square().mean().sqrt())
    seen = (
        f"the first layer is given numbers from {inputs.min():.3g} to {inputs.max():.3g}, {scale:.2g} large on average"
    )
    if scale > LARGEST_SCALE:
        return warned(seen, "subtract the mean and divide by the standard deviation of the training data")
    return passed(seen)


def columns_vary(project: Project) -> Finding:
    """No column of a table has the same number in all examples, but for the least there is, which means: not here."""
    tables = []
    for batch in project.batches["train"]:
        inputs = batch if project.task.step is not None else as_pair(batch)[0]
        tables.append([t for t in tensors_in(inputs) if t.dim() == 2 and t.is_floating_point()])
    if not tables[0] or any(len(parts) != len(tables[0]) for parts in tables):
        raise CannotJudge("the inputs are no table")
    for number in range(len(tables[0])):
        if len({parts[number].shape[1] for parts in tables}) > 1 or tables[0][number].shape[1] > MOST_COLUMNS:
            raise CannotJudge("the inputs are no table")
        table = torch.cat([parts[number] for parts in tables])  # (N, D)
        constant = (table == table[0]).all(0) & (table[0] > table.min())
        if len(table) > 1 and constant.any():
            columns = some([str(column) for column in constant.nonzero().flatten().tolist()])
            seen = f"column {columns} (counted from 0) is the same in all {len(table)} examples looked at"
            return warned(seen, "it carries nothing; was it lost on the way?")
    return passed(f"{sum(t.shape[1] for t in tables[0])} columns in {len(table)} examples")


def loss_takes_shapes_as_meant(project: Project) -> Finding:
    """Loss and function metrics do not blow (B, 1) against (B,) up to (B, B)."""
    batch = project.batches["train"][0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = project.run(project.network().eval(), batch)
    told = next((w for w in caught if "broadcast" in str(w.message)), None)
    outputs, labels = result.outputs, result.labels
    if isinstance(outputs, Tensor) and isinstance(labels, Tensor):
        shapes = f"outputs {tuple(outputs.shape)}, labels {tuple(labels.shape)}"
        if told or (outputs.shape != labels.shape and _depends_on_shape(project, outputs, labels)):
            return failed(f"{shapes}: the loss pairs each output with each label", "outputs.squeeze(1) mends it")
        return passed(shapes)
    if told:
        return failed(str(told.message).splitlines()[0], "bring outputs and labels to one shape")
    raise CannotJudge("outputs and labels are not one tensor each")


def _depends_on_shape(project: Project, outputs: Tensor, labels: Tensor) -> bool:
    """Whether the loss of outputs that have the shape of the labels is another one."""
    if outputs.numel() != labels.numel() or project.task.step is not None:
        return False
    try:
        one, other = (
            mean_losses(project.task.loss_fn(given, labels), given, labels)["loss"].value.item()
            for given in (outputs, outputs.reshape(labels.shape))
        )
    except Exception:
        return False  # it wants the shape it is given
    return abs(one - other) > 1e-5 * abs(one)
