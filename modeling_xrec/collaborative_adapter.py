"""Mixture-of-experts adapter: a collaborative embedding becomes a vector in the backbone's token space.

XRec (arXiv 2406.02377), section 3.2. With the collaborative embedding x of width E, K experts and hidden width H:

    logits    = x W_g + eps * (softplus(x W_n) + 0.01),  eps ~ N(0, 1) in training, 0 otherwise     (K,)
    g(x)      = softmax(logits)                                                                     (K,)
    expert_k  = W_k (dropout(x) - b_k)                                                              (H,)
    a(x)      = sum_k g_k(x) expert_k(x)                                                            (H,)

The gate is dense: every expert speaks, weighted by its gate.

Beyond the paper the gate may be sparse, so that experts can part the embeddings among them: all but the k largest logits are
-infinity before the softmax (Shazeer et al., arXiv 1701.06538, equations 3 to 5, whose noisy gate the paper has without that).

An adapter may also add a soft prompt s, which everyone hears, and a map of its own for every place in the layers
(`places` of them):

    a(x)      = sqrt(E) s + sum_k g_k(x) expert_k(x)                                                (H,)
    m_p(x)    = M_p x, which place p adds to a(x)                                                   (H,)

Both start at zero, so that an untrained adapter is the paper's. Without s, what all answers share has to be learned through
embeddings that differ. With sqrt(E), s moves as fast under Adam as the map of one embedding of length 1 that all share.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

NOISE_FLOOR = 0.01
"""Least standard deviation of the gate's training noise, as in the reference."""


class MixtureOfExpertsAdapter(nn.Module):
    """Maps collaborative embeddings `(batch, collaborative_dim)` to `(batch, markers, hidden_size)`.

    Args:
        collaborative_dim: width E of a collaborative embedding.
        hidden_size: width H of the backbone's hidden states.
        num_experts: number K of experts.
        dropout: dropout on each expert's input in training, in [0, 1).
        markers: vectors made from one embedding, one a marker token.
        places: places in the layers with a map of their own; 0 for none, as in the paper.
        soft_prompt: whether it adds one; not in the paper.
        top_k: experts that speak for an embedding; None for all, as in the paper.

    Attributes:
        gate_weight: W_g, `(E, K)`, starts at zero, so that all experts start with the same gate.
        noise_weight: W_n, `(E, K)`, starts at zero.
        expert_bias: b, `(K, E)`, starts at zero.
        expert_weight: W, `(K, E, markers * H)`, starts at N(0, 0.02^2).
        place_weight: M, `(E, places * markers * H)`, starts at zero; None without places.
        prompt_weight: s, `(markers * H,)`, starts at zero; None without a soft prompt.
    """

    def __init__(
        self, collaborative_dim: int, hidden_size: int, num_experts: int = 8, dropout: float = 0.2, markers: int = 1,
        places: int = 0, soft_prompt: bool = False, top_k: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.hidden_size, self.markers, self.dropout, self.top_k = hidden_size, markers, dropout, top_k
        self.gate_weight = nn.Parameter(torch.empty(collaborative_dim, num_experts))
        self.noise_weight = nn.Parameter(torch.empty(collaborative_dim, num_experts))
        self.expert_bias = nn.Parameter(torch.empty(num_experts, collaborative_dim))
        self.expert_weight = nn.Parameter(torch.empty(num_experts, collaborative_dim, markers * hidden_size))
        width = places * markers * hidden_size
        self.place_weight = nn.Parameter(torch.empty(collaborative_dim, width)) if places else None
        self.prompt_weight = nn.Parameter(torch.empty(markers * hidden_size)) if soft_prompt else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the starting weights of the paper's code."""
        for parameter in (self.gate_weight, self.noise_weight, self.expert_bias):
            nn.init.zeros_(parameter)
        nn.init.normal_(self.expert_weight, std=0.02)
        for weight in (self.place_weight, self.prompt_weight):
            if weight is not None:
                nn.init.zeros_(weight)

    def gates(self, embeddings: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Weight of every expert, rows summing to 1.

        Args:
            embeddings: collaborative embeddings, `(batch, E)`.
            noise: eps, `(batch, K)`; drawn in training mode when None, unused in evaluation mode.

        Returns:
            g, `(batch, K)`; where `top_k` is set, all but that many of a row are 0.
        """
        embeddings = embeddings.to(self.gate_weight.dtype)
        logits = embeddings @ self.gate_weight
        if self.training:
            noise = torch.randn_like(logits) if noise is None else noise
            logits = logits + noise * (F.softplus(embeddings @ self.noise_weight) + NOISE_FLOOR)
        if self.top_k is not None:
            largest, experts = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, experts, largest)
        return logits.softmax(dim=-1)

    def forward(self, embeddings: torch.Tensor, gate_noise: torch.Tensor | None = None) -> torch.Tensor:
        """Adapts collaborative embeddings.

        Args:
            embeddings: `(batch, E)`, any floating dtype; computed in the adapter's own dtype.
            gate_noise: fixed gate noise `(batch, K)` for training mode; drawn when None.

        Returns:
            a(x), `(batch, markers, H)`, in the adapter's dtype.
        """
        embeddings = embeddings.to(self.expert_weight.dtype)
        gates = self.gates(embeddings, gate_noise)
        inputs = embeddings.unsqueeze(1).expand(-1, gates.shape[1], -1)
        inputs = F.dropout(inputs, self.dropout, self.training) - self.expert_bias
        # One product over (experts x E) instead of K small ones; the gates weigh the inputs, which is the same sum.
        mixed = (gates.unsqueeze(-1) * inputs).flatten(1) @ self.expert_weight.flatten(0, 1)
        if self.prompt_weight is not None:
            mixed = mixed + math.sqrt(embeddings.shape[1]) * self.prompt_weight
        return mixed.view(len(mixed), self.markers, self.hidden_size)

    def at_places(self, embeddings: torch.Tensor) -> torch.Tensor:
        """M_p x of collaborative embeddings `(batch, E)`: `(batch, places, markers, H)`, in the adapter's dtype.

        Raises:
            ValueError: an adapter without places.
        """
        if self.place_weight is None:
            raise ValueError("expected an adapter with places, found one with none; configure layer_maps=True.")
        inputs = F.dropout(embeddings.to(self.place_weight.dtype), self.dropout, self.training)
        return (inputs @ self.place_weight).unflatten(-1, (-1, self.markers, self.hidden_size))

    def load_reference_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Loads an adapter saved by the reference code.

        Args:
            state_dict: `w_gate` and `w_noise` `(E, K)`, `experts.{k}.bias` `(E,)`, `experts.{k}.lin.weight` `(H, E)`.

        Raises:
            ValueError: a name is missing or unexpected, or a shape differs.
        """
        experts = range(self.expert_bias.shape[0])
        expected = {"w_gate", "w_noise"} | {f"experts.{k}.{name}" for k in experts for name in ("bias", "lin.weight")}
        if expected != set(state_dict):
            raise ValueError(
                f"expected a reference adapter of {len(experts)} experts; missing {sorted(expected - set(state_dict))}, "
                f"unexpected {sorted(set(state_dict) - expected)}; build the adapter with the same num_experts."
            )
        own = {
            "gate_weight": state_dict["w_gate"],
            "noise_weight": state_dict["w_noise"],
            "expert_bias": torch.stack([state_dict[f"experts.{k}.bias"] for k in experts]),
            "expert_weight": torch.stack([state_dict[f"experts.{k}.lin.weight"].T for k in experts]),
        }
        for name, value in own.items():
            if value.shape != getattr(self, name).shape:
                raise ValueError(
                    f"reference {name} is {tuple(value.shape)}, this adapter's is {tuple(getattr(self, name).shape)}; "
                    "build the adapter with the reference's widths."
                )
        self.load_state_dict(own)

    def extra_repr(self) -> str:
        """Widths, as in `Linear`'s repr."""
        experts, dim, _ = self.expert_weight.shape
        spoken = "" if self.top_k is None else f", top_k={self.top_k}"
        return f"{dim} -> {self.markers} x {self.hidden_size}, experts={experts}{spoken}, dropout={self.dropout}"


__all__ = ["MixtureOfExpertsAdapter"]
