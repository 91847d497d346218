"""Run `flr` commands as a person would and measure each: wall-clock seconds and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from rich.console import Console

console = Console()


@dataclass(frozen=True)
class Stage:
    """One command that ran: its words and output, seconds, seconds of processor time, and peak memory in MiB."""

    words: tuple[str, ...]
    output: str
    seconds: float
    cpu_seconds: float
    peak_mb: float


def flr(*words: str) -> Stage:
    """Run a command, show it, and stop the script with its exit code if it fails."""
    console.print(f"\n$ flr {' '.join(words)}", style="bold", soft_wrap=True, highlight=False)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "flr_cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    cpu_seconds = usage.ru_utime + usage.ru_stime
    stage = Stage(words, output, time.perf_counter() - began, cpu_seconds, usage.ru_maxrss / 2**10)
    if status:
        console.print(output, markup=False)
        sys.exit(os.waitstatus_to_exitcode(status))
    console.print(f"[{stage.seconds:.0f} s, {stage.peak_mb:.0f} MiB]", style="dim", markup=False, highlight=False)
    return stage
