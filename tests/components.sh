# What `tests/run` and `tests/bench` begin with: the packages, programs and real
# components that are needed. Sourced from the tree's root, under `set -euo pipefail`.
#
# Components are built once and kept in ${XDG_CACHE_HOME:-~/.cache}/airlift-tests;
# programs found in KUBEBUILDER_ASSETS are taken from there instead, and the
# variable then names where all of them are.

# Nothing here is edited and built again, so incremental files would only cost disk.
export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
components=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl kine)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/assets"

step() { # TITLE COMMAND…: runs it, and says how long it took
    local title=$1 start=$SECONDS
    shift
    echo "== $title"
    "$@"
    echo "== $title: $((SECONDS - start)) s"
}

install_packages() { # [PROGRAM PACKAGE…]: these too
    local program package missing=()
    while read -r program package; do
        [ -e "$program" ] || command -v "$program" >/dev/null || missing+=("$package")
    done < <(
        cat <<-END
			containerd containerd
			runc runc
			/usr/lib/cni/bridge containernetworking-plugins
			ip iproute2
			nsenter util-linux
			strace strace
			gcc gcc
			/usr/include/stdlib.h libc6-dev
			skopeo skopeo
			openssl openssl
			/usr/lib/python3/dist-packages/securesystemslib python3-securesystemslib
			/etc/ssl/certs/ca-certificates.crt ca-certificates
			/usr/sbin/mosquitto mosquitto
			mosquitto_sub mosquitto-clients
		END
        [ $# = 0 ] || printf '%s %s\n' "$@"
    )
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Not installed: ${missing[*]}. Nothing was changed; install them, or start this as root." >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

kept_in() { # GO_SUM…: where that is kept which is built from these modules
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/airlift-tests/$(cat "$@" | sha256sum | cut -d' ' -f1)"
}

build_components() {
    local program kept new ldflags version=k8s.io/component-base/version
    kept=$(kept_in tests/kubernetes/{go.sum,kine/go.sum})
    if [ ! -d "$kept" ]; then
        # Complete or not there at all: a killed build leaves only a directory with another name.
        new=$kept.$$
        mkdir -p "$new"
        ldflags="-s -w -X $version.gitVersion=v1.34.4 -X $version.gitMajor=1 -X $version.gitMinor=34"
        (cd tests/kubernetes && go build -buildvcs=false -trimpath -ldflags "$ldflags" -o "$new/kube" .)
        (cd tests/kubernetes/kine && CGO_ENABLED=1 go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$new/kine" github.com/k3s-io/kine)
        for program in "${components[@]}"; do
            [ -e "$new/$program" ] || ln -s kube "$new/$program"
        done
        mv -T "$new" "$kept"
    fi
    for program in "${components[@]}"; do
        if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$program" ]; then
            ln -s "$(realpath "$KUBEBUILDER_ASSETS/$program")" "$scratch/assets/$program"
        else
            ln -s "$kept/$program" "$scratch/assets/$program"
        fi
    done
    export KUBEBUILDER_ASSETS=$scratch/assets
}

# The distribution's containerd is 1.6 and K3s comes with 2.x: the agent has to get on with both.
build_containerd() {
    local kept new module=github.com/containerd/containerd/v2
    kept=$(kept_in tests/containerd/go.sum)
    if [ ! -d "$kept" ]; then
        new=$kept.$$
        mkdir -p "$new"
        (
            cd tests/containerd
            version=$(go list -m -f '{{.Version}}' $module)
            CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X $module/version.Version=$version" \
                -o "$new/" $module/cmd/{containerd,ctr,containerd-shim-runc-v2}
        )
        mv -T "$new" "$kept"
    fi
    export AIRLIFT_TESTS_CONTAINERD=$kept
}
