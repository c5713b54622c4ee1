#!/bin/sh
# Runs targets for long, one after the other in slices, so that all of them get on; can be stopped and started
# again at any time: corpora, findings and counts are kept in a folder outside the repository.
#
#   REMASK_HOSTILE=DIR sh fuzz/campaign.sh BINARIES FOLDER SECONDS [TARGET...]
#
# BINARIES is target/x86_64-unknown-linux-gnu/release of the build, SECONDS the slice of each target in a round.
# `sh fuzz/campaign.sh report FOLDER` prints executions, coverage and findings per target.
set -eu

report() { # folder
    printf '| target | executions | inputs kept | coverage: edges, features | last new after | findings |\n|---|---|---|---|---|---|\n'
    for folder in "$1"/*/; do
        name=$(basename "$folder")
        [ -f "$folder/counts" ] || continue
        awk -v name="$name" -v kept="$(find "$folder/corpus" -type f | wc -l)" \
            -v found="$(find "$folder" -maxdepth 1 -name 'crash-*' -o -maxdepth 1 -name 'timeout-*' -o -maxdepth 1 -name 'oom-*' | wc -l)" '
            { total += $1; if ($3 > features) { features = $3; last = total } if ($2 > edges) edges = $2 }
            END { printf "| `%s` | %d | %d | %d, %d | %d | %d |\n", name, total, kept, edges, features, last, found }
        ' "$folder/counts"
    done
}

if [ "${1:-}" = report ]; then
    report "$2"
    exit
fi
binaries=$1 folder=$2 seconds=$3
shift 3
: "${REMASK_HOSTILE:?names the folder of hostile files}"
[ $# -gt 0 ] || set -- gguf_meta safetensors_header dataset_line config_json chat_render tokenizer_json \
    tokenizer_roundtrip gguf_load capi_sequence checkpoint_load
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1

seed() { # target, corpus: valid and hostile files of its kind to begin with
    case $1 in
    gguf_meta) find "$REMASK_HOSTILE" -name '*.gguf' -size -65k -exec cp {} "$2" \; ;;
    safetensors_header) find "$REMASK_HOSTILE" -name '*.safetensors' -size -65k | nl | while read -r i f; do cp "$f" "$2/$i"; done ;;
    tokenizer_json) find "$REMASK_HOSTILE" -name tokenizer.json -size -65k | nl | while read -r i f; do cp "$f" "$2/$i"; done ;;
    config_json) find "$REMASK_HOSTILE" -name config.json -size -65k | nl | while read -r i f; do cp "$f" "$2/$i"; done ;;
    dataset_line) find "$REMASK_HOSTILE" -name '*.jsonl' -size -65k | nl | while read -r i f; do cp "$f" "$2/$i"; done ;;
    chat_render) printf '{%% for m in messages %%}<|{{ m.role }}|>{{ m["content"].strip() | upper }}{%% endfor %%}{{ messages | tojson }}' > "$2/1" ;;
    tokenizer_roundtrip) printf "Hello, world! <|endoftext|> it's 12345 \344\270\255\n" > "$2/1" ;;
    esac
}

length() {
    case $1 in
    gguf_meta | safetensors_header) echo 65536 ;;
    gguf_load) echo 64 ;;
    capi_sequence) echo 1024 ;;
    checkpoint_load) echo 16384 ;;
    *) echo 4096 ;;
    esac
}

for target in "$@"; do
    here=$folder/$target
    if [ ! -d "$here/corpus" ]; then
        mkdir -p "$here/corpus"
        seed "$target" "$here/corpus"
    fi
    log=$here/log
    # A finding ends the slice and is kept; the next round goes on.
    "$binaries/$target" -max_total_time="$seconds" -max_len="$(length "$target")" -rss_limit_mb=1024 -timeout=10 \
        -artifact_prefix="$here/" -print_final_stats=1 "$here/corpus" > "$log" 2>&1 || true
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    features=$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "$log" | tail -1)
    echo "${executions:-0} ${edges:-0} ${features:-0}" >> "$here/counts"
    find "$here" -maxdepth 1 \( -name 'crash-*' -o -name 'timeout-*' -o -name 'oom-*' \) -newer "$here/corpus/.." -exec echo "found: {}" \; || true
done
report "$folder"
