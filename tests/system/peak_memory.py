"""Run the `libsedge` command line in this process and say its peak memory: `python peak_memory.py run model.sedge ...`.

The last line on standard error is "peak N kB", what the kernel calls VmHWM: everything resident, shared libraries
included.
"""

import sys

from libsedge.cli import main

try:
    main()
except SystemExit as ended:
    code = ended.code
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
print(f"peak {peak} kB", file=sys.stderr)
sys.exit(code)
