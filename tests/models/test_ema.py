import pytest
import torch
from torch import nn

from dcgan.models.ema import EMA


def test_parameters_and_statistics_follow_ema_recursion():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    ema = EMA(model, 0.9)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1000, 1005):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 2))
        ema.update(model, torch.tensor(ema.weight(step)))
        for name, value in model.state_dict().items():
            average = 0.9 * expected[name] + 0.1 * value
            expected[name] = average if value.is_floating_point() else value.clone()
    for name, value in ema.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_initial_weights_are_soon_forgotten():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = EMA(model, 0.999)
    nn.init.ones_(model.weight)
    for step in range(50):
        ema.update(model, torch.tensor(ema.weight(step)))
    assert ema.network.weight.item() > 0.99


def test_average_stays_in_eval_mode_without_gradients():
    ema = EMA(nn.Dropout(0.5), 0.9)
    ema.train()
    assert not ema.network.training
    assert not any(p.requires_grad for p in EMA(nn.Linear(2, 2), 0.9).parameters())


@pytest.mark.parametrize("decay", [0, 1, -0.1, 2])
def test_decay_out_of_range_is_rejected(decay):
    with pytest.raises(ValueError, match=r"decay must be a number in \(0, 1\)"):
        EMA(nn.Linear(1, 1), decay)
