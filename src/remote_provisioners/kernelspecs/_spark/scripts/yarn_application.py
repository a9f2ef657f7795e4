"""The state and the end of this kernel's YARN application, through the driver's JVM.

So whatever lets the driver speak to YARN (Kerberos, high availability) is used here too. Every
call may last: Hadoop tries again for a long time when no ResourceManager answers.
"""

import sys
import threading

_WORDS = {
    "ACCEPTED": "accepted by YARN, waiting for resources in queue {queue}",
    "RUNNING": "running on YARN, waiting for its executors",
}


def tag(kernel_id):
    """The application's tag, which submit.py sets."""
    return "kernel-" + kernel_id.lower()


def state(jvm, kernel_id):
    """The application's progress in words; "" without an application."""
    client = _client(jvm)
    try:
        for report in _reports(jvm, client, kernel_id):
            name = report.getYarnApplicationState().toString()
            text = _WORDS.get(name, "{name} by YARN in queue {queue}: {said}")
            queue, said = report.getQueue(), report.getDiagnostics()
            application = report.getApplicationId().toString()
            words = text.format(name=name.lower(), queue=queue, said=said or "YARN gives no reason")
            return "{} is {}".format(application, words)
    finally:
        client.stop()
    return ""


def kill(jvm, kernel_id):
    """End the application in any state."""
    client = _client(jvm)
    try:
        for report in _reports(jvm, client, kernel_id):
            client.killApplication(report.getApplicationId())
    finally:
        client.stop()


def within(seconds, function, *arguments):
    """The value of `function`; None if it fails or takes longer."""
    values = []

    def call():
        try:
            values.append(function(*arguments))
        except Exception as error:
            said = "cannot ask YARN: {}".format(error)
            print(said, file=sys.__stderr__, flush=True)  # the kernel's log, not the cell

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return values[0] if values else None


def _client(jvm):
    client = jvm.org.apache.hadoop.yarn.client.api.YarnClient.createYarnClient()
    client.init(jvm.org.apache.hadoop.yarn.conf.YarnConfiguration())
    client.start()
    return client


def _reports(jvm, client, kernel_id):
    request = jvm.org.apache.hadoop.yarn.api.protocolrecords.GetApplicationsRequest.newInstance()
    tags = jvm.java.util.HashSet()
    tags.add(tag(kernel_id))
    request.setApplicationTags(tags)
    over = ("FINISHED", "FAILED", "KILLED")
    reports = client.getApplications(request)
    return [r for r in reports if r.getYarnApplicationState().toString() not in over]
