#!/bin/sh
# Build Kubernetes from its own Go modules, once, into a cache: `make test-all` does, before the tests
# (15 minutes on two cores). Prints the directory of the programs.
set -eu
VERSION=1.30.14
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/remote-provisioners-tests/kubernetes-${VERSION%.*}
PROGRAMS="kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl"
# Of any older Go, which can fetch this one as a module.
TOOLCHAIN=golang.org/toolchain@v0.0.1-go1.22.12.linux-amd64
if [ -e "$CACHE/complete" ]; then
    echo "$CACHE/bin"
    exit 0
fi
mkdir -p "$CACHE/bin" "$CACHE/source"
exec 9> "$CACHE/lock"
flock 9
if [ -e "$CACHE/complete" ]; then
    echo "$CACHE/bin"
    exit 0
fi
PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin
command -v go > /dev/null || { echo "no Go to build Kubernetes with (golang-go)" >&2; exit 1; }
export GOFLAGS="${GOFLAGS--p=1}" CGO_ENABLED=0 GOTELEMETRY=off
cd "$CACHE/source"
case $(go env GOVERSION) in
    go1.?|go1.?.*|go1.1?|go1.1?.*|go1.2[01]|go1.2[01].*)
        printf 'module toolchain\n' > go.mod
        root=$(go mod download -json "$TOOLCHAIN" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        chmod -R u+x "$root/bin" "$root/pkg/tool"
        PATH=$root/bin:$PATH
        ;;
esac
printf 'module kubernetes.test\n' > go.mod
modfile=$(go mod download -json "k8s.io/kubernetes@v$VERSION" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
{
    printf 'module kubernetes.test\n\ngo 1.22.0\n\nrequire k8s.io/kubernetes v%s\n\n' "$VERSION"
    sed -n "s|^\t\(k8s.io/[a-z-]*\) => ./staging.*|replace \1 => \1 v0.${VERSION#1.}|p" "$modfile"
} > go.mod
{
    printf '//go:build programs\n\npackage programs\n\nimport (\n'
    for program in $PROGRAMS; do printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "$program"; done
    printf ')\n'
} > programs.go
for program in $PROGRAMS; do
    [ -x "$CACHE/bin/$program" ] && continue
    go build -mod=mod -o "$CACHE/bin/$program.part" \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$VERSION" \
        "k8s.io/kubernetes/cmd/$program" >&2
    mv "$CACHE/bin/$program.part" "$CACHE/bin/$program"
done
touch "$CACHE/complete"
echo "$CACHE/bin"
