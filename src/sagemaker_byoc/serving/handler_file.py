"""Where the user's handlers are. Looks at the disk, imports nothing of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract import variables
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving.settings import Settings


@dataclass(frozen=True, slots=True)
class HandlerFile:
    """The file that was chosen, its folder, and files of the same name that were passed over."""

    chosen: Path | None
    folder: Path | None
    passed_over: tuple[Path, ...]


def folders(settings: Settings) -> tuple[Path, ...]:
    """In the order of search: what was said, what came with the model, what the image holds."""
    named = settings.submit_directory
    candidates = [
        *([Path(named)] if named and "://" not in named else []),
        settings.model_dir / settings.tree.model_code.name,
        Path(settings.program_dir),
    ]
    return tuple(dict.fromkeys(candidates))


def find(settings: Settings) -> HandlerFile:
    """The first file of the program's name; none is fine unless the name was given."""
    names = [settings.program, *([] if settings.is_program_named else http.APPLICATIONS)]
    places = [(folder, folder / name) for name in names for folder in folders(settings)]
    found = [(folder, path) for folder, path in places if path.is_file()]
    if found:
        folder, chosen = found[0]
        others = tuple(path for _, path in found[1:] if path.name == chosen.name)
        return HandlerFile(chosen, folder, others)
    if settings.is_program_named:
        raise ContractError(
            where=variables.PROGRAM,
            what=f"is {settings.program}, and no such file is in "
            + ", ".join(str(folder) for folder, _ in places),
            hint=f"Put it into one of them, or set {variables.SUBMIT_DIRECTORY}",
        )
    return HandlerFile(None, None, ())
