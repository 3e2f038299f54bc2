#!/usr/bin/env bash
# Holds a running server to the OpenAPI document that it serves, with schemathesis from PyPI.
#
#   tests/schemathesis.sh [PROGRAM]      the program is target/debug/boxoffice unless named
#
# schemathesis makes up requests that the document allows and requests that it does not, walks from
# answer to answer by the links, and compares status, headers and body of each answer with the
# document. SEED makes it other requests; a failure prints how to repeat it. At the end the same
# checks must find a fault that is planted into the document.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

program=${1:-target/debug/boxoffice}
seed=${SEED:-7}
venv=target/schemathesis
home=$(mktemp -d target/schemathesis-run.XXXXXX)
server=""
# shellcheck disable=SC2317,SC2329
finish() {
    if [[ -n "$server" ]] && kill -TERM "$server" 2>/dev/null; then
        wait "$server" || true
    fi
    rm -rf "$home"
}
trap finish EXIT

if ! cmp -s tests/schemathesis/requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        -r tests/schemathesis/requirements.txt
    cp tests/schemathesis/requirements.txt "$venv/requirements.txt"
fi

"$program" key ci --scopes buy,admin --json >"$home/key.json"
part() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }
part "$home/key.json" line >"$home/keys"
part "$home/key.json" key >"$home/key"

"$program" serve --data-dir "$home/data" --shards 1 --keys "$home/keys" --segment-bytes 4194304 \
    --binary 127.0.0.1:0 --http 127.0.0.1:0 >"$home/said" 2>"$home/log" &
server=$!
for _ in $(seq 300); do
    grep -qx ready "$home/said" && break
    kill -0 "$server" || { cat "$home/log" >&2; exit 1; }
    sleep 0.1
done
http=$(sed -n 's/^listening http //p' "$home/said")

# Sale 7 sells for as long as it likes. The others are, in turn: not open yet, paused, closed, and
# nearly sold out with a limit for each account.
sale() { "$program" sale --admin "$home/data/admin.sock" "$@" >/dev/null; }
sale define 7 --hold-ttl 604800
sale define 8 --hold-ttl 604800 --opens-at 4102444800000
sale define 9 --hold-ttl 604800
sale define 10 --hold-ttl 604800
sale define 11 --hold-ttl 604800 --account-limit 2
for number in 7 8 9 10 11; do
    for item in $(seq 16); do
        sale item "$number" "$item" --capacity $((number == 7 ? 1000000 : 5)) --price 4500
    done
done
for number in 7 9 10 11; do
    sale open "$number"
done
sale pause 9
sale close 10

# judge DOCUMENT ARGUMENTS...: runs schemathesis, with every check that it has.
judge() {
    local document=$1
    shift
    SEEN=$home/seen.json "$venv/bin/schemathesis" \
        --config-file tests/schemathesis/schemathesis.toml run "$document" \
        --url "http://$http" --header "Authorization: Bearer $(cat "$home/key")" \
        --checks all --seed "$seed" --workers 1 "$@"
}

judge src/protocol/http/openapi.json --max-examples "${EXAMPLES:-40}" --continue-on-failure

# What it saw: every operation succeeded, and some answers were repeated.
python3 - "$home/seen.json" src/protocol/http/openapi.json <<'PYTHON'
import json, sys

seen = json.load(open(sys.argv[1]))
paths = json.load(open(sys.argv[2]))["paths"].values()
names = [part["operationId"] for path in paths for key, part in path.items() if key != "parameters"]
missing = [name for name in names if not any(key.startswith(f"{name} 2") for key in seen)]
if not any(key.endswith(" replayed") for key in seen):
    missing.append("a repeated answer")
if missing:
    sys.exit(f"no success was seen of: {', '.join(missing)}; seen: {json.dumps(seen, indent=1)}")
print(f"{sum(seen.values())} answers, successes of all {len(names)} operations")
PYTHON

# The canary: where the document promises what the server does not do, the same checks must fail.
sed 's/"const": "held"/"const": "kept"/' src/protocol/http/openapi.json >"$home/wrong.json"
if judge "$home/wrong.json" --max-examples 5 --phases examples >"$home/canary" 2>&1; then
    cat "$home/canary"
    echo "the checks did not find the fault that was planted" >&2
    exit 1
fi
grep -q "Response violates schema" "$home/canary"
echo "the planted fault was found"
