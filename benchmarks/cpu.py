"""What the figures of a CPU depend on, for the heads of the tables."""

import platform
import re
from pathlib import Path

from Utils.options import available_cores

# Of /proc/cpuinfo: what convolutions choose between.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def describe_cpu(cpuinfo: str | None = None) -> str:
    """Model, instruction sets and cores: `AMD EPYC (avx2), 2 cores`; cpuinfo: the text of /proc/cpuinfo."""
    if cpuinfo is None:
        file = Path("/proc/cpuinfo")
        cpuinfo = file.read_text() if file.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    sets = [name for name in INSTRUCTION_SETS if flags and name in flags[1].split()]
    name = model[1] if model else platform.machine()
    return f"{name} ({', '.join(sets) or 'no known instruction sets'}), {available_cores()} cores"
