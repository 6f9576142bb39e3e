"""Errors of the package: one base class, a few kinds, each message one line that says what to do."""


class CmrmError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(CmrmError, ValueError):
    """An argument cannot mean anything here: an empty list, too many images, a NaN strength."""


class ImageError(InputError):
    """An image is missing, unreadable, truncated, or given where none can be used."""


class HookPointError(CmrmError, KeyError):
    """A hook point, layer or position that the model does not have."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, which would quote and escape the message.
        return str(self.args[0]) if self.args else ""


class ModelError(CmrmError):
    """A model cannot be loaded, is not a vision-language model, or is not the one expected."""


class MismatchError(CmrmError, ValueError):
    """Two values do not belong together: directions of another model, another width, another row count."""


class StoreError(CmrmError):
    """A file on disk is missing, incomplete, corrupt, or of a kind that is never read (pickle)."""
