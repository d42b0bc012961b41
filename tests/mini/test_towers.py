from __future__ import annotations

import numpy as np
import pytest

from bind2gen.mini.towers import balanced_weights


def test_balanced_weights_lift_the_rare_and_drop_the_background():
    weights = balanced_weights(np.array(["dog"] * 100 + ["rain"] * 4 + [""] * 50), power=0.5)
    dog, rain, background = weights[:100].sum(), weights[100:104].sum(), weights[104:].sum()
    assert background == 0 and weights.sum() == pytest.approx(1)
    assert dog / rain == pytest.approx((100 / 4) ** 0.5)
