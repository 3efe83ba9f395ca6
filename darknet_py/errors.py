"""The errors that a user's input can cause; commands print their sentence without a traceback."""


class DarknetError(ValueError):
    """A mistake in the user's input (a file, an option, a value); the text says what is wrong and what to do."""


class CfgError(DarknetError):
    """An invalid .cfg: ``file:line: [section] option=value: what is wrong; what to write``."""


class WeightsError(DarknetError):
    """A weights file that does not fit its network, is cut off, or cannot be read or written."""


class DifferenceError(DarknetError):
    """A converted model whose numbers are not those of the network; it is not written."""


class ImageError(DarknetError):
    """An image or video that cannot be read, or does not match the network's channels."""


class CfgWarning(UserWarning):
    """Something in a .cfg that Darknet ignores, or reads differently from what its author probably meant."""


def out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, NumPy, PyTorch or OpenCV says that memory has run out."""
    words = ("out of memory", "not enough memory", "allocate memory", "insufficient memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
