# Init of one host: adopts and reaps orphans, as PID 1 or as a "child subreaper".
# Standard input is the rig: each line is a command, `break` the last; the end of it is the end
# of this host.

# A function, as bash would read a script piece by piece: also what an editor makes of it meanwhile.
init() {
    local line children
    echo ready
    while read -r line; do
        eval "$line"
    done
    # As PID 1 the kernel would do this for us; as a subreaper we inherit grandchildren until none
    # is left.  The file has no newline, so the status of `read` says nothing.
    while read -r children <"/proc/$$/task/$$/children"; [[ $children ]]; do
        kill -KILL $children 2>/dev/null
    done
    exit
}
init
