"""The Spark session of an R kernel without SparkR: `reticulate` imports this."""

import threading


def session():
    """The session of the driver that spark-submit has started. Raises what Spark raises.

    Made in a thread of its own: in the main one Spark would take over SIGINT, which is R's, and
    raise KeyboardInterrupt within whatever Python does next.
    """
    made = []

    def make():
        try:
            from pyspark.sql import SparkSession

            made.append(SparkSession.builder.getOrCreate())
        except Exception as error:
            made.append(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join()
    if isinstance(made[0], Exception):
        raise made[0]
    return made[0]
