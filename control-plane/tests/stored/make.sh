#!/bin/bash
# Makes the data directory of a mesh that was in use, as the binaries of one commit leave it.
#
#   control-plane/tests/stored/make.sh BIN NAME
#
# BIN holds weft, weft-control-plane and weft-proxy of that commit; the result is NAME.tar.gz beside this script. ENVOY
# names a stock Envoy. Everything runs on loopback, for about ten seconds, and is ended here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$1" && pwd)
name=$2
envoy=${ENVOY:-$(ls "$here"/../../../.venv/lib/*/site-packages/envoy/_bin/envoy)}
umask 077
work=$(mktemp -d)
running=()
end() {
    for pid in "${running[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT

port=$((20000 + RANDOM % 10000))
net=127.$((64 + RANDOM % 190)).$((RANDOM % 256))
log=$work/log
mkdir -p "$work/mesh/tokens" "$work/mesh/identity" "$work/mesh/expected"
cd "$work/mesh"

weft() { "$bin/weft" --api "http://127.0.0.1:$port" --token-file data/operator.token "$@"; }
wait_for() { # wait_for WHAT COMMAND…: at most 30 s
    local what=$1
    shift
    for _ in $(seq 300); do
        if "$@" >>"$log" 2>&1; then return; fi
        sleep 0.1
    done
    echo "not within 30 s: $what" >&2
    tail -n 20 "$log" >&2
    exit 1
}
token() { # token NAME FLAGS…: makes a token and keeps it in tokens/NAME, its id in tokens/NAME.id
    local kept=tokens/$1
    shift
    weft token create --ttl 30d "$@" >"$kept" 2>"$kept.id"
    sed -i 's/^token \([^ ]*\) .*/\1/' "$kept.id"
}
join() { # join TOKEN NAME ADDRESS FLAGS…: for a stock Envoy; the identity stays in identity/NAME
    local with=tokens/$1 workload=$2 address=$3
    shift 3
    WEFT_JOIN=$(cat "$with") "$bin/weft-proxy" join --identity-dir "identity/$workload" --name "$workload" \
        --address "$address" --inbound "$address:15006" --outbound "$address:15001" "$@" >>"$log" 2>&1
}
proxy() { # proxy TOKEN NAME ADDRESS FLAGS…: weft-proxy, which runs on; its id is in $!
    local with=tokens/$1 workload=$2 address=$3
    shift 3
    WEFT_JOIN=$(cat "$with") "$bin/weft-proxy" run --identity-dir "identity/$workload" --name "$workload" \
        --address "$address" --inbound "$address:15006" --outbound "$address:15001" \
        --admin-listen "$address:15000" --workers 1 "$@" >>"$log" 2>&1 &
    running+=($!)
}
synced() { # synced NAME…: these have taken everything
    local listed workload
    listed=$(weft proxy list)
    for workload in "$@"; do grep -q "^shop/$workload .*synced" <<<"$listed" || return 1; done
}

"$bin/weft-control-plane" --data-dir data --api-listen 127.0.0.1:$port --xds-listen 127.0.0.1:$((port + 1)) \
    --admin-listen 127.0.0.1:$((port + 2)) >>"$log" 2>&1 &
control_plane=$!
running+=($control_plane)
wait_for "the control plane answers" weft get services

# Five changesets: all, one more, a changed one, a deletion, and the file's Workload below.
weft apply -f "$here/mesh.yaml"
weft apply -f "$here/passing.yaml"
sed 's/request: 3s/request: 4s/' "$here/mesh.yaml" >"$work/changed.yaml"
weft apply -f "$work/changed.yaml"
weft delete service passing -n shop

token web --service shop/web --uses 4
token catalog --service shop/catalog --uses 3 --allow-label 'version=*'
token spent --service shop/payments
token unused --service shop/payments --uses 5
token revoked --service shop/web
weft token revoke "$(cat tokens/revoked.id)"

proxy web web-1 $net.2 --app-port http=8080 --upstream "shop/payments:ledger=$net.2:5432" --locality eu/eu-1
proxy web web-left $net.3 --app-port http=8080
left=$!
join catalog catalog-1 $net.4 --app-port http=8080 --app-port grpc=9000 --label version=v1
# Where joiners choose their memberships by labels, this one is a member of `canary` too.
join catalog catalog-2 $net.5 --app-port http=8080 --label version=v2
WEFT_JOIN="" weft proxy bootstrap --envoy --service shop/payments --name payments-1 --out identity/payments-1 \
    --address $net.6 --inbound $net.6:15006 --outbound $net.6:15001 --admin-listen $net.6:15000 \
    --app-port http=8080 --app-port ledger=5432 >>"$log" 2>&1
join spent payments-2 $net.7 --app-port http=8080
join web web-gone $net.8
weft delete workload web-gone -n shop
# A joiner takes the name of a machine that has no sidecar, and then the file comes that says what that machine is.
join web legacy-1 $net.9 --app-port http=8080
weft apply -f "$here/legacy.yaml" || echo "the name is taken, which is as it should be"

# This Envoy is given its key by the control plane.
"$envoy" -c identity/payments-1/envoy.yaml --concurrency 1 --disable-hot-restart --log-level error >>"$log" 2>&1 &
running+=($!)
wait_for "the proxies have taken everything" synced web-1 web-left payments-1
kill -TERM $left
wait $left || true

for kind in mesh services workloads httproutes tcproutes trafficpolicies authorizationpolicies; do
    weft get $kind -o json >expected/$kind.json
done
weft token list -o json >expected/tokens.json
date +%s >taken
# As a machine that loses power leaves it: nothing is tidied up first.
kill -KILL $control_plane
wait $control_plane 2>/dev/null || true
# What a member keeps is its identity; the rest names places of this machine.
find identity -type f ! -name identity.pem ! -name bundle.pem ! -name workload.json -delete
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" -cf - mesh | gzip -9n >"$here/$name.tar.gz"
ls -l "$here/$name.tar.gz"
