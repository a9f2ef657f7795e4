# Keeper of one rig: removes its directory upon a line of standard input or the end of it, which
# comes in any case if the rig's process is killed.  keeper.sh DIRECTORY [LINK]
# If it runs in a network namespace, that one lives as long as the keeper does.

# A function, as bash would read a script piece by piece: also what an editor makes of it meanwhile.
keep() {
    local dir=$1 link=$2
    echo ready
    read -r _
    if [[ $link ]]; then
        # This deletes both ends at once; with the namespace alone the other would go a while later.
        ip link delete dev "$link"
    fi
    # Hosts that lost the same process may still be on their way out, and write.
    for _ in {1..50}; do
        rm -rf -- "$dir" && break
        sleep 0.1
    done
    exit
}
keep "$@"
