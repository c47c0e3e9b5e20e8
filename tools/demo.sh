#!/bin/sh
# Serve the bundled model, ask it about pictures, stop. `make demo` runs this.
set -eu

port=${PORT:-3000}
url=http://127.0.0.1:$port
here=$(cd "$(dirname "$0")/.." && pwd)
pictures=$here/core/runtime/demo/pictures
work=$(mktemp -d)
log=$work/server.log

stop() {
    kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    rm -rf "$work"
}

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

say runtime serve --model-id demo --hostname 127.0.0.1 --port "$port"
runtime serve --model-id demo --hostname 127.0.0.1 --port "$port" >"$log" 2>&1 &
server=$!
trap stop EXIT INT TERM
until grep -q Connected "$log"; do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$log"
        exit 1
    fi
    sleep 0.2
done
cat "$log"

ask() {
    say runtime ask --url "$url" --image "$1" "\"$2\""
    runtime ask --url "$url" --image "$1" "$2"
}

ask "$pictures/three-shapes.png" "What is this a picture of?"
ask "$pictures/four-shapes.png" "How many shapes are there?"
ask "$pictures/wide.png" "What number do you see?"

say runtime demo picture "$work/fresh.png"
runtime demo picture "$work/fresh.png"
ask "$work/fresh.png" "What is this a picture of?"

printf '\nIt works. Next: `make serve` keeps the server running; README.md shows curl and grpcurl.\n'
