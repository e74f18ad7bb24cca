"""Tiny runs: one layer, width 32, dozens of sentences."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.utils import logging

from isthmus.data import scenes
from isthmus.data.kind import Floor
from isthmus.models.base import LatentModel
from isthmus.models.build import build
from isthmus.settings import Settings, from_dict, with_changes
from isthmus.training import LatentTrainer
from trainers import TINY, trained

logging.set_verbosity_error()
logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def _undrawn(undrawn: None) -> None:
    """For all tests here."""


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., Settings]:
    """Tiny settings with changes, one dictionary a group."""
    tiny = from_dict(Settings, TINY, "test")
    return lambda **groups: with_changes(tiny, groups, "test")


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return [sentence.text for sentence in scenes.generate("train", 56)]


@pytest.fixture
def make(
    sentences: list[str], settings_of: Callable[..., Settings]
) -> Callable[..., LatentTrainer]:
    """A trainer in a folder, or one that resumes from the last checkpoint there."""

    def make(
        out: Path,
        *,
        texts: list[str] | None = None,
        labels: list[str | None] | None = None,
        count: int = 40,
        float64: bool = False,
        callbacks: list[TrainerCallback] | None = None,
        resume: bool = False,
        change: Callable[[LatentModel], None] = lambda model: None,
        warn: Callable[[str], None] = lambda finding: None,
        floor: Floor | None = None,
        **groups: Any,
    ) -> LatentTrainer:
        settings = settings_of(**groups)
        torch.manual_seed(0 if not resume else 999)  # what is random must not come from here
        train, valid = (texts, texts) if texts else (sentences[:count], sentences[40:])
        model = build(settings, train, labels)
        change(model)
        if float64:
            model.double()
        return trained(
            out,
            settings,
            model,
            model.codec.prepare(train, labels),
            model.codec.prepare(valid),
            resume=resume,
            callbacks=callbacks or (),
            warn=warn,
            floor=floor,
        )

    return make
