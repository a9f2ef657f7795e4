"""Why YARN has ended an application, as sentences for users. Pure.

https://hadoop.apache.org/docs/stable/api/org/apache/hadoop/yarn/api/records/ContainerExitStatus.html
"""

from __future__ import annotations

import re

_EXIT_CODE = re.compile(r"exitCode: (-?\d+)")
_USED = re.compile(r"Current usage: (\S+ \S+) of (\S+ \S+) physical")
#: After this, diagnostics list the command lines of all processes of the container.
_PROCESSES = "Dump of the process-tree"
_ENDS = {
    -100: "its node was lost",
    -101: "the disks of its node failed",
    -102: "YARN needed its place for another application (preemption)",
    -103: "it used more virtual memory than its container has",
    -104: "it used more memory than its container has",
}
_ADVICE = {
    -104: "Restart the kernel for a new container. For more memory, add\n"
    "`--conf spark.driver.memoryOverhead=4g` to SPARK_OPTS.",
}


def why_ended(diagnostics: str) -> str:
    """The reason in YARN's diagnostics."""
    said = diagnostics.partition(_PROCESSES)[0].strip()
    found = _EXIT_CODE.search(said)
    code = int(found[1]) if found else 0
    if code not in _ENDS:
        return said or "YARN gives no reason"
    used = _USED.search(said)
    text = _ENDS[code] + (f" ({used[1]} of {used[2]})" if used and code == -104 else "")
    return "\n".join(filter(None, [text, _ADVICE.get(code, "")]))
