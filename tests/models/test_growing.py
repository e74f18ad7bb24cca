"""A cache that grows in place holds what transformers' own holds; ended texts leave the batch."""

from itertools import pairwise

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from isthmus.models import growing
from isthmus.models.generation import Generation, Source, SpecialTokens, write
from isthmus.models.growing import GrowingLayer


def test_it_holds_what_a_growing_copy_holds(monkeypatch):
    monkeypatch.setattr(growing, "ROOM", 3)
    draw = torch.Generator().manual_seed(0)

    def read(tokens: int, rows: int) -> tuple[Tensor, Tensor]:
        shape = rows, 2, tokens, 5
        return torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)

    stock, kept = DynamicLayer(), []
    stock.update(*read(2, 4))
    ours = GrowingLayer(stock)
    for tokens in (1, 1, 1, 1, 5, 1):  # beyond the room, and more at once than there is room for
        new = read(tokens, 4)
        wanted = stock.update(*new)
        kept.append((ours.update(*new), wanted))
    for rows in ([2, 0, 0, 3], [1, 3], [1]):  # beams, and texts that are left out
        for layer in (stock, ours):
            layer.reorder_cache(torch.tensor(rows))
        for _ in range(4):
            new = read(1, len(rows))
            wanted = stock.update(*new)
            kept.append((ours.update(*new), wanted))
    for found, wanted in kept:  # what was returned before stays as it was
        torch.testing.assert_close(found, wanted, atol=0, rtol=0)
    assert ours.get_seq_length() == stock.get_seq_length()


def test_a_token_copies_nothing_while_there_is_room():
    layer = GrowingLayer(DynamicLayer())
    places = [layer.update(*torch.randn(2, 1, 1, 1, 4))[0].data_ptr() for _ in range(growing.ROOM)]
    assert all(one == other for one, other in pairwise(places))


class Counting(Source):
    """Row n writes token n until it has written it n times, then ends; it counts rows read."""

    END = 0

    def __init__(self, count: int) -> None:
        self.rows, self.length, self.read_rows = torch.arange(count), 0, 0

    def read(self, ids: Tensor) -> Tensor:
        assert len(ids) == len(self.rows)
        self.read_rows += len(ids)
        self.length += 1
        logits = torch.zeros(len(ids), 12)
        wanted = torch.where(self.rows < self.length, self.END, self.rows)
        return logits.scatter(1, wanted.unsqueeze(1), 100.0)

    def keep(self, rows: Tensor) -> None:
        self.rows = self.rows[rows]


def test_texts_that_have_ended_leave_the_batch():
    for sample in (False, True):
        source = Counting(12)
        begin = torch.tensor([1])
        settings = Generation(max_new_tokens=20, sample=sample)
        texts = write(source, 12, begin, begin[:0], settings, SpecialTokens(1, Counting.END, 1))
        assert texts == [[row] * row for row in range(12)]
        # All 12 to the end would be 144 rows, and no more than necessary is 78.
        assert source.read_rows < 100
