"""What transformers' Trainer is told of a run."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from isthmus.settings import Settings
from isthmus.training.processes import timeout


def arguments(settings: Settings, out: Path) -> TrainingArguments:
    """The settings of a run as transformers' Trainer takes them.

    Args:
        settings: of the run.
        out: the run directory.
    """
    train = settings.train
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        # The trainer sets these three once it has counted the batches.
        max_steps=1,
        eval_steps=1,
        save_steps=1,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.decay if train.decay != "constant" else "constant_with_warmup",
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=train.clip,
        gradient_accumulation_steps=train.accumulation,
        logging_steps=train.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        save_strategy="steps",
        load_best_model_at_end=train.keep == "best",
        metric_for_best_model="eval_elbo",
        greater_is_better=True,
        report_to=[],  # by callbacks of the run, which the trial of its speed has none of
        run_name=out.name,
        log_level_replica="error",
        disable_tqdm=True,
        bf16=train.precision == "bf16",
        use_cpu=not cuda,
        seed=train.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        # As without recomputing: at β = 0 a learned prior is not used yet.
        ddp_find_unused_parameters=True,
        ddp_timeout=math.ceil(60 * timeout()),
    )
