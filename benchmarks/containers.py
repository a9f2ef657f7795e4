"""How soon a kernel in a container or in a pod answers, on a real engine on this machine.

    python -m benchmarks.containers docker|kubernetes [ROUNDS]

Times of a first start begin when the container's main process is created, by its own start time
(the nodes are this machine), and also, a little later, when Docker says that it has started the
container. A restart follows at once, and another one after three seconds. Each round also starts a
local kernel; the ratios are those of the medians and, for a busy machine, of the fastest.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from tests.engines.rig import EngineRig, rig_class

from .engine_kernels import answered, write_kernelspecs

_LATER_SECONDS = 3.0


def write_specs(data: Path, rig: EngineRig) -> None:
    options = rig.options()
    if "pod_template" in options:
        # A pod that requests nothing gets only what no other process of the node wants.
        pod = json.loads(Path(options["pod_template"]).read_text())
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}
        options["pod_template"] = str(data / "pod.yaml")
        (data / "pod.yaml").write_text(json.dumps(pod))
    stanza = {"provisioner_name": rig.provisioner, "config": options}
    write_kernelspecs(data, "engine", stanza)


def main_process() -> int:
    """The pid of the main process of the newest container: its command is ours."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and b"The main process of a kernel's container" in words:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"The main process" not in Path(f"/proc/{parent}/cmdline").read_bytes():
                found.append(int(entry.name))
    return max(found)


def said_started(rig: EngineRig) -> float:
    """When Docker says that it has started the container, in seconds since the epoch."""
    words = ["docker", "inspect", "--format={{.State.StartedAt}}", *rig.jobs()]
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return datetime.datetime.fromisoformat(said[:26] + "+00:00").timestamp()


def created_at(pid: int) -> float:
    """When a process was created, in seconds since the epoch."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")


def one_round(rig: EngineRig) -> dict[str, float]:
    specs, times = KernelSpecManager(), {}
    manager = KernelManager(kernel_name="local", kernel_spec_manager=specs)
    began = time.time()
    manager.start_kernel()
    times["local kernel"] = answered(manager) - began
    manager.shutdown_kernel(now=True)
    manager = KernelManager(kernel_name="engine", kernel_spec_manager=specs)
    began = time.time()
    manager.start_kernel()
    replied = answered(manager)
    times["request to reply"] = replied - began
    times["main process created to reply"] = replied - created_at(main_process())
    if rig.provisioner == "docker-provisioner":
        times["Docker: started to reply"] = replied - said_started(rig)
    for name, pause in (("restart at once", 0.0), ("restart later", _LATER_SECONDS)):
        time.sleep(pause)
        began = time.time()
        manager.restart_kernel(now=True)
        times[name] = answered(manager) - began
    manager.shutdown_kernel(now=True)
    return times


def main() -> None:
    rig = rig_class(sys.argv[1])()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        rig.open()
        try:
            import pytest  # noqa: PLC0415

            with pytest.MonkeyPatch.context() as patch:
                rig.be_client(patch)
                patch.setenv("JUPYTER_PATH", directory)
                write_specs(Path(directory), rig)
                one_round(rig)
                found = [one_round(rig) for _ in range(rounds)]
        finally:
            rig.close()
    local = statistics.median(times["local kernel"] for times in found)
    fastest = min(times["local kernel"] for times in found)
    for name in found[0]:
        seconds = [times[name] for times in found]
        median = statistics.median(seconds)
        spread = f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f}"
        ratios = f"{median / local:.2f} x local, the fastest {min(seconds) / fastest:.2f} x"
        print(f"{name:<32}{median * 1000:6.0f} ms  ({spread})  {ratios}")


if __name__ == "__main__":
    main()
