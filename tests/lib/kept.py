# SPDX-License-Identifier: Apache-2.0
"""What takes long to make, and is kept for the next run."""
import pathlib
import shutil
import tempfile


def kept(folder, make):
    """The folder, which `make` fills when it is not there yet; whole or not at all."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            make(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
