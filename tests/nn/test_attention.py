"""The switch between causal and bidirectional attention, tried on every backend and padding."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

from tokenspace.errors import ConfigError, FormatError
from tokenspace.nn.attention import check_attention, is_decoder, sees_ahead, set_attention

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
GPT2 = {
    "vocab_size": 50,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
DECODERS = [
    tf.LlamaConfig(**SHAPE, num_key_value_heads=2),
    tf.Qwen2Config(**SHAPE, num_key_value_heads=2),
    tf.MistralConfig(**SHAPE, num_key_value_heads=2),
    tf.GPT2Config(**GPT2),
]


def network(config: tf.PretrainedConfig, backend: str = "sdpa") -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tf.AutoModel.from_config(config, attn_implementation=backend).eval()


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("config", DECODERS, ids=lambda config: config.model_type)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_follows_the_switch(config: tf.PretrainedConfig, backend: str, side: str) -> None:
    made = network(type(config).from_dict(config.to_dict()), backend)
    assert is_decoder(made)
    assert not sees_ahead(made)
    set_attention(made, bidirectional=True)
    assert sees_ahead(made)
    # a padded row gives what it gives alone
    ids = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 0, 0]])
    mask = (ids > 0).long()
    if side == "left":
        ids[1], mask[1] = ids[1].roll(2), mask[1].roll(2)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        both = made(input_ids=ids, attention_mask=mask, position_ids=places).last_hidden_state
        alone = made(input_ids=torch.tensor([[11, 12, 13, 14]])).last_hidden_state
    torch.testing.assert_close(both[1][mask[1] == 1], alone[0], atol=1e-5, rtol=1e-4)
    set_attention(made, bidirectional=False)
    assert not sees_ahead(made)


def test_the_switch_is_saved(tmp_path: pytest.TempPathFactory) -> None:
    made = network(tf.LlamaConfig(**SHAPE, num_key_value_heads=2))
    set_attention(made, bidirectional=True)
    made.save_pretrained(tmp_path)
    again = tf.AutoModel.from_pretrained(tmp_path).eval()
    assert sees_ahead(again)
    check_attention(again, "again")


def test_an_encoder_sees_all_and_cannot_be_causal() -> None:
    made = network(tf.BertConfig(**SHAPE))
    assert not is_decoder(made)
    set_attention(made, bidirectional=True)
    assert made.config.to_dict().get("is_causal") is None
    with pytest.raises(ConfigError, match="encoder"):
        set_attention(made, bidirectional=False)


class Deaf(torch.nn.Module):
    """A causal network, whatever its configuration says: running sums of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.config = tf.LlamaConfig(**SHAPE, num_key_value_heads=2)
        self.embedding = torch.nn.Embedding(50, 16)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        states = self.embedding(input_ids) * attention_mask[..., None]
        return tf.modeling_outputs.BaseModelOutput(last_hidden_state=states.cumsum(1))


def test_a_network_that_does_not_follow_is_found_out() -> None:
    made = Deaf()
    check_attention(made, "model")
    with pytest.raises(ConfigError, match="Deaf does not follow"):
        set_attention(made, bidirectional=True)
    assert made.config.is_causal is False
    with pytest.raises(FormatError, match=r"model: config\.json says is_causal=false"):
        check_attention(made, "model")
