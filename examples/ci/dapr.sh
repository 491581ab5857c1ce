# Helpers for scripts and pipelines: source this file. POSIX sh.
#
#   . examples/ci/dapr.sh
#   run_dapr_app orders 3000 node app.js || exit
#   list_grpc_services 127.0.0.1:3000
#   curl "http://127.0.0.1:$(dapr_http_port orders)/v1.0/invoke/orders/method/list"
#   outrigger stop --app-id orders
#
# OUTRIGGER names the program where it is not in PATH; RUN_DAPR_FLAGS are further flags of `outrigger run`;
# RUN_DAPR_TIMEOUT is how many seconds health may take.

# run_dapr_app APP_ID PORT COMMAND…: starts the sidecar, launches the app, and comes back when both are healthy. Fails,
# with the last lines of their logs and nothing left behind, when one of them ends before or is not healthy in time.
run_dapr_app() {
    if [ $# -lt 3 ]; then
        echo "usage: run_dapr_app APP_ID PORT COMMAND..." >&2
        return 2
    fi
    _app_id=$1 _port=$2
    shift 2
    # shellcheck disable=SC2086 # several flags in one variable
    "${OUTRIGGER:-outrigger}" run --detach --wait-timeout "${RUN_DAPR_TIMEOUT:-60}" \
        --app-id "$_app_id" --app-port "$_port" ${RUN_DAPR_FLAGS:-} -- "$@"
}

# dapr_http_port APP_ID: the port of the app's sidecar.
dapr_http_port() {
    "${OUTRIGGER:-outrigger}" list | awk -v id="$1" '$1 == id { print $2; found = 1; exit } END { exit !found }'
}

# list_grpc_services HOST:PORT: what a gRPC app offers, by its reflection service.
list_grpc_services() {
    _need grpcurl || return
    grpcurl -plaintext "$1" list
}

# open_grpc_ui HOST:PORT: a page in the browser to call a gRPC app by hand, by its reflection service. Runs until it is
# interrupted.
open_grpc_ui() {
    _need grpcui || return
    grpcui -plaintext -open-browser "$1"
}

_need() {
    command -v "$1" >/dev/null && return
    echo "$1 is not here: go install github.com/fullstorydev/$1/cmd/$1@latest" >&2
    return 127
}
