"""The families as a table: the page `docs/families.md` is made from it."""

import re
from collections.abc import Sequence
from functools import cache

from cmrm_interp.families.maps import FamilyMap, Point
from cmrm_interp.families.points import hook_points
from cmrm_interp.families.registry import families, family_of
from cmrm_interp.families.tiny import TINY, tiny

_START = """# Families

What `cmrm_interp.load` knows by name; this page is made from the registry (`cmrm families --markdown`). Other
architectures are tried by Hugging Face's conventions and proved on the model itself; see [gotchas](gotchas.md).

Every family below has a tiny random model (`cmrm_interp.families.tiny(NAME)`), on which the tests compare every hook
point, read and written, in prefill and in generation, with bare PyTorch hooks, and on which the self-check that runs
at every load passes on every layer.
"""
_COMMON = """
## Hook points

All decoders have `hook_embed`, `blocks.{i}.hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`,
`hook_resid_post`, `blocks.{i}.ln1` and `ln2` `.hook_scale` and `.hook_normalized`, `blocks.{i}.attn.hook_q`, `hook_k`,
`hook_v`, `hook_attn_scores`, `hook_pattern` (these two with `attn_implementation="eager"`), `hook_z`, `hook_result`,
`blocks.{i}.mlp.hook_pre`, `hook_pre_linear` (of gated MLPs), `hook_post`, `ln_final.hook_scale`, `hook_normalized`,
`hook_out` and `unembed.hook_out`.
Families that see have `vision.blocks.{i}.hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`,
`hook_resid_post`, `vision.hook_out` (what the projector is given) and `projector.hook_out`. What a family has beyond
this, or lacks, is in its row.
"""
_USUAL = tuple(
    """hook_embed blocks.hook_resid_pre blocks.hook_attn_out blocks.hook_resid_mid blocks.hook_mlp_out
    blocks.hook_resid_post blocks.ln1.hook_scale blocks.ln1.hook_normalized blocks.ln2.hook_scale
    blocks.ln2.hook_normalized blocks.attn.hook_q blocks.attn.hook_k blocks.attn.hook_v blocks.attn.hook_attn_scores
    blocks.attn.hook_pattern blocks.attn.hook_z blocks.attn.hook_result blocks.mlp.hook_pre
    blocks.mlp.hook_pre_linear blocks.mlp.hook_post
    ln_final.hook_scale ln_final.hook_normalized ln_final.hook_out unembed.hook_out""".split()
)
_SEEING = tuple(
    """vision.blocks.hook_resid_pre vision.blocks.hook_attn_out vision.blocks.hook_resid_mid
    vision.blocks.hook_mlp_out vision.blocks.hook_resid_post vision.hook_out projector.hook_out""".split()
)


def markdown() -> str:
    """The page, in Markdown."""
    seeing = [family for family in families() if family.vision is not None]
    plain = [family for family in families() if family.vision is None]
    parts = [_START, "\n## Vision-language models\n\n", _table(seeing, ("images",)), "\n## Text decoders\n\n"]
    return "".join([*parts, _table(plain), _COMMON])


def _table(rows: Sequence[FamilyMap], more: Sequence[str] = ()) -> str:
    head = ["family", "`model_type`", "for example", "more and fewer hook points", *more]
    lines = [head, ["--"] * len(head), *([*_row(family), *[_images(family) for _ in more]] for family in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(family: FamilyMap) -> list[str]:
    kinds = ", ".join(f"`{kind}`" for kind in family.model_types)
    hubs = ", ".join(f"[{hub.partition('/')[2]}](https://huggingface.co/{hub})" for hub in family.hub_ids)
    return [family.name, kinds + _only(family), hubs, _difference(family)]


def _only(family: FamilyMap) -> str:
    parts = [f"{' or '.join(family.vision_types)} tower"] if family.vision_types else []
    parts += [f"{' or '.join(family.text_types)} decoder"] if family.text_types else []
    return f" ({', '.join(parts)})" if parts else ""


def _difference(family: FamilyMap) -> str:
    points = _by_family().get(family.name)
    if not points:
        return ""
    have = dict.fromkeys(re.sub(r"\.\d+\.", ".", point.name) for point in points)
    usual = (*_USUAL, *(_SEEING if family.vision else ()))
    more = [f"`{name.replace('blocks.', 'blocks.{i}.')}`" for name in have if name not in usual]
    fewer = [f"no `{name.replace('blocks.', 'blocks.{i}.')}`" for name in usual if name not in have]
    return ", ".join([*more, *fewer])


@cache
def _by_family() -> dict[str, Sequence[Point]]:
    found: dict[str, Sequence[Point]] = {}
    for name in TINY:
        hf, _ = tiny(name)
        family = family_of(hf.config)
        if family is not None and family.name not in found:
            found[family.name] = hook_points(family, hf)
    return found


def _images(family: FamilyMap) -> str:
    vision = family.vision
    if vision is None:
        return ""
    said = [(vision.layout.__doc__ or "").partition(".\n")[0].partition(" (")[0].strip().rstrip(".")]
    said += [] if vision.mixed else ["prompts with different numbers of images are run in batches of their own"]
    said += ["without an image its language model is run alone"] if family.alone else []
    return "; ".join(said)
