"""``isthmus codebook``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from isthmus.commands import common


@dataclass(frozen=True, kw_only=True)
class Codebook(common.OnCorpus):
    """List the entries of a codebook that texts use: how often, their rate, what they stand for.

    For runs with --model.posterior quantised (--recipe codebook). Where each latent is the code
    of its own tokens (model.encoder.pooling blocks), an entry stands for the tokens that have it;
    else for the words of texts in which a latent has it. encode writes the codes of each text, and
    decode reads them.
    """

    def run(self) -> None:
        corpus = self.corpus()
        model = self.load("encoder")
        from isthmus.explore.codebook import codebook, quantised

        owner = quantised(model)
        with common.bar("reading", len(corpus)) as progress:
            entries = codebook(owner, corpus.names, progress)
        records = []
        for entry in entries:
            record = dataclasses.asdict(entry)
            if not self.json:
                said = " | ".join(f"{one.text} {one.share:.0%}" for one in entry.pieces)
                record["said"] = said
                record["place"] = "" if entry.latent < 0 else f"latent {entry.latent}  "
            records.append(record)
        plain = "{place}{code:>5}  {share:6.2%}  {nats:5.2f} nats  {said}"
        common.emit(records, self.json, plain)
        used = len({entry.code for entry in entries})
        common.console().print(
            f"{used:,} of {owner.config.prior_components:,} entries are used, by "
            f"{len(corpus):,} texts"
        )
