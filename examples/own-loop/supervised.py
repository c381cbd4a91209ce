"""A plain PyTorch loop that predicts where a viewer will look, with three parts of ours.

`python examples/own-loop/supervised.py --backbone smollm2-135m --layers 6 --out runs/supervised`
"""

import argparse

import numpy as np
import torch
from netllm_adapt import BackboneSpec, Predictor, add_lora
from netllm_encoders import Viewport
from netllm_heads import Trajectory
from netllm_sims import vp
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


def network(backbone: str, layers: int | None, setting: vp.Setting) -> Predictor:
    """The three parts as one module, and where each stands in place of what was there."""
    spec = BackboneSpec(backbone, layers=layers)
    language_model = add_lora(spec.load(), rank=8)
    width = language_model.config.hidden_size
    return Predictor(
        encoder=Viewport(width=width, history=setting.history),  # 1: of the input's features
        backbone=language_model,  # 2: of the trunk
        head=Trajectory(width=width, horizon=setting.horizon, dropout=0.1),  # 3: of the output
        spec=spec,
    )


def loss_deg(model: Predictor, history_deg: Tensor, future_deg: Tensor) -> Tensor:
    """The mean absolute error in degrees of a batch of windows."""
    observation = {"viewport_deg": history_deg}
    hidden = model.hidden_of(observation)
    loss: Tensor = model.head.loss(hidden, observation, future_deg)
    return loss.mean()


@torch.no_grad()
def error_deg(model: Predictor, windows: TensorDataset) -> float:
    """The same of all windows of a part, without dropout."""
    model.eval()
    return loss_deg(model, *windows.tensors).item()


def learn(model: Predictor, setting: vp.Setting, epochs: int, out: str) -> None:
    """Train, and save in `out` whenever the error on windows that validate is the least so far."""
    train, valid = windows(setting, "train"), windows(setting, "valid")
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)
    least = error_deg(model, valid)
    print(f"before: {least:.2f} degrees")
    for epoch in range(epochs):
        model.train()
        for history_deg, future_deg in DataLoader(train, batch_size=64, shuffle=True):
            loss = loss_deg(model, history_deg, future_deg)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        error = error_deg(model, valid)
        print(f"epoch {epoch + 1}: {error:.2f} degrees")
        if error < least:
            least = error
            model.save_pretrained(out)


def windows(setting: vp.Setting, part: str) -> TensorDataset:
    """Viewports known and to predict, (window, point, 3) each, in degrees."""
    clips = setting.clips(part)
    history_deg = np.concatenate([clip.history_deg for clip in clips])
    future_deg = np.concatenate([clip.future_deg for clip in clips])
    return TensorDataset(torch.tensor(history_deg).float(), torch.tensor(future_deg).float())


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Learn, save, load; errors in degrees of the loaded model and of holding the last viewport."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="tiny-random")
    parser.add_argument("--layers", type=int, help="take its first blocks alone")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", default="runs/supervised", help="folder of the checkpoint")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    setting = vp.setting("synthetic")
    learn(network(options.backbone, options.layers, setting), setting, options.epochs, options.out)
    loaded, test = Predictor.from_pretrained(options.out), windows(setting, "test")
    history_deg, future_deg = (part.numpy() for part in test.tensors)
    held_deg = np.broadcast_to(history_deg[:, -1:], future_deg.shape)
    errors = {
        "adapted": error_deg(loaded, test),
        "hold-last": float(vp.mae_deg(held_deg, future_deg).mean()),
    }
    print("test: " + ", ".join(f"{name} {error:.2f} degrees" for name, error in errors.items()))
    return errors


if __name__ == "__main__":
    main()
