"""The attention of one query over a shared set, against attention over copies of the set."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cillab.parts.set_attention import SetAttention

D = 12


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fresh() -> SetAttention:
    made = SetAttention(D, torch.device("cpu"), torch.Generator().manual_seed(0)).double()
    for seed, count in ((1, 2), (2, 1)):
        made.grow(count, torch.Generator().manual_seed(seed))
    return made


def layer() -> SetAttention:
    made = fresh()
    for seed, name in enumerate(("query", "key", "value", "out", "gain", "shift")):
        made.put(name, drawn(*made.held()[name].shape, seed=seed))
    return made


def test_equals_attention_over_a_copy_of_the_set_for_every_query() -> None:
    made, x, rows = layer(), drawn(5, D, seed=7), drawn(7, D, seed=8)
    became, became_rows = made(x, rows)
    for i in range(5):
        whole = torch.cat([x[i : i + 1], rows, made.context])
        q, k, v = (whole @ m.T for m in (made.query, made.key, made.value))
        out = whole + F.scaled_dot_product_attention(q, k, v) @ made.out.T
        expected = F.layer_norm(out, (D,), made.gain, made.shift)
        torch.testing.assert_close(became[i], expected[0])
        torch.testing.assert_close(became_rows[i], expected[1:8])


def test_a_fresh_layer_only_normalises_and_company_does_not_matter() -> None:
    x, rows = drawn(5, D, seed=7), drawn(7, D, seed=8)
    became, became_rows = fresh()(x, rows)
    torch.testing.assert_close(became, F.layer_norm(x, (D,)))
    torch.testing.assert_close(became_rows[2], F.layer_norm(rows, (D,)))
    made = layer()
    torch.testing.assert_close(made(x, rows)[1][3], made(x[3:4], rows)[1][0])


def test_rows_in_another_order_become_the_same() -> None:
    made, x, rows = layer(), drawn(2, D, seed=7), drawn(7, D, seed=8)
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    torch.testing.assert_close(made(x, rows[order])[1], made(x, rows)[1][:, order])
