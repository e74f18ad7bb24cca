"""Training on transformers' Trainer, with its traps for a latent-variable model closed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn, final

import accelerate.optimizer
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from isthmus.data.denoise import Denoising
from isthmus.data.kind import Floor
from isthmus.data.stream import TextStream
from isthmus.data.tokens import MANY_UNKNOWN
from isthmus.errors import IsthmusError
from isthmus.evaluation.floor import check_floor
from isthmus.evaluation.likelihood import Bounds, bounds
from isthmus.evaluation.usage import Estimate, put
from isthmus.latent.objective import Objective, Terms
from isthmus.models.base import LatentModel, summarised
from isthmus.models.codec import Batch, Examples, TextExamples
from isthmus.models.labels import label_set
from isthmus.models.text_model import text_model
from isthmus.progress import JsonLinesLog
from isthmus.runs.card import SUMMARY
from isthmus.settings import Settings, shared_fields
from isthmus.training.arguments import arguments
from isthmus.training.callbacks import LogAtCheckpoints
from isthmus.training.checkpoints import (
    best_before,
    finish,
    prune,
    remove_newer,
    reporting_a_full_disk,
    step_of,
)
from isthmus.training.clock import Clock
from isthmus.training.inference import make_inference, noise_shape
from isthmus.training.loading import (
    EpochKeys,
    EpochLoader,
    Key,
    KeyDataset,
    bucket_batches,
    epoch_places,
)
from isthmus.training.meter import Meter, figures_of
from isthmus.training.objective import make_objective
from isthmus.training.rates import rate_embeddings
from isthmus.training.sharding import ShardingTrainer, rest_gathered
from isthmus.training.states import begin_states, states_to_keep
from isthmus.training.streaming import StreamedBatches
from isthmus.training.watch import Watch

# Every step asks twice, and each time the whole path is searched for a package.
accelerate.optimizer.is_lomo_available = cache(accelerate.optimizer.is_lomo_available)

ROW_0 = "row_0"
"""−log p(x) of a pretrained decoder before training, in the log's first record."""


@final
class LatentTrainer(ShardingTrainer):
    """transformers' Trainer for models that return terms in nats.

    What differs: the loss of an optimiser step is a mean over all its *sentences*, whatever
    micro-batches and processes they came in; noise and corruption are functions of (seed, epoch,
    example); β is a function of the step; the validation bound is the true one at β = 1; a term
    that is not finite stops the run and is named; a checkpoint has a manifest, written last, and
    all that the log needs to go on as if nothing had happened; the only pickles written are those
    of a checkpoint.

    Args:
        model: to train in place.
        settings: of the run.
        examples: of the training split, as the model's codec prepares them; of a stream a sample.
        valid: those that the bound is measured on.
        out: the run directory.
        floor: the entropy of the validation examples, where it is known.
        log: gets every record; None in all processes but the first.
        warn: called with each finding of the watch.
        callbacks: further ones.
        clock: of the command; now by default, without a limit.
        row_0: −log p(x) of the decoder before training, if it is pretrained.
        stream: what to train on in the place of the examples, for ``train.steps`` steps.
    """

    model: LatentModel
    objective: Objective

    # The loss is divided by the number of sentences of the whole step in compute_loss.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: LatentModel,
        settings: Settings,
        examples: Examples,
        valid: Examples,
        out: Path,
        *,
        floor: Floor | None = None,
        log: JsonLinesLog | None,
        warn: Callable[[str], None],
        callbacks: list[TrainerCallback],
        clock: Clock | None = None,
        row_0: Estimate | None = None,
        stream: TextStream | None = None,
    ) -> None:
        if settings.train.gradient_checkpointing:
            text_model(model).recompute()
        self.settings, self.row_0 = settings, row_0
        self.examples, self.valid, self.floor = examples, valid, floor
        self.jsonl, self.warn = log, warn
        self.out, self.clock = out, clock or Clock()
        self.checkpoint: Path | None = None
        self.meter = Meter(model.family, label_set(model).names)
        rates = shared_fields(settings.data, Denoising)
        if not label_set(model).separator:
            rates["detail_dropout"] = 0.0
        self.denoising = Denoising(**rates)
        balanced = settings.data.sampling == "balanced"
        self.places = epoch_places(examples, balanced, settings.train.seed)
        if settings.train.sampled_vocabulary:
            text_model(model).decoder.sample_vocabulary(settings.train.sampled_vocabulary)
        super().__init__(
            model=model,
            args=arguments(settings, out),
            train_dataset=KeyDataset(len(self.places)),
            eval_dataset=KeyDataset(len(valid)),
            # First, so that it sees the checkpoints that are due and not those of a stop.
            callbacks=[LogAtCheckpoints(self._begin), *callbacks],
        )
        self.accelerator.ddp_handler.gradient_as_bucket_view = True  # else it copies them twice
        self.remove_callback(PrinterCallback)  # it prints every log to standard output
        vars(model.config).pop("use_cache", None)  # the Trainer adds it; it is no setting here
        train, rank, processes = settings.train, self.args.process_index, self.args.world_size
        self.bucketed = partial(bucket_batches, train=train, rank=rank, world_size=processes)
        self.states, self.reading = states_to_keep(model, settings, out, rank, processes)
        steps = self._total_steps()
        self.args.max_steps = steps
        self.args.eval_steps = self.args.save_steps = max(1, steps // settings.train.evaluations)
        self.streamed: StreamedBatches | None = None
        if stream is not None:
            total, clustered = steps * train.accumulation, getattr(model.config, "clusters", 0) > 0
            self.streamed = StreamedBatches(stream, model.codec, self.bucketed, total, clustered)
        self.objective = make_objective(settings.objective, steps)
        self.inference = make_inference(model, settings, examples, self._loss, self.args.device)
        self.watch = self._watch()

    def fit(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the start."""
        self.checkpoint = checkpoint
        self.accelerator.wait_for_everyone()  # all have chosen the checkpoint
        self.divide()
        if self.args.should_save:
            remove_newer(self.out, step_of(checkpoint) if checkpoint else 0)
        if checkpoint is not None and step_of(checkpoint) >= self.args.max_steps:
            self._load_finished(checkpoint)
            return
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def _load_finished(self, checkpoint: Path) -> None:
        """Load the end of a run whose every step is done; the Trainer would do one more."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self.state.is_world_process_zero = self.is_world_process_zero()
        best = best_before(checkpoint) if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(str(best or checkpoint))
        handler = self.callback_handler
        self.control = handler.on_train_begin(self.args, self.state, self.control)
        self.log(self._summary())
        self.control = handler.on_train_end(self.args, self.state, self.control)

    def _watch(self) -> Watch:
        """What looks at the figures of the run, with what it has to know of it."""
        model, settings, valid = self.model, self.settings, self.valid
        frequency, unknown = None, 0.0
        if isinstance(self.examples, TextExamples) and isinstance(valid, TextExamples):
            frequency = torch.from_numpy(valid.nats_by_frequency(self.examples))
            share = valid.decoder_tokens.unknown_share
            unknown = share if share >= MANY_UNKNOWN else 0.0
        with summarised(model):  # which is watched, see evaluate
            size = math.prod(model.latent_shape)
        limit = self.clock.seconds
        minutes = limit / 60 if math.isfinite(limit) else 0.0
        unsampled = settings.train.fit_prior > 0 or getattr(model.config, "vector_size", 0) > 0
        head = getattr(getattr(settings.model, "encoder", None), "head_scale", 0.0)
        given = (self.objective, size, frequency, unknown, minutes, unsampled, head)
        return Watch(*given, latents=model.config.latents)

    def _begin(self) -> None:
        """Start the clock and the sums of the log, or go on with those of the checkpoint."""
        self.started = time.perf_counter()
        self.meter.clear()
        if self.checkpoint is None:
            begin_states(self.model, self.states, 0, self.warn)
            if self.row_0 is not None:  # callbacks have not begun to listen, and read it here
                row: dict[str, Any] = {"step": 0}
                put(row, ROW_0, self.row_0)
                self.state.log_history.append(row)
                if self.jsonl is not None:
                    self.jsonl.write(row)
            return
        path = self.checkpoint / self._meter_file()
        if not path.is_file():
            begin_states(self.model, self.states, 0, self.warn)
            if not (self.checkpoint / self._generator_file()).is_file():
                self.warn(
                    f"{self.checkpoint.name} was written by another number of processes: from "
                    "here on dropout differs from that of a run without a stop"
                )
            return
        # torch knows no device "cpu:0" here, which is what a process of several has.
        device = "cpu" if self.args.device.type == "cpu" else self.args.device
        former = torch.load(path, map_location=device, weights_only=True)
        self.started -= former["seconds"]
        self.clock.add(former["elapsed"])
        self.meter.restore(former["meter"])
        self.watch.restore(former["watch"])
        begin_states(self.model, self.states, former["states"], self.warn)
        # What the Trainer has set to zero by now.
        self._tr_loss = former["loss"]
        self._globalstep_last_logged = former["logged"]

    def _meter_file(self) -> str:
        return f"meter-{self.args.process_index}-of-{self.args.world_size}.pt"

    def _generator_file(self) -> str:
        """Where the Trainer saves the states of this process' random generators."""
        rank = self.args.process_index
        return f"rng_state_{rank}.pth" if self.args.world_size > 1 else "rng_state.pth"

    def _summary(self) -> dict[str, float]:
        """The last row of the log: about the whole run, however often it was stopped."""
        seconds = time.perf_counter() - self.started
        total, before = 0.0, 0.0
        for row in self.state.log_history:
            if "loss" in row:
                total += row["loss"] * (row["step"] - before)
                before = row["step"]
        return {
            "train_runtime": seconds,
            "train_steps_per_second": self.state.global_step / seconds,
            "total_flos": 0.0,
            "train_loss": total / before,
        }

    def _total_steps(self) -> int:
        train = self.settings.train
        if train.steps:
            return train.steps
        per_epoch = math.ceil(len(self.loader()) / train.accumulation)
        return max(1, math.ceil(train.epochs * per_epoch))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Length-bucketed batches; each process takes its share of the same global batches."""
        if self.streamed is None:
            return self.loader()
        self.streamed.begin(self.checkpoint)
        collate = partial(self._collate, self.streamed)
        keys = KeyDataset(len(self.streamed))
        return EpochLoader(keys, batch_sampler=self.streamed, collate_fn=collate)

    def loader(self) -> EpochLoader:
        """The batches of the examples in memory, also where training reads a stream."""
        batches = EpochKeys(self.bucketed(self.examples.lengths[self.places]))
        collate = partial(self._collate, None)
        keys = KeyDataset(len(self.places))
        return EpochLoader(keys, batch_sampler=batches, collate_fn=collate)

    def _collate(self, streamed: StreamedBatches | None, keys: list[Key]) -> Batch:
        examples, places = self.examples, [place for _, place in keys]
        if streamed is None:
            places = self.places[places].tolist()
        else:
            examples = streamed.examples
        return examples.collate(
            places,
            seed=self.settings.train.seed,
            epoch=keys[0][0],
            noise_shape=noise_shape(self.model, self.settings),
            denoising=self.denoising,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor:
        """Sentences of the whole optimiser step, over all processes."""
        count = torch.tensor(sum(len(batch["noise"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Σ loss / sentences of the step, times the processes that data-parallel averages over."""
        output = model(**inputs, inference=self.inference)
        terms = output.terms
        loss = self._loss(terms).sum()
        # Of the terms as well: β = 0 and the mask of free bits hide a KL that is not finite.
        if not torch.isfinite(loss + terms.negative_elbo.sum()):
            self._name_the_fault(terms)
        self.meter.add(output, inputs)
        assert num_items_in_batch is not None
        loss = loss / num_items_in_batch * self.args.world_size
        return (loss, output) if return_outputs else loss

    def _loss(self, terms: Terms) -> Tensor:
        """The training loss of every example at the current step, [N]."""
        return self.objective(terms, self.state.global_step)

    def _name_the_fault(self, terms: Terms) -> NoReturn:
        """Stop the run with the names of the terms that are not finite."""
        parts = {"reconstruction": terms.reconstruction, "KL": terms.kl}
        parts |= {f"{name} term": term for name, term in terms.named.items()}
        bad = [name for name, value in parts.items() if not torch.isfinite(value).all()]
        raise IsthmusError(
            f"step {self.state.global_step + 1}: {' and '.join(bad) or 'the loss'} "
            f"{'are' if len(bad) > 1 else 'is'} not finite; "
            "lower --train.learning-rate or --train.clip, or use --train.precision float32"
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's, with the learning rate of embeddings in a group of its own."""
        fresh, factor = self.optimizer is None, self.settings.train.embedding_rate
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if fresh and factor != 1:
            rate_embeddings(optimizer, self.model, factor)
        return optimizer

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm of the gradients, where it was needed to clip them or the log shows it."""
        step, args = self.state.global_step + 1, self.args
        shown = step == args.max_steps or not (
            step % args.logging_steps and step % args.save_steps
        )
        return super()._get_grad_norm(model, grad_norm) if shown else grad_norm

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """What weight decay shrinks: matrices, except those of norms, biases and the prior.

        The Trainer decides by names alone, which the norms of many decoders evade. RWKV has
        vectors of three dimensions, and Mamba the logarithms of its rates in a matrix.
        """
        names = []
        for place, module in model.named_modules():
            if "prior_module" in place.split(".") or "norm" in type(module).__name__.lower():
                continue
            for leaf, parameter in module.named_parameters(recurse=False):
                name = f"{place}.{leaf}".lstrip(".")
                vector = parameter.ndim < 2 or parameter.shape[:-1] == (1, 1)
                if not vector and "bias" not in name and "log" not in leaf:
                    names.append(name)
        return names

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: the estimate walks over all parameters in every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms of the bound to what the Trainer logs, and keep it all as JSON Lines."""
        record: dict[str, Any] = {}
        if "train_runtime" in logs:  # the Trainer's own summary begins where a run was resumed
            if self.state.global_step < self.args.max_steps and not self.clock.struck:
                return  # stopped by a signal
            logs = self._summary()
        if "loss" in logs and self.meter.examples:
            values, record = self.meter.summary(self.accelerator.reduce)
            logs |= values | {"beta": self.objective.beta(self.state.global_step - 1)}
            self.meter.clear()
        if self.streamed is not None:
            self.state.epoch = self.streamed.epoch  # the Trainer takes the whole run for one
        super().log(logs, start_time)
        if self.jsonl is not None:
            self.jsonl.write({"step": self.state.global_step} | logs | record)

    def measured(self) -> dict[str, Bounds]:
        """The bound of the validation examples; under :data:`SUMMARY`, that of a summary alone."""
        seed = self.settings.train.seed
        found = {"": bounds(self.model, self.valid, samples=1, seed=seed)}
        if self.model.config.summary:
            with summarised(self.model):
                found[SUMMARY] = bounds(self.model, self.valid, samples=1, seed=seed)
        return found

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The true bound at β = 1 on the validation examples, the same in every process."""
        with self.meter.paused(), rest_gathered(self.model), torch.no_grad():
            measured, prior = self.measured(), self.model.prior
        step = self.state.global_step
        metrics: dict[str, float] = {}
        for end, found in measured.items():
            bound = Estimate.mean_of(found.negative_elbo)
            check_floor(self.floor, self.valid, bound, f"step {step}: −ELBO")
            metrics |= {f"eval_{end}{name}": value for name, value in figures_of(found).items()}
        self.log(metrics)
        # Of two levels the summary is watched: its details bring texts back from the start.
        end, found = list(measured.items())[-1]
        gap = None
        if found.swapped is not None:
            gap = Estimate.mean_of(found.swapped - found.own)
        kl, active = found.kl.flatten(1), metrics[f"eval_{end}active_units"]
        squares = None
        if prior.is_standard_normal:
            squares = 0.5 * found.posterior.mean.flatten(1).square().sum(1).mean().item()
        finding = self.watch.look(step, kl, active, gap, found.reconstruction, squares)
        if finding:
            self.warn(f"the summary alone: {finding}" if end else finding)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights and configuration; the Trainer would add its arguments as a pickle."""
        if self.args.should_save:
            self.model.save_pretrained(str(output_dir), state_dict=state_dict)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        with reporting_a_full_disk(folder), self.meter.paused():
            super()._save_checkpoint(model, trial)
            former = {
                "meter": self.meter.state(),
                "watch": self.watch.state(),
                "loss": self._tr_loss,
                "logged": self._globalstep_last_logged,
                "seconds": time.perf_counter() - self.started,
                "elapsed": self.clock.elapsed,
                "states": 0 if self.states is None else self.states.commit(),
            }
            torch.save(former, folder / self._meter_file())
            if self.streamed is not None and self.args.should_save:
                self.streamed.save(folder)
            self.accelerator.wait_for_everyone()  # every process writes files
            if self.args.should_save:
                finish(folder)
                prune(folder, keep_best=self.args.load_best_model_at_end)
