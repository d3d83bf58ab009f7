"""A server with a child that would outlive it. Writes both process ids to the file that `--model` names."""

import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    path = Path(sys.argv[sys.argv.index("--model") + 1])
    path.with_suffix(".tmp").write_text(f"{os.getpid()} {child.pid}")
    path.with_suffix(".tmp").rename(path)
    time.sleep(600)
