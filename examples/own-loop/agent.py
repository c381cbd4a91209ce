"""An agent of Stable-Baselines3 that streams video, with three parts of ours as its network.

`python examples/own-loop/agent.py --backbone smollm2-135m --layers 6 --out runs/agent`
"""

import argparse

import numpy as np
import torch
from gymnasium import spaces
from netllm_adapt import BackboneSpec, Forecast, Predictor, add_lora
from netllm_encoders import Fields
from netllm_heads import Categorical
from netllm_sims import abr
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

FIELDS = {
    "throughput_mbps": {"kind": "series", "length": 6, "log": True},
    "delay_s": {"kind": "series", "length": 6, "scale": 2.0, "log": True},
    "sizes_mb": {"kind": "series", "length": 6, "channels": 6, "scale": 0.5, "log": True},
    "rate_kbps": {"kind": "scalar", "scale": 2000.0},
    "chunks_left": {"kind": "scalar", "scale": 24.0},
    "buffer_s": {"kind": "scalar", "scale": 10.0},
}
"""What the model sees of an observation of the environment, a token each."""


def network(backbone: str, layers: int | None, levels: int) -> Predictor:
    """The three parts as one module, and where each stands in place of what was there."""
    spec = BackboneSpec(backbone, layers=layers)
    language_model = add_lora(spec.load(), rank=8)
    width = language_model.config.hidden_size
    return Predictor(
        encoder=Fields(width=width, fields=FIELDS),  # 1: of the input's features
        backbone=language_model,  # 2: of the trunk
        head=Categorical(width=width, answers=levels),  # 3: of the output
        spec=spec,
    )


class HiddenStates(BaseFeaturesExtractor):
    """Observations to hidden states, from which actor and critic read."""

    def __init__(self, observation_space: spaces.Dict, model: Predictor) -> None:
        super().__init__(observation_space, features_dim=model.head.width)
        self.model = model

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Places 1 and 2. The critic computes in float32, whatever the backbone's type."""
        return self.model.hidden_of(observation).float()


class ActorCritic(MultiInputActorCriticPolicy):
    """The policy of Stable-Baselines3 with our head in place of its linear layer."""

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        """Place 3."""
        assert isinstance(self.features_extractor, HiddenStates)
        logits = self.features_extractor.model.head.distribution(latent_pi, {})
        return self.action_dist.proba_distribution(action_logits=logits)


def agent_of(model: Predictor, setting: abr.Setting) -> PPO:
    """Their algorithm on our environment."""
    envs = make_vec_env("netllm_sims:netllm/ABR-v0", 8, env_kwargs={"setting": setting}, seed=0)
    policy = {
        "features_extractor_class": HiddenStates,
        "features_extractor_kwargs": {"model": model},
        "net_arch": [],  # no layers between hidden states and head
        "ortho_init": False,  # it would draw the frozen weights anew
    }
    return PPO(
        ActorCritic,
        VecNormalize(envs, norm_obs=False, gamma=0.95),
        n_steps=setting.chunks - 1,
        batch_size=2 * (setting.chunks - 1),
        n_epochs=4,
        learning_rate=3e-3,
        gamma=0.95,
        ent_coef=0.03,
        policy_kwargs=policy,
        seed=0,
        device="cpu",
    )


def returns(model: Predictor, setting: abr.Setting) -> np.ndarray:
    """What the model's most probable answers earn in sessions that validate."""
    sessions = setting.sessions("valid")
    return abr.rollout(Forecast(model), setting, sessions).rewards.sum(axis=1)


def main(arguments: list[str] | None = None) -> dict[str, np.ndarray]:
    """Learn, save, load; the returns of each session before, after and of the loaded model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="tiny-random")
    parser.add_argument("--layers", type=int, help="take its first blocks alone")
    parser.add_argument("--steps", type=int, default=4_500)
    parser.add_argument("--out", default="runs/agent", help="folder of the checkpoint")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    setting = abr.setting("synthetic")
    model = network(options.backbone, options.layers, setting.video.levels)
    earned = {"before": returns(model, setting)}
    agent_of(model, setting).learn(options.steps)
    earned["after"] = returns(model, setting)
    model.save_pretrained(options.out)
    earned["loaded"] = returns(Predictor.from_pretrained(options.out), setting)
    print(", ".join(f"{name}: {values.mean():.1f}" for name, values in earned.items()))
    return earned


if __name__ == "__main__":
    main()
