"""A model in parts: each process holds a share of weights, gradients and moments (FSDP2).

torch's ``fully_shard`` gathers the weights of a layer where it computes, lets go of them after it,
and leaves each process the average gradient of its own share. accelerate would apply it on GPUs
alone; the Trainer also takes a model that is divided already, so that the processes of a CPU
compute what those of GPUs do.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import Trainer
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.trainer import SCHEDULER_NAME

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.base import LatentModel
from isthmus.models.text_model import TextModel
from isthmus.settings import Settings

_WITHOUT = "leave out --train.sharding"
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight, as large as the weight."""


def check_sharding(settings: Settings, processes: int, resume: bool) -> None:
    """Refuse settings that a model in parts cannot be trained with.

    Args:
        settings: of the run.
        processes: their number; a run can go on with a single one.
        resume: whether it goes on.

    Raises:
        IsthmusError: they cannot.
    """
    train = settings.train
    if not train.sharding:
        return
    if processes == 1 and not resume:
        raise IsthmusError(
            "train.sharding: got one process, expected several, each with a part of the model; "
            f"start with torchrun --nproc-per-node 2 -m isthmus train …, or {_WITHOUT}"
        )
    if train.minutes:
        raise IsthmusError(
            "train.sharding: got train.minutes, whose trial needs the whole model in each "
            "process; give --train.steps or --train.epochs instead"
        )
    if train.semi_amortised:
        raise IsthmusError(
            "train.sharding: got train.semi_amortised, whose ascent goes back through layers that "
            f"are not gathered any more; {_WITHOUT} or --train.semi-amortised"
        )


def divide(model: LatentModel, device: str, processes: int) -> None:
    """Leave each process its share of all weights, in place.

    Each layer of a stock model is gathered by itself, and so are token embeddings that are not
    tied to an output layer. All else (bridge, heads, norms, tied embeddings) is gathered through
    the whole of a step.

    Args:
        model: the same in every process; on any device.
        device: type of the device that computes.
        processes: their number.

    Raises:
        IsthmusError: the model is none of texts alone, or draws which layers it computes.
    """
    if not isinstance(model, TextModel):
        kind = model.config.model_type
        raise IsthmusError(
            f"train.sharding: got {kind}, expected a model of texts alone; {_WITHOUT}"
        )
    for part, _ in model.stock_models():
        config = part.config.get_text_config()
        drawn = [(key, rate) for key, rate in vars(config).items() if "layerdrop" in key and rate]
        if drawn:
            raise IsthmusError(
                f"train.sharding: got {config.model_type} with {drawn[0][0]} {drawn[0][1]}, by "
                f"which each process would skip other layers; {_WITHOUT}"
            )
    with in_one_line("train.sharding: torch cannot divide this model", _WITHOUT):
        mesh = init_device_mesh(device, (processes,))
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)


def _layers(model: TextModel) -> list[nn.Module]:
    """The outermost modules that are gathered by themselves: none shares a weight with others."""
    inputs = [part.get_input_embeddings() for part, _ in model.stock_models()]
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    everywhere = _weights_in(model)
    for module in model.modules():
        wanted = isinstance(module, GradientCheckpointingLayer) or module in inputs
        own = _weights_in(module) if wanted and module not in inside else None
        if own and all(everywhere[key] == count for key, count in own.items()):
            found.append(module)
            inside |= set(module.modules())
    return found


def _weights_in(module: nn.Module) -> Counter[int]:
    """How many modules inside have each weight."""
    return Counter(
        id(weight) for each in module.modules() for weight in each.parameters(recurse=False)
    )


def without_weights(model: LatentModel) -> LatentModel:
    """A copy of a model whose weights take no memory, for :func:`whole`."""
    memo: dict[int, Any] = {}
    for weight in model.parameters():
        none = torch.empty(0, dtype=weight.dtype)
        memo[id(weight)] = nn.Parameter(none, requires_grad=weight.requires_grad)
    return copy.deepcopy(model, memo)


@torch.no_grad()
def whole(divided: LatentModel, empty: LatentModel) -> LatentModel:
    """Gather the weights of a divided model, in main memory; every process takes part.

    Args:
        divided: by :func:`divide`.
        empty: what :func:`without_weights` made of it before; gets the weights.
    """
    weights, buffers = dict(empty.named_parameters()), dict(empty.named_buffers())
    for name, part in divided.named_parameters():
        weights[name].data = cast(DTensor, part.data).full_tensor().cpu()
    for name, buffer in divided.named_buffers():
        buffers[name].data = buffer.cpu()
    return empty


@contextmanager
def rest_gathered(model: nn.Module) -> Iterator[None]:
    """Inside the block methods of a divided model find what no layer of its own gathers."""
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


class ShardingTrainer(Trainer, ABC):
    """transformers' Trainer, also for a model in parts.

    With ``train.sharding`` a checkpoint has weights and moments as safetensors, written by torch's
    distributed checkpoint: a file from each process. Any number of processes can go on from them,
    also a single one, which has the model whole and writes the same form.
    """

    settings: Settings
    model: LatentModel
    empty: LatentModel | None = None

    def divide(self) -> None:
        """Keep this process' share of the model, if the run has several and asks for it."""
        if self.settings.train.sharding and self.args.world_size > 1:
            self.empty = without_weights(self.model)
            divide(self.model, self.args.device.type, self.args.world_size)
            # The Trainer then leaves the model as it is; in its __init__ it would refuse
            # checkpoints, which it has none of for such models.
            self.is_distributed_loading_by_transformers = True

    def gather(self) -> None:
        """Give every process the whole model again, after the last step."""
        if self.empty is not None:
            self.model, self.empty = whole(self.model, self.empty), None
            if self.args.should_save:
                self.model.to(self.args.device)  # type: ignore[arg-type]

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Leave a model that will be divided: only parts of it may fit on the device."""
        if not self.settings.train.sharding or self.args.world_size == 1:
            super()._move_model_to_device(model, device)

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Reduce the gradients of every micro-batch, so that none is ever held whole."""
        yield

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save weights, and in parts the moments with them."""
        if not self.settings.train.sharding:
            super().save_model(output_dir, _internal_call)
            return
        writer = HuggingFaceStorageWriter(str(output_dir), save_distributed=True)
        with _storing():
            save(self._weights() | self._moments(), storage_writer=writer, no_dist=_alone())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.settings.train.sharding:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            assert self.lr_scheduler is not None
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if not self.settings.train.sharding:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        _read(self._weights(), resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if not self.settings.train.sharding:
            super()._load_best_model()
            return
        assert self.state.best_model_checkpoint is not None
        _read(self._weights(), self.state.best_model_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.settings.train.sharding or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        stored = HuggingFaceStorageReader(checkpoint).read_metadata().state_dict_metadata
        for name, weight in self.model.named_parameters():
            if f"step.{name}" in stored:
                # On the processor, where AdamW counts; fused, it counts where the weight is.
                state: dict[str, Tensor] = {"step": torch.zeros(())}
                state |= {kind: torch.zeros_like(weight.data) for kind in _MOMENTS}
                self.optimizer.state[weight] = state
        _read(self._moments(), checkpoint)
        if any(group.get("fused") for group in self.optimizer.param_groups):
            for state in self.optimizer.state.values():
                state["step"] = state["step"].to(self.args.device)
        scheduler = torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
        self.lr_scheduler.load_state_dict(scheduler)
        rates = self.lr_scheduler.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _weights(self) -> dict[str, Tensor]:
        """Weights, those that are tied once, and what else belongs to the model."""
        weights: dict[str, Tensor] = dict(self.model.named_parameters())
        tied = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        weights |= {k: v for k, v in self.model.state_dict().items() if k not in tied}
        return {f"weight.{name}": value for name, value in weights.items()}

    def _moments(self) -> dict[str, Tensor]:
        """What the optimiser keeps of each weight."""
        assert self.optimizer is not None
        found: dict[str, Tensor] = {}
        for name, weight in self.model.named_parameters():
            if state := self.optimizer.state.get(weight):
                found |= {f"{kind}.{name}": state[kind] for kind in _MOMENTS}
                found[f"step.{name}"] = state["step"].view(1)
        return found


def _read(parts: Mapping[str, Tensor], checkpoint: str) -> None:
    """Fill tensors, or this process' shares of them, from a checkpoint."""
    with _storing():
        reader = HuggingFaceStorageReader(checkpoint)
        load(dict(parts), storage_reader=reader, no_dist=_alone())


def _alone() -> bool:
    return not torch.distributed.is_initialized()


@contextmanager
def _storing() -> Iterator[None]:
    """Raise what one process met, such as a full disk, in all of them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says that a single process does it
            yield
    except CheckpointException as error:  # no Exception, and of many lines
        raise next(iter(error.failures.values()))[0] from None
