import numpy as np
import pytest
from netllm_sims.abr import QoE


def test_qoe_is_bitrate_less_weighted_rebuffering_and_change():
    # by hand: 1.2 - 4.3 * 0.5 - 0.9 and 0.3 - 0 - 2 * 0.9
    parts = np.array([1.2]), np.array([0.5]), np.array([0.9])
    assert QoE()(*parts) == pytest.approx([-1.85])
    calm = QoE(rebuffering=0, smoothness=2)
    assert calm(np.array([0.3]), np.array([7.0]), np.array([-0.9])) == pytest.approx([-1.5])


@pytest.mark.parametrize("weights", [{"rebuffering": -1.0}, {"smoothness": float("nan")}])
def test_weights_must_be_finite_and_not_negative(weights):
    with pytest.raises(ValueError, match=next(iter(weights))):
        QoE(**weights)
