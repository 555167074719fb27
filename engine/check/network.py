"""Whether every part of the network takes part: gradients, optimizer, inputs, evaluation."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from engine.check.finding import CannotJudge, Finding, failed, passed, warned
from engine.check.project import Broken, Project, Result, take, with_changed, with_shuffled_labels
from engine.nested import tensors_in
from engine.training import set_training_mode
from engine.wording import some

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
MOST_DEAD = 0.75  # of the units of a layer; on few inputs, some of a healthy one never fire
TOLERANCE = 1e-3  # of the spread of the outputs; sums in another order differ by less


def gradients_reach_all(project: Project) -> Finding:
    """Each parameter to be trained gets a finite gradient, if not in the first step, then within a few."""
    model = project.network()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained:
        return failed("no parameter is to be trained", "leave a layer unfrozen")
    unused, silent = set(trained), set(trained)
    for _ in few_steps(project, model):
        for name, parameter in trained.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            gradient = gradient.to_dense() if gradient.is_sparse else gradient
            if not torch.isfinite(gradient).all():
                return failed(f"the gradient of {name} is not finite", "look for sqrt, log or a division at 0")
            unused.discard(name)
            if gradient.any():
                silent.discard(name)
    if unused:
        seen = f"no gradient reaches {some(sorted(unused))}: {len(unused)} of {len(trained)} parameters"
        return failed(seen, "use them in forward, without detach, .item(), .data or NumPy on the way; or take them out")
    if silent:
        seen = f"the gradient of {some(sorted(silent))} is 0 in all of a few steps"
        return failed(seen, "look for ReLUs that never fire, a product with 0, or a branch that is cut off")
    return passed(f"all {len(trained)}{_frozen(model)}")


def _frozen(model: nn.Module) -> str:
    still = [parameter.numel() for parameter in model.parameters() if not parameter.requires_grad]
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"; {sum(still):,} of {total:,} numbers are frozen" if still else ""


def few_steps(project: Project, model: nn.Module, number: int = 4) -> Iterator[Result]:
    """A few steps on as many batches, small ones: what is behind a layer of zeros moves from the second on."""
    set_training_mode(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for batch in (project.batches["train"] * number)[:number]:
        optimizer.zero_grad()
        result = project.run(model, batch)
        if not result.loss.requires_grad:
            raise Broken("the loss does not depend on the parameters: detach, .item(), .data or NumPy cut it off")
        result.loss.backward()
        yield result
        optimizer.step()


def no_layer_is_half_frozen(project: Project) -> Finding:
    """No layer has a frozen weight beside a bias that is trained, or the other way round."""
    model = project.network()
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, LAYERS) and len({parameter.requires_grad for parameter in own.values()}) > 1:
            still = [key for key, parameter in own.items() if not parameter.requires_grad]
            return warned(f"{name}.{still[0]} is frozen, the rest of the layer is not", "was all of it meant, or none?")
    return passed(f"{sum(not p.requires_grad for p in model.parameters())} parameters are frozen")


def optimizer_holds_all(project: Project) -> Finding:
    """Each parameter to be trained is in the optimizer, and no other is."""
    model = project.network()
    optimizer = project.optimizer_of(project.task, model, project.params)
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {parameter: name for name, parameter in model.named_parameters()}
    missing = [name for parameter, name in names.items() if parameter.requires_grad and parameter not in set(held)]
    if missing:
        return failed(f"the optimizer lacks {some(missing)}", "give configure_optimizer all that is to be trained")
    return passed(f"{type(optimizer).__name__} over {len(held)} parameters")


def step_only_computes(project: Project) -> Finding:
    """A forward pass leaves weights and gradients alone, and zero_grad leaves nothing behind."""
    model = project.network()
    set_training_mode(model)
    optimizer = project.optimizer_of(project.task, model, project.params)
    before = copy.deepcopy([parameter.detach() for parameter in model.parameters()])
    result = project.run(model, project.batches["train"][0])
    if any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters()):
        return failed(
            "the forward pass leaves gradients behind", "leave backward to train.py; each step adds them twice"
        )
    if any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)):
        return failed("the forward pass changes the weights", "leave the optimizer's step to train.py")
    result.loss.backward()
    optimizer.zero_grad()
    if any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters()):
        return failed("zero_grad leaves gradients in the parameters", "each step would go along all those before it")
    return passed("the forward pass changes nothing")


def outputs_do_not_know_labels(project: Project) -> Finding:
    """With the labels of other examples in the batch, `step` gives the same outputs."""
    if project.task.step is None:
        return passed("the network is given inputs alone")
    model, batch = project.network().eval(), project.batches["val"][0]
    result = project.run(model, batch)
    other = with_shuffled_labels(project, batch, result, project.params.seed)
    if same(result.outputs, project.outputs(model, other, "labels exchanged")):
        return passed("with the labels of other examples, the outputs are the same")
    advice = "scores are those of a network that is told the answers: keep labels out of what Net is given"
    return warned("with the labels of other examples, the outputs are others", advice)


def evaluation_repeats(project: Project) -> Finding:
    """The same batch twice in evaluation gives the same outputs."""
    model, batch = project.network().eval(), project.batches["val"][0]
    for _ in range(2):  # a network that draws seldom is still caught
        if not same(project.run(model, batch).outputs, project.run(model, batch).outputs):
            advice = "dropout needs training=self.training; draw nothing in forward when it is False"
            return failed("two evaluations of one batch differ", advice)
    return passed("two evaluations of one batch are the same")


def same(one: Any, other: Any) -> bool:
    """Whether two outputs are the same, but for rounding."""
    for first, second in _pairs(one, other):
        if first.shape != second.shape:
            return False
        if first.is_floating_point() and first.numel() and _distance(first, second) > TOLERANCE:
            return False
    return True


def _distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, in units of the spread of the numbers."""
    one, other = one.detach().double(), other.detach().double()
    spread = float(one.std()) if one.numel() > 1 else float(one.abs().mean())
    return float((one - other).abs().max()) / (spread + 1e-6 * float(one.abs().max()) + 1e-30)


def examples_are_judged_alone(project: Project) -> Finding:
    """In evaluation, what is said of an example depends on no other example and not on their number."""
    model, batch = project.network().eval(), project.batches["val"][0]
    for _ in few_steps(project, model):
        pass  # so that running statistics are not those of the very start
    model.eval()
    whole = project.run(model, batch)
    size = project.size(whole)
    if size < 3:
        raise CannotJudge("a batch of val holds too few examples")
    for number in (size // 2, 2, 1):
        rows = torch.arange(number)
        part = project.outputs(model, take(batch, rows, size), f"a batch of {number}")
        wanted = take(whole.outputs, rows, size)
        shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in _pairs(part, wanted) if a.shape != b.shape]
        if shapes and number == 1:
            seen = f"one example gives outputs {shapes[0][0]}, not {shapes[0][1]}"
            return failed(seen, "say which dimension: squeeze(1), not squeeze()")
        if shapes:
            raise CannotJudge(f"outputs do not count examples first: {shapes[0][0]}")
        if not same(part, wanted):
            advice = "in evaluation, use running statistics and no softmax or mean over dim=0"
            return failed(f"of {number} of {size} examples the network says something else", advice)
    return passed(f"the same alone, in twos, and among {size}")


def _pairs(one: Any, other: Any) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(tensors_in(one), tensors_in(other), strict=True)


def batches_of_one_train(project: Project) -> Finding:
    """If the last batch of a pass is a single example, training can take it."""
    batches = project.batches["train"]
    project.size(project.run(project.network().eval(), batches[0]))  # which says whether rows are examples
    sizes = project.lengths
    if 1 not in sizes:
        return passed(f"none: batches are of {max(sizes)}, the smallest of {min(sizes)}")
    try:
        project.run(project.network().train(), batches[sizes.index(1)])
    except Broken as error:
        advice = 'set another "batch_size", or drop_last=True'
        return failed(f"batch {sizes.index(1) + 1} of a pass is of one example: {error}", advice)
    return passed("one, and training takes it")


def outputs_depend_on_inputs(project: Project) -> Finding:
    """Different examples get different outputs, before training or after a few steps."""
    model = project.network()
    batch = project.batches["train"][0]
    inputs = project.inputs_in(batch, project.run(model.eval(), batch).labels)
    if all(torch.equal(tensor, tensor[:1].expand_as(tensor)) for tensor in inputs if tensor.dim()):
        return failed("all examples of the first batch are the same", "look at what the data set returns")
    for _ in few_steps(project, model, number=3):
        result = project.run(model.eval(), batch)
        outputs = [tensor for tensor in tensors_in(result.outputs) if tensor.is_floating_point() and tensor.dim()]
        if any(_distance(tensor[:1].expand_as(tensor), tensor) > 0 and _varies(tensor) for tensor in outputs):
            return passed("different examples get different outputs")
        set_training_mode(model)
    seen = "all examples get the same outputs, whatever they are"
    return failed(seen, "look for ReLUs that never fire (first weights and biases), or inputs that are not used")


def _varies(tensor: Tensor) -> bool:
    return not torch.allclose(tensor, tensor[:1].expand_as(tensor), rtol=1e-6, atol=1e-12)


def units_fire(project: Project) -> Finding:
    """Most units of each layer get a gradient for some example."""
    model = project.network()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    alive = {name: torch.zeros(len(m.weight), dtype=torch.bool, device=m.weight.device) for name, m in layers.items()}
    for _ in few_steps(project, model):
        for name, module in layers.items():
            if module.weight.grad is not None:
                alive[name] |= module.weight.grad.flatten(1).any(1)
    for name, units in alive.items():
        dead = 1 - float(units.float().mean())
        if layers[name].weight.requires_grad and dead > MOST_DEAD:
            seen = f"{int((~units).sum())} of {len(units)} units of {name} never get a gradient"
            return warned(seen, "smaller first weights, biases of 0, normalised inputs; or LeakyReLU")
    if not layers:
        raise CannotJudge("the network has no linear or convolutional layer")
    return passed(f"in {len(layers)} layers")


def inputs_have_influence(project: Project) -> Finding:
    """Each tensor of the inputs, and each column of a table among them, changes the outputs."""
    model, batch = project.network(), project.batches["train"][0]
    for _ in few_steps(project, model):
        pass
    whole = project.run(model.eval(), batch)
    size = project.size(whole)
    inputs = project.inputs_in(batch, whole.labels)
    tried = 0
    for number, tensor in enumerate(inputs):
        other = tensor.roll(1, 0) if tensor.dim() and len(tensor) == size else tensor
        if torch.equal(other, tensor):
            continue
        if not _matters(project, model, batch, whole, tensor, other):
            seen = f"tensor {number + 1} of the inputs, {tuple(tensor.shape)}, changes nothing"
            return warned(seen, "is it used in forward?") if project.task.step else failed(seen, "use it in forward")
        tried += 1
        if tensor.dim() == 2 and tensor.is_floating_point() and tensor.shape[1] <= 256:
            idle = [
                str(c) for c in range(tensor.shape[1]) if not _column_matters(project, model, batch, whole, tensor, c)
            ]
            if idle:
                seen = f"column {some(idle)} of the inputs (counted from 0) changes no output"
                return failed(seen, "is it cut off on the way?")
    if not tried:
        raise CannotJudge("no input could be exchanged between examples")
    return passed(f"{tried} tensor{'s' if tried > 1 else ''}, each column")


def _column_matters(project: Project, model: nn.Module, batch: Any, whole: Result, table: Tensor, column: int) -> bool:
    other = table.clone()
    other[:, column] = other[:, column].roll(1)
    if torch.equal(other, table):
        return True  # nothing to exchange: told elsewhere
    return _matters(project, model, batch, whole, table, other)


def _matters(project: Project, model: nn.Module, batch: Any, whole: Result, tensor: Tensor, other: Tensor) -> bool:
    outputs = project.outputs(model, with_changed(batch, {id(tensor): other}), "examples exchanged")
    pairs = _pairs(whole.outputs, outputs)
    return any(before.shape != after.shape or not torch.equal(before, after) for before, after in pairs)
