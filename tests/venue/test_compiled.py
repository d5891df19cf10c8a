"""What kernels are compiled from."""

import re
from pathlib import Path

from lockstep.venue import compiled


def test_files_left_out_of_the_digest_have_no_kernels() -> None:
    folder = Path(compiled.__file__).parent
    for stem in compiled.WITHOUT_KERNELS:
        text = (folder / f"{stem}.py").read_text()
        assert not re.search(r"^ *@(entry_)?kernel$|^ *@native$", text, re.M), stem
