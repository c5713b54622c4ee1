#!/usr/bin/env bash
# Times a device beside its floors: parity with the CPU first, then steps of models with LLaDA-8B's shape.
#
#     benches/gpu.sh                                  a machine with an H100 and the CUDA toolkit
#     DEVICE=CPU SHAPE=6m TYPES=q8_0 benches/gpu.sh   how far it goes elsewhere
#
# FEATURES   cargo features [cuda; none for DEVICE=CPU, vulkan for Vulkan*]
# PROFILE    cargo profile [release; dev is quicker to build, and its times mean nothing]
# DEVICE     name as `remask devices` shows it [CUDA0]
# SHAPE      a shape of `remask bench --synthetic` [8b]
# TYPES      weights [f16 q8_0 q4_k_m]
# BLOCKS     slots of a block [32,64]     BATCH  canvases together [1,8]     PROMPT  its slots [64]
# STEPS      steps measured of each kind [30]
# BANDWIDTH  GB/s that the device reads [3350: H100 SXM]
# TFLOPS     of dense f16 products with tensor cores [989: H100 SXM]
# OUT        folder for the results [target/gpu]
# WORK       folder for the models, which for 8b take up to 16 GB each [OUT]
set -euo pipefail
cd "$(dirname "$0")/.."

DEVICE=${DEVICE:-CUDA0}
case $DEVICE in
CPU | cpu) default_features= ;;
Vulkan*) default_features=vulkan ;;
Metal* | MTL*) default_features=metal ;;
*) default_features=cuda ;;
esac
FEATURES=${FEATURES-$default_features}
PROFILE=${PROFILE:-release}
SHAPE=${SHAPE:-8b}
TYPES=${TYPES:-f16 q8_0 q4_k_m}
BLOCKS=${BLOCKS:-32,64}
BATCH=${BATCH:-1,8}
PROMPT=${PROMPT:-64}
STEPS=${STEPS:-30}
BANDWIDTH=${BANDWIDTH:-3350}
TFLOPS=${TFLOPS:-989}
OUT=${OUT:-target/gpu}
WORK=${WORK:-$OUT}
mkdir -p "$OUT" "$WORK"
table=$OUT/table.txt
lines=$OUT/steps.jsonl
: >"$table"
: >"$lines"

say() { echo "$@" | tee -a "$table"; }

features=()
[ -z "$FEATURES" ] || features=(--features "$FEATURES")
target=${CARGO_TARGET_DIR:-target}

echo "== building ${FEATURES:-without a backend}"
cargo build --profile "$PROFILE" -p remask-cli "${features[@]}"
remask=$target/${PROFILE/#dev/debug}/remask
"$remask" devices | tee "$OUT/devices.txt"
grep -qiE "^$DEVICE( |$)" "$OUT/devices.txt" || {
    echo "gpu.sh: there is no device $DEVICE" >&2
    exit 1
}

echo "== parity with the CPU"
case $DEVICE in
CPU | cpu) echo "the CPU is the reference; nothing to compare" ;;
*) REMASK_TEST_DEVICE=$DEVICE cargo test --profile "$PROFILE" -p remask "${features[@]}" --test devices -- \
    --nocapture --test-threads 1 ;;
esac

say "$(date -u +%F)  $(git rev-parse --short HEAD 2>/dev/null || echo no commit)  $DEVICE  $SHAPE"
say "floors: $BANDWIDTH GB/s, $TFLOPS TFLOPS"
common=(--device "$DEVICE" --blocks "$BLOCKS" --batch "$BATCH" --prompts "$PROMPT" --steps "$STEPS"
    --bandwidth "$BANDWIDTH" --tflops "$TFLOPS" -q)
for type in $TYPES; do
    model=$WORK/gpu-$SHAPE-$type.gguf
    say ""
    say "== $SHAPE $type"
    # Written once; the second run reads it again.
    "$remask" bench -m - --synthetic "$SHAPE" --type "$type" --keep "$model" "${common[@]}" | tee -a "$table"
    "$remask" bench -m "$model" "${common[@]}" --json | sed "s/^{/{\"shape\":\"$SHAPE\",\"type\":\"$type\",/" >>"$lines"
    "$remask" bench -m "$model" --device "$DEVICE" --answers 128 --prompts "$PROMPT" --rounds 1 -q \
        --policy "--cache dual" --policy "--cache dual --threshold 0.9" | tee -a "$table"
    rm -f "$model"
done

say ""
say "== a network of one small layer: a step of it is little but the work around a step"
"$remask" bench -m - --synthetic layers=1,width=256,ff=704,heads=4,kv=4,vocab=4096,context=512 --type f16 \
    --device "$DEVICE" --blocks 32 --prompts 64 --steps "$STEPS" -q | tee -a "$table"
echo "results: $table, $lines"
