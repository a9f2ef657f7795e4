# IRkernel, with `spark` and `sc` that are made when they are used.
connection_file <- commandArgs(trailingOnly = TRUE)[1]
library_path <- file.path(Sys.getenv("SPARK_HOME"), "R", "lib")
if (requireNamespace("SparkR", lib.loc = library_path, quietly = TRUE)) {
    library(SparkR, lib.loc = library_path)
    delayedAssign("spark", SparkR::sparkR.session(), assign.env = globalenv())
    delayedAssign(
        "sc",
        SparkR:::callJMethod(get("spark", globalenv()), "sparkContext"),
        assign.env = globalenv()
    )
    # When the kernel ends: nothing of it is left in the engine.
    reg.finalizer(globalenv(), function(e) SparkR::sparkR.session.stop(), onexit = TRUE)
} else {
    missing <- paste0(
        "no SparkR in ", library_path, ": Apache Spark's own distribution has it. With the ",
        "package reticulate, reticulate::import(\"pyspark.sql\")$SparkSession$builder$",
        "getOrCreate() leads to Spark's Python API here"
    )
    for (name in c("spark", "sc")) {
        delayedAssign(name, stop(missing, call. = FALSE), assign.env = globalenv())
    }
}
rm(list = intersect(c("library_path", "name"), ls()))
IRkernel::main(connection_file)
