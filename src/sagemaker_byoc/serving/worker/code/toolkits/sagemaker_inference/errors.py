"""Errors that handlers raise; the server answers with their status and message."""

from __future__ import annotations


class UnsupportedFormatError(Exception):
    """A media type that is not for this handler: 415 for a request, 406 for a reply."""

    def __init__(self, content_type: str, **kwargs: object) -> None:
        self._message = (
            f"Content type {content_type} is not supported: write an input_fn that reads it, or an "
            "output_fn that writes it"
        )
        super().__init__(self._message, **kwargs)


class BaseInferenceToolkitError(Exception):
    """An error with the status of the reply; to derive from."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        self.status_code = status_code
        self.message = message
        self.phrase = phrase
        super().__init__(status_code, message, phrase)


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    """An error with the status of the reply; to raise."""

    def __init__(
        self, status_code: int, message: str | None = None, phrase: str | None = None
    ) -> None:
        said = message or "Invalid Request"
        super().__init__(status_code, said, phrase or said)
