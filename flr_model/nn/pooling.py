"""From the states of tokens to one state of a text, as sentence-transformers describes it in a folder.

Shapes: n texts, S tokens, w width of the states.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.utils import cached_file

from flr_model.assets.wheels import located
from flr_model.errors import ArtifactError

MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
TYPE = "sentence_transformers.models."
MODES = ("mean", "cls", "lasttoken")

LEFT_OUT = ("Transformer", "Pooling", "Normalize")
"""Modules of an encoder that are known here; lengths do not matter, because the readings are whitened."""


def pool(states: Tensor, mask: Tensor, mode: str) -> Tensor:
    """Return one (n, w) state of texts (n, S, w), from the places where a mask (n, S) is true.

    Args:
        states: of the tokens.
        mask: at least one place of each text; a run of places.
        mode: mean of the places, cls for the first, lasttoken for the last.
    """
    weight = mask.float()  # a mean of bf16 states would lose digits
    if mode != "mean":
        nth = mask.long().cumsum(1)
        chosen = nth == (1 if mode == "cls" else nth[:, -1:])
        weight = (chosen & mask).float()
    return (states * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class Pooling:
    """The pooling of a sentence encoder.

    Args:
        mode: mean, cls or lasttoken.
    """

    mode: str = "mean"

    @classmethod
    def read(cls, place: str) -> Pooling:
        """Read modules.json and the pooling it names; the mean where an encoder has none.

        Args:
            place: name of a fetched asset, folder, or Hugging Face id.

        Raises:
            ArtifactError: if the encoder has a module, or pools in a way, that is not known here, or lacks what says
                how it pools.
        """
        modules = _json_of(place, MODULES, list) or []
        if not all(isinstance(module, dict) and isinstance(module.get("type"), str) for module in modules):
            raise _unusable(place, f"has a {MODULES} of another form")
        kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
        if unknown := [kind for kind in kinds if kind not in LEFT_OUT]:
            raise _unusable(place, f"has modules that are not known: {', '.join(unknown)}")
        folders = [module.get("path") for module, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
        name = f"{folders[0]}/config.json" if folders else POOLING
        settings = _json_of(place, name, dict)
        if settings is None:
            if folders:
                raise _unusable(place, f"lacks {name}, which its {MODULES} names")
            return cls()
        chosen = [mode for mode, value in settings.items() if mode.startswith("pooling_mode_") and value is True]
        modes = [mode.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for mode in chosen]
        if len(modes) != 1 or modes[0] not in MODES:
            raise _unusable(place, f"pools by {' and '.join(modes) or 'nothing'}, not by one of {', '.join(MODES)}")
        return cls(modes[0])

    def write(self, folder: Path) -> None:
        """Write what `read` reads, and sentence-transformers too."""
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": f"{TYPE}Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{TYPE}Pooling"},
        ]
        names = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
        settings = {names.get(mode, f"pooling_mode_{mode}"): mode == self.mode for mode in MODES}
        for path, content in ((folder / MODULES, modules), (folder / POOLING, settings)):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _json_of(place: str, name: str, kind: type) -> Any:
    """Return the list or dictionary that a JSON file of a model holds; None where there is no such file."""
    try:
        path = Path(cached_file(located(place), name, local_files_only=True))
    except OSError:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(place, f"has a {name} that cannot be read: {error}") from None
    if not isinstance(found, kind):
        raise _unusable(place, f"has a {name} of another form")
    return found


def _unusable(place: str, problem: str) -> ArtifactError:
    return ArtifactError(f"the sentence encoder {place!r} {problem}", hint="name another one with --item-readers")
