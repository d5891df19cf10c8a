"""Reading recorded files, plain or compressed with xz, within a bound."""

import lzma
from pathlib import Path
from typing import Final

from lockstep.base.errors import ConfigurationError

TEXT_BYTES_MAX: Final = 1 << 30


def read_text(path: Path) -> str:
    """The text of `path`; raises `ConfigurationError` when it can't be read, or is larger than a gibibyte."""
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
            data = file.read(TEXT_BYTES_MAX + 1)
        if len(data) > TEXT_BYTES_MAX:
            raise ConfigurationError(f"{path} has more than {TEXT_BYTES_MAX} bytes of text: cut it into parts")
        return data.decode()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a text file: {error}") from error
