#!/bin/sh
# The programs that tests run for real. As root on Debian they are installed; elsewhere what is
# missing is named, and the tests that need it skip with a reason.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
need() { # program package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need sshd openssh-server
need ssh openssh-client
need nc netcat-openbsd
need ip iproute2
need ss iproute2
need nft nftables
need unshare util-linux
need ps procps
need R "r-base-core r-cran-irkernel"
[ -d /usr/lib/R/site-library/reticulate ] || missing="$missing r-cran-reticulate"
need java openjdk-17-jre-headless
need mvn maven
need faketime faketime
need krb5kdc krb5-kdc
need kadmin.local krb5-admin-server
need kinit krb5-user
need krb5-config libkrb5-dev
need cc "gcc libc6-dev"
need sudo sudo
need /usr/bin/python3 python3
[ -r /usr/share/modules/init/bash ] || missing="$missing environment-modules"
need zsh zsh
need tcsh tcsh
need fish fish
need busybox busybox
need softhsm2-util softhsm2
need pkcs11-tool opensc
need dockerd docker.io
need sbatch slurm-wlm
need munged munge
need prometheus prometheus
# With the argument "all": what takes long to install, or to build (tests/kubernetes/build.sh).
if [ "${1-}" = all ]; then
    PATH=$PATH:/usr/local/go/bin
    need go golang-go
    need etcd etcd-server
    need containerd containerd
    need openssl openssl
    need podman podman
    [ -e /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
fi
# Ubuntu's package is a snap, for which a container has no daemon.
grep -qi ubuntu /etc/os-release 2>/dev/null || need chromium chromium
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, some tests will skip:$missing"
    exit 0
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# A service that starts by itself is no business of a test run.
printf '#!/bin/sh\nexit 101\n' > /tmp/policy-rc.d.$$
if [ ! -e /usr/sbin/policy-rc.d ]; then
    install -m 755 /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
rm -f /tmp/policy-rc.d.$$
# shellcheck disable=SC2086 # a list of words
apt-get -qq install --no-install-recommends $missing > /dev/null
# The login shells of this machine stay as they are.
case $missing in
*environment-modules*) rm -f /etc/profile.d/modules.sh /etc/profile.d/modules.csh ;;
esac
