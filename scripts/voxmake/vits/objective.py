"""What VITS is trained on: Kim, Kong and Son, arXiv 2106.06103, on the parts of transformers' VitsModel.

transformers has the model for inference and refuses labels ("Training of VITS is not supported yet", 5.23). All its
parts take gradients, so the forward pass of training is written here, outside of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxmake.vits.align import best_paths
from voxmake.vits.spectrogram import linear_spectrogram

if TYPE_CHECKING:
    import torch


@dataclass
class Forward:
    """What one batch gives.

    Attributes:
        fake, real: audio that was made and the piece of the recording it should be, shape (B, 1, segment).
        kl, duration: losses, scalars.
        path: alignment, shape (B, T_frames, T_tokens), without gradient.
    """

    fake: torch.Tensor
    real: torch.Tensor
    kl: torch.Tensor
    duration: torch.Tensor
    path: torch.Tensor


def mask_of(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """1 where an item has content, shape (B, longest), float32."""
    import torch

    return (torch.arange(longest, device=lengths.device)[None] < lengths[:, None]).float()


def hop_of(config: Any) -> int:
    """Samples that one frame becomes."""
    hop = 1
    for rate in config.upsample_rates:
        hop *= rate
    return hop


def speaker_vector(model: Any, speakers: torch.Tensor) -> torch.Tensor | None:
    """Embedding of each item's speaker, shape (B, channels, 1); None for a model of one speaker."""
    return model.embed_speaker(speakers).unsqueeze(-1) if model.config.num_speakers > 1 else None


def align(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Encode text and audio, and find out which frame belongs to which token.

    Args:
        batch: `tokens` (B, T), `token_counts` (B,), `wave` (B, samples), `frames` (B,), `speaker_ids` (B,).

    Returns:
        the latents, the text's statistics and the path between them.
    """
    import torch

    config = model.config
    frames, counts = batch["frames"], batch["token_counts"]
    speaker = speaker_vector(model, batch["speaker_ids"])
    spectrum = linear_spectrogram(batch["wave"], 2 * (config.spectrogram_bins - 1), hop_of(config))
    longest = int(frames.max())
    spectrum = spectrum[:, :, :longest]
    frame_mask = mask_of(frames, longest).unsqueeze(1)
    token_mask = mask_of(counts, batch["tokens"].shape[1])
    text = model.text_encoder(
        batch["tokens"], padding_mask=token_mask.unsqueeze(-1), attention_mask=token_mask.long(), return_dict=True
    )
    latents, _, log_deviation = model.posterior_encoder(spectrum, frame_mask, speaker)
    # transformers calls the text's log deviations "log variances"; VITS' own forward pass shows what they are.
    text_mean, text_deviation = text.prior_means.float(), text.prior_log_variances.float()
    flowed = model.flow(latents, frame_mask, speaker).float()
    path = _search(flowed, text_mean, text_deviation, frames, counts)
    return {
        "speaker": speaker, "hidden": text.last_hidden_state.transpose(1, 2), "token_mask": token_mask.unsqueeze(1),
        "frame_mask": frame_mask, "latents": latents, "log_deviation": log_deviation.float(), "flowed": flowed,
        "text_mean": torch.matmul(path, text_mean).transpose(1, 2),
        "text_deviation": torch.matmul(path, text_deviation).transpose(1, 2), "path": path,
    }  # fmt: skip


def _search(
    flowed: torch.Tensor, mean: torch.Tensor, log_deviation: torch.Tensor, frames: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Monotonic alignment search over log N(flowed; mean, deviation), shape (B, T_frames, T_tokens)."""
    import torch

    with torch.no_grad():
        precision = torch.exp(-2 * log_deviation)  # (B, tokens, channels)
        constant = (-0.5 * torch.log(torch.tensor(2 * torch.pi)) - log_deviation).sum(-1)[:, None]
        values = (
            constant
            - 0.5 * torch.matmul(flowed.square().transpose(1, 2), precision.transpose(1, 2))
            + torch.matmul(flowed.transpose(1, 2), (mean * precision).transpose(1, 2))
            - 0.5 * (mean.square() * precision).sum(-1)[:, None]
        )
        path = best_paths(values.cpu().numpy(), frames.cpu().numpy(), counts.cpu().numpy())
        return torch.from_numpy(path).to(flowed)


def kl_loss(parts: dict[str, Any]) -> torch.Tensor:
    """KL divergence of the posterior from the text's prior, by one sample, per frame and summed over channels."""
    import torch

    distance = (parts["flowed"] - parts["text_mean"]).square() * torch.exp(-2 * parts["text_deviation"])
    kl = parts["text_deviation"] - parts["log_deviation"] - 0.5 + 0.5 * distance
    return (kl * parts["frame_mask"]).sum() / parts["frame_mask"].sum()


def duration_loss(model: Any, parts: dict[str, Any]) -> torch.Tensor:
    """How badly durations are foretold: negative log-likelihood, or squared error of logarithms, per token."""
    import torch

    durations = parts["path"].sum(1).unsqueeze(1)
    mask, hidden = parts["token_mask"], parts["hidden"].float()
    # Splines in half precision end in NaN: this part always computes in float32.
    with torch.autocast(hidden.device.type, enabled=False):
        speaker = None if parts["speaker"] is None else parts["speaker"].float()
        if model.config.use_stochastic_duration_prediction:
            return model.duration_predictor(hidden, mask, speaker, durations=durations).sum() / mask.sum()
        foretold = model.duration_predictor(hidden, mask, speaker)
        return ((foretold - torch.log(durations + 1e-6) * mask).square() * mask).sum() / mask.sum()


def forward(model: Any, batch: dict[str, torch.Tensor], segment: int) -> Forward:
    """The generator's side of one training step.

    Args:
        segment: samples that are made of each item, a multiple of the hop; no item is shorter.
    """
    import torch

    hop = hop_of(model.config)
    parts = align(model, batch)
    width = segment // hop
    room = (batch["frames"] - width).clamp_min(0)
    starts = (torch.rand(len(room), device=room.device) * (room + 1)).long().minimum(room)
    latents = torch.stack(
        [item[:, at : at + width] for item, at in zip(parts["latents"], starts.tolist(), strict=True)]
    )
    real = torch.stack(
        [wave[at * hop : (at + width) * hop] for wave, at in zip(batch["wave"], starts.tolist(), strict=True)]
    )
    fake = model.decoder(latents, parts["speaker"])
    return Forward(fake.float(), real.unsqueeze(1), kl_loss(parts), duration_loss(model, parts), parts["path"])


def rebuild(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Whole clips through posterior encoder and decoder: what validation listens to. Shape (B, 1, samples)."""
    parts = align(model, batch)
    return model.decoder(parts["latents"] * parts["frame_mask"], parts["speaker"]).float(), parts


def discriminators(width: float) -> Any:
    """VITS' own at width 1: five periods and one scale."""
    from voxmake.nets.discriminators import Discriminators, MultiPeriodDiscriminator, MultiScaleDiscriminator

    scale = MultiScaleDiscriminator(scales=1, layout="melgan", width=width, spectral_first=False)
    return Discriminators([MultiPeriodDiscriminator(width=width), scale])
