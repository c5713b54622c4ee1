#!/bin/sh
# Runs targets for long, one after the other in slices, so that all of them get on; can be stopped and started
# again at any time: corpora, findings and counts are kept in a folder outside the repository.
#
#   REMASK_HOSTILE=DIR sh fuzz/campaign.sh TARGETS FOLDER SECONDS [TARGET...]
#
# TARGETS is what `fuzz/build.sh` built into: it holds asan and, where that was built too, fast. SECONDS is the
# slice of each target in a round: a fifth of it with AddressSanitizer, the rest without, until the target has
# ENOUGH executions (10^8 unless said); targets that run ggml have all of it with AddressSanitizer.
# `sh fuzz/campaign.sh report FOLDER` prints executions, coverage and findings per target.
set -eu

findings='( -name crash-* -o -name timeout-* -o -name oom-* -o -name leak-* )'

report() { # folder
    printf '| target | executions | of them with ASan | inputs kept | edges, features with ASan | last new edge, feature after | findings |\n'
    printf '|---|---|---|---|---|---|---|\n'
    for folder in "$1"/*/; do
        [ -f "$folder/counts" ] || continue
        set -f
        # shellcheck disable=SC2086
        found=$(find "$folder" -maxdepth 1 $findings | wc -l)
        set +f
        # A line of counts: executions, edges, features, and asan or fast. Coverage of the two does not compare.
        awk -v name="$(basename "$folder")" -v kept="$(find "$folder/corpus" -type f | wc -l)" -v found="$found" '
            { total += $1 }
            $4 == "asan" {
                asan += $1
                if ($2 > edges) { edges = $2; edge = total }
                if ($3 > features) { features = $3; feature = total }
            }
            END { printf "| `%s` | %d | %d | %d | %d, %d | %d, %d | %d |\n",
                  name, total, asan, kept, edges, features, edge, feature, found }
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
# Small quarantine and short stacks of allocations: half as fast again, and inputs are run again where one fails.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=8:malloc_context_size=2

seed() { # target, corpus: valid and hostile files of its kind to begin with
    case $1 in
    gguf_meta) kind='*.gguf' ;;
    safetensors_header) kind='*.safetensors' ;;
    tokenizer_json) kind=tokenizer.json ;;
    config_json) kind=config.json ;;
    dataset_line) kind='*.jsonl' ;;
    chat_render)
        printf '{%% for m in messages %%}<|{{ m.role }}|>{{ m["content"].strip() | upper }}{%% endfor %%}{{ messages | tojson }}' > "$2/1"
        return
        ;;
    tokenizer_roundtrip)
        printf "Hello, world! <|endoftext|> it's 12345 \344\270\255\n" > "$2/1"
        return
        ;;
    checkpoint_load)
        REMASK_FUZZ_SEEDS="$2" "$binaries/asan/x86_64-unknown-linux-gnu/release/$1" -runs=0 "$2" 2> /dev/null
        return
        ;;
    *) return ;;
    esac
    find "$REMASK_HOSTILE" -name "$kind" -size -65k | nl | while read -r i f; do cp "$f" "$2/$i"; done
}

length() { # target, asan or fast: short inputs are quick ones, so that long ones get a fifth of the time
    case $1.$2 in
    gguf_meta.asan | safetensors_header.asan) echo 16384 ;;
    gguf_meta.fast | safetensors_header.fast) echo 1024 ;;
    gguf_load.*) echo 64 ;;
    capi_sequence.*) echo 1024 ;;
    checkpoint_load.*) echo 16384 ;;
    tokenizer_json.fast | config_json.fast) echo 1024 ;;
    *.asan) echo 4096 ;;
    *.fast) echo 256 ;;
    esac
}

slice() { # target, asan or fast, seconds
    here=$folder/$1 log=$folder/$1/log-$2
    # A finding ends the slice and is kept; the next round goes on.
    "$binaries/$2/x86_64-unknown-linux-gnu/release/$1" -max_total_time="$3" -max_len="$(length "$1" "$2")" \
        -rss_limit_mb=1024 -timeout=60 -entropic=0 -artifact_prefix="$here/" -print_final_stats=1 \
        "$here/corpus" > "$log" 2>&1 || echo "$1: $2 ended early, see $log"
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    features=$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "$log" | tail -1)
    echo "${executions:-0} ${edges:-0} ${features:-0} $2" >> "$here/counts"
}

smaller() { # target: where its corpus has become large, those that reach the same with the fewest bytes
    here=$folder/$1
    [ "$(find "$here/corpus" -type f | wc -l)" -gt 4000 ] || return 0
    rm -rf "$here/merged"
    mkdir "$here/merged"
    if "$binaries/asan/x86_64-unknown-linux-gnu/release/$1" -merge=1 -max_len="$(length "$1" asan)" -timeout=60 \
        -rss_limit_mb=1024 -artifact_prefix="$here/" "$here/merged" "$here/corpus" > "$here/log-merge" 2>&1; then
        rm -rf "$here/corpus"
        mv "$here/merged" "$here/corpus"
    fi
}

for target in "$@"; do
    [ -x "$binaries/asan/x86_64-unknown-linux-gnu/release/$target" ] || { echo "$target was not built"; continue; }
    here=$folder/$target
    if [ ! -d "$here/corpus" ]; then
        mkdir -p "$here/corpus"
        seed "$target" "$here/corpus"
    fi
    case $target in gguf_load | capi_sequence) fast=no ;; *) fast=yes ;; esac
    if [ ! -x "$binaries/fast/x86_64-unknown-linux-gnu/release/$target" ] || [ $fast = no ]; then
        slice "$target" asan "$seconds"
        continue
    fi
    smaller "$target"
    done=$(awk '{ n += $1 } END { printf "%d", n }' "$here/counts" 2> /dev/null || echo 0)
    slice "$target" asan $((seconds / 5))
    [ "${done:-0}" -ge "${ENOUGH:-100000000}" ] || slice "$target" fast $((seconds - seconds / 5))
done
report "$folder"
