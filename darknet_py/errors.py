"""What can be wrong with a user's files: one class each, one sentence each, no traceback at the command line."""


class DarknetError(ValueError):
    """A mistake in something the user gave (a file, an option, a value); its text is one sentence that can be acted on."""


class CfgError(DarknetError):
    """A wrong .cfg: ``file:line: [section] option=value: what is wrong; what to write``."""


class WeightsError(DarknetError):
    """A .weights file that does not fit its network, or is cut off, or cannot be written."""


class ImageError(DarknetError):
    """A picture or video that cannot be read, or does not fit the network's channels."""


class CfgWarning(UserWarning):
    """Something in a .cfg that Darknet reads otherwise than its author may think, or does not read at all."""
