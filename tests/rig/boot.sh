# Boot of one host, in its fresh namespaces: boot.sh DIRECTORY INIT NAME HIDDEN... -- KEPT...
# HIDDEN directories become empty ones of this host; KEPT paths stay visible if below those.
set -eu
dir=$1 init=$2 name=$3
shift 3
hidden=()
while [[ $1 != -- ]]; do
    hidden+=("$1")
    shift
done
shift

# An open descriptor still leads to a path after something was mounted over it.
declare -A fds
for path; do
    exec {fd}<"$path"
    fds[$path]=$fd
done
for path in "${hidden[@]}"; do
    case $path in
        /tmp | /var/tmp | /dev/shm) mode=1777 ;;
        *) mode=755 ;;
    esac
    mount -t tmpfs -o "mode=$mode" tmpfs "$path"
done
for path; do
    fd=${fds[$path]}
    if [[ -d /proc/self/fd/$fd ]]; then
        mkdir -p "$path"
    else
        mkdir -p "${path%/*}"
        : >"$path"
    fi
    mount --no-canonicalize --rbind "/proc/self/fd/$fd" "$path"
    exec {fd}<&-
done

# The /sys of this network namespace, which lists its interfaces, but the same control groups.
exec {fd}</sys/fs/cgroup
mount -t sysfs sysfs /sys
mount --no-canonicalize --rbind "/proc/self/fd/$fd" /sys/fs/cgroup
exec {fd}<&-

echo "$name" >/proc/sys/kernel/hostname
for file in "$dir"/etc/*; do
    if [[ -e /etc/${file##*/} ]]; then
        mount --bind "$file" "/etc/${file##*/}"
    fi
done
# Each boot has its own identity, as after a real reboot.
read -r boot_id </proc/sys/kernel/random/uuid
echo "$boot_id" >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
mkdir /run/sshd
mkdir -m 1777 /run/lock
exec bash "$init"
