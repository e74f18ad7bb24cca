"""The published CTRL: its control codes and their frequencies.

References:
    Keskar et al. (2019), CTRL: A Conditional Transformer Language Model for Controllable
    Generation, arXiv 1909.05858; the shares are those of ``control_codes.txt`` in its repository.
"""

from __future__ import annotations

import math

SHARES = {
    **{"Links": 36.57, "Reviews": 15.37, "Translation": 12.98, "multilingual": 11.13},
    **{"Books": 9.59, "Wikipedia": 8.48, "News": 4.39, "Explain": 0.308, "Horror": 0.135},
    **{"Extract": 0.118, "Relationships": 0.092, "Narcissus": 0.042, "Politics": 0.041},
    **{"Atheism": 0.040, "Human": 0.040, "Computing": 0.037, "Funny": 0.032, "Weight": 0.030},
    **{"Pregnancy": 0.030, "Confession": 0.029, "Relationship": 0.028, "Feminism": 0.027},
    **{"Gaming": 0.025, "Teenage": 0.024, "Legal": 0.024, "Conspiracy": 0.023, "Ask": 0.022},
    **{"Event": 0.022, "Support": 0.021, "Learned": 0.021, "Diet": 0.020, "Questions": 0.020},
    **{"Finance": 0.019, "Fitness": 0.018, "Alone": 0.017, "Retail": 0.017, "Joke": 0.014},
    **{"Opinion": 0.013, "India": 0.013, "Movies": 0.013, "Christianity": 0.013},
    **{"Thoughts": 0.013, "Confessions": 0.013, "Notion": 0.012, "Writing": 0.011},
    **{"Running": 0.011, "Ass": 0.0085, "Science": 0.0074, "Scary": 0.0074, "Saving": 0.0069},
    **{"Technologies": 0.0064, "Norman": 0.00064, "Netflix": 0.00011, "Tip": 0.00004},
    **{"Joker": 0.000002},
}
"""Of the training data, in per cent, rounded: they sum to 100 within 0.01."""


def log_prior() -> dict[str, float]:
    """log p(c) of the 55 codes, nats, from the shares divided by their sum.

    Attribution in the paper uses a uniform prior instead, because this one favours large domains.
    """
    total = math.fsum(SHARES.values())
    return {name: math.log(share / total) for name, share in SHARES.items()}
