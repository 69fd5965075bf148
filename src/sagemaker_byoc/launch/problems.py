"""Everything that is wrong with the settings, collected so that one run reports all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sagemaker_byoc.launch.errors import SettingsError


@dataclass(slots=True)
class Problems:
    """Errors by the setting that causes them, of which the first one counts, and warnings."""

    errors: dict[str, SettingsError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, place: str, error: SettingsError) -> None:
        """`place` names the file, the table and the key."""
        self.errors.setdefault(place, error)

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def check(self, where: str) -> None:
        """Raise SettingsError with all errors, if there are any; `where` is the table."""
        found = [*self.errors.values()]
        if len(found) == 1:
            raise found[0]
        if found:
            lines = [
                f"\n  {error.what.removeprefix(f'{where}: ')}\n      {error.hint}"
                for error in found
            ]
            raise SettingsError(
                f"{where}: {len(found)} settings are missing or wrong:{''.join(lines)}",
                hint="Correct all of them in the file, or with --set KEY=VALUE",
            )
