"""Names of the weights of our Particle Transformer in weaver-core's. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_BLOCK = {
    "norm_in": "pre_attn_norm",
    "project_in": "attn.in_proj",
    "project_out": "attn.out_proj",
    "head_scale": "c_attn",
    "norm_attention": "post_attn_norm",
    "norm_feed": "pre_fc_norm",
    "feed.linear_in": "fc1",
    "feed.gate": "fc1_g",
    "feed.norm": "post_fc_norm",
    "feed.linear_out": "fc2",
    "residual_scale": "w_resid",
}
_PATTERNS = (
    (r"pair\.norm\.", "pair_embed.embed.0."),
    (r"class_blocks\.", "cls_blocks."),
    (r"class_token", "cls_token"),
    (r"head\.", "fc."),
)


def name_in_weaver(name: str, embeddings: Mapping[str, str]) -> str:
    """Return what weaver calls one of our weights.

    Parameters
    ----------
    name : str
        Of our weight.
    embeddings : mapping of str to str
        Our groups and the names of their embeddings in weaver: `embed` in `ParticleTransformer`, `pf_embed` and
        `sv_embed` in `ParticleTransformerTagger`, which has all else below `part`.
    """
    within = "" if list(embeddings.values()) == ["embed"] else "part."
    if found := re.match(r"embed\.(\w+)\.(norm|layers)\.(.*)", name):
        return f"{embeddings[found[1]]}.{'input_bn' if found[2] == 'norm' else 'embed'}.{found[3]}"
    if found := re.match(r"pair\.(linear|norms)\.(\d+)\.(.*)", name):
        place = 3 * int(found[2]) + (1 if found[1] == "linear" else 2)  # batch norm first, then three layers each
        return f"{within}pair_embed.embed.{place}.{found[3]}"
    if found := re.match(r"((?:class_)?blocks\.\d+)\.(.*?)(\.(?:weight|bias))?$", name):
        name = f"{found[1]}.{_BLOCK[found[2]]}{found[3] or ''}"
    for pattern, replacement in _PATTERNS:
        name = re.sub(f"^{pattern}", replacement, name)
    return within + name


def unused(names: Iterable[str], ours: Iterable[str], embeddings: Mapping[str, str]) -> list[str]:
    """Return weaver's weights that none of ours is made from; counters apart."""
    used = {name_in_weaver(name, embeddings) for name in ours}
    return sorted(name for name in names if name not in used and not name.endswith(("_counter", "batches_tracked")))
