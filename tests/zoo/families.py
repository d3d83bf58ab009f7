"""The zoo: one tiny random model of each family that users load, with the keys that its configuration needs.

Weights are drawn widely (standard deviation 0.3), so that a lost mask, window, soft cap or scale moves logprobs by
tenths of a nat and more; windows are of 8 tokens, shorter than the prompts of the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

VOCABULARY, CONTEXT = 109, 256
BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OWN_HEADS = ("num_key_value_heads", "head_dim")
"""Keys of BASE that families without grouped heads do not have."""
LOCAL = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


@dataclass(frozen=True)
class Family:
    """One row.

    name: as users know it. architecture: prefix of the classes of transformers. values: of the configuration, in
    addition to BASE without `drop`. fast: whether it is sampled and scored on the fast paths, which is tested.
    """

    name: str
    architecture: str
    values: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    fast: bool = True

    @property
    def config(self) -> dict[str, Any]:
        """The keys of the configuration."""
        return {key: value for key, value in BASE.items() if key not in self.drop} | dict(self.values)


ZOO = (
    Family("Llama", "Llama"),
    Family("Mistral, window", "Mistral", {"sliding_window": 8}),
    Family("Qwen2", "Qwen2"),
    Family(
        "Qwen2, window",
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    Family("Qwen3", "Qwen3"),
    Family(
        "Qwen3-MoE",
        "Qwen3Moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    ),
    Family("Gemma", "Gemma"),
    Family("Gemma 2", "Gemma2", {**LOCAL, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    Family("Gemma 3", "Gemma3", {**LOCAL, "query_pre_attn_scalar": 8}),
    Family("Phi-3", "Phi3"),
    Family("OLMo 2", "Olmo2"),
    Family("SmolLM3", "SmolLM3", {"no_rope_layers": [1, 0, 1]}),
    Family("StableLM", "StableLm"),
    Family("GLM-4", "Glm4"),
    Family("Granite", "Granite", {"logits_scaling": 4.0}),
    Family("Cohere", "Cohere", {"logit_scale": 0.25}),
    Family("Nemotron", "Nemotron"),
    Family("gpt-oss", "GptOss", {**LOCAL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("GPT-2", "GPT2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}, OWN_HEADS),
    Family("GPT-NeoX", "GPTNeoX", drop=OWN_HEADS),
    Family("Falcon", "Falcon", drop=OWN_HEADS, fast=False),
    Family("Phi", "Phi"),
    Family("Mixtral", "Mixtral", {"num_local_experts": 4}),
    Family("OLMo 3", "Olmo3", LOCAL),
    Family("Cohere 2", "Cohere2", {**LOCAL, "logit_scale": 0.25}),
    Family(
        "GPT-J",
        "GPTJ",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT, "rotary_dim": 4},
        OWN_HEADS,
        fast=False,
    ),
    Family(
        "DeepSeek-V3",
        "DeepseekV3",
        LATENT,
        ("head_dim",),
    ),
    Family("OPT", "OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}, OWN_HEADS, fast=False),
    Family("BLOOM", "Bloom", drop=OWN_HEADS, fast=False),
    Family("MPT", "Mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": CONTEXT}, OWN_HEADS, fast=False),
    Family("LFM2, convolutions", "Lfm2", {"layer_types": ["conv", "full_attention", "conv"]}, fast=False),
    Family("Mamba", "Mamba", {"state_size": 4}, OWN_HEADS, fast=False),
    Family(
        "Falcon-H1, hybrid",
        "FalconH1",
        {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
        fast=False,
    ),
)
FAMILIES = {family.name: family for family in ZOO}
CLASSES = {"GPT2": "GPT2LMHeadModel"}
CONFIGS = {"Gemma3": "Gemma3Text"}


def build(name: str, seed: int = 0, **changes: Any) -> Any:
    """Return a new model of a row, in evaluation mode. changes: of its configuration."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    family = FAMILIES[name]
    config_class = getattr(transformers, f"{CONFIGS.get(family.architecture, family.architecture)}Config")
    model_class = getattr(transformers, CLASSES.get(family.architecture, f"{family.architecture}ForCausalLM"))
    torch.manual_seed(seed)
    model = model_class(config_class(**family.config | changes)).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("sinks"):
            parameter.data.normal_(0, 3)
    return model


@cache
def shared(name: str) -> Any:
    """Return the model of a row that tests use and do not change."""
    return build(name)


@cache
def untouched(name: str) -> Any:
    """Return the same weights in a model of which only `forward` is called, for references."""
    return build(name)
