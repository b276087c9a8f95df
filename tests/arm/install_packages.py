"""Says which Debian packages the emulated machines need, and installs what is missing where it is root.

Run by `make test-arm`. Exits with 1, and the command to type, where something is missing and it may not install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from libsedge_native.emulate import available
from libsedge_native.targets import BARE, TARGETS


def main() -> int:
    emulated = [target for target in TARGETS.values() if target.emulator]
    packages = sorted({package for target in (*emulated, *BARE.values()) for package in target.packages})
    print("Debian packages for the emulated machines:", " ".join(packages))
    missing = [target.name for target in emulated if available(target)]
    missing += [t.name for t in BARE.values() if not (shutil.which(t.compiler) and shutil.which(t.emulator))]
    if not missing:
        print("all of them are there")
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"{', '.join(missing)} cannot be tested; as root: {' '.join(command)}", file=sys.stderr)
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run([*command, "-qq"], check=True, env=environment, stdout=subprocess.DEVNULL)
    for target in emulated:
        if why := available(target):
            print(f"{target.name}: {why}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
