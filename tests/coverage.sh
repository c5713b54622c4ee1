#!/bin/sh
# Line coverage of src by the tests, and by the inputs that a fuzzing campaign kept, where its folder is given.
# Lines of test modules are left out. Needs `rustup component add llvm-tools`; builds in a folder of its own.
#
#   sh tests/coverage.sh [FOLDER-OF-CAMPAIGN]
#   LINES=src/gguf sh tests/coverage.sh      also lists the lines below src/gguf that were not reached
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/coverage"
out=$CARGO_TARGET_DIR
mkdir -p "$out"
tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
[ -x "$tools/llvm-cov" ] || { echo "there is no llvm-cov: rustup component add llvm-tools" >&2; exit 2; }
rm -rf "$out/raw"
printf '#!/bin/sh\nexec "$@" -Cinstrument-coverage\n' > "$out/rustc"
chmod +x "$out/rustc"
# For the crates of the workspace alone. Processes of one program add up in four files.
export RUSTC_WORKSPACE_WRAPPER="$out/rustc" LLVM_PROFILE_FILE="$out/raw/%4m.profraw"
[ $# -eq 0 ] || REMASK_FUZZ_CORPUS=$(cd "$1" && pwd)
export REMASK_FUZZ_CORPUS
: "${TESTS:=--lib --test gguf --test gguf_refused --test hostile --test fuzz --test capi --test convert --test quantize --test files --test session --test header}"
# shellcheck disable=SC2086
cargo test --workspace $TESTS --no-run --message-format=json > "$out/built"
# shellcheck disable=SC2086
cargo test --workspace $TESTS --no-fail-fast > "$out/tests" || grep -E '^test .*FAILED' "$out/tests" || true
"$tools/llvm-profdata" merge --failure-mode=warn -o "$out/all.profdata" "$out"/raw/*.profraw
objects=$(sed -n 's/.*"executable":"\([^"]*\)".*/-object \1/p' "$out/built")
library=$(find "$out/debug/deps" -maxdepth 1 -name 'libremask.so')
# shellcheck disable=SC2086
"$tools/llvm-cov" export --format=lcov --instr-profile "$out/all.profdata" $objects ${library:+-object $library} \
    --sources src > "$out/lcov"
# A line counts once, however many programs hold it; those of `mod tests` to the end of the file do not.
awk -v root="$PWD/" -v list="${LINES:-}" '
    /^SF:/ {
        file = substr($0, 4); sub("^" root, "", file); last = 1e9; n = 0
        while ((getline line < file) > 0) { n++; if (line ~ /^#\[cfg\(test\)\]/) { last = n; break } }
        close(file)
    }
    /^DA:/ { split(substr($0, 4), at, ","); if (at[1] < last) hits[file ":" at[1]] += at[2] }
    END {
        for (line in hits) {
            split(line, at, ":"); file = at[1]; part = file
            if (split(file, folders, "/") > 2) part = folders[1] "/" folders[2]
            total[file]++; reached[file] += hits[line] > 0; totals[part]++; reaches[part] += hits[line] > 0
            if (hits[line] == 0 && list != "" && index(file, list) == 1) print "not reached: " line | "sort -t: -k2,2 -k3,3n"
        }
        close("sort -t: -k2,2 -k3,3n")
        for (part in totals) printf "%-28s %5d of %5d lines  %.1f %%\n", part, reaches[part], totals[part], 100 * reaches[part] / totals[part] | "sort"
        close("sort")
        if (list != "") for (file in total) if (index(file, list) == 1)
            printf "  %-28s %5d of %5d lines  %.1f %%\n", file, reached[file], total[file], 100 * reached[file] / total[file] | "sort"
    }' "$out/lcov"
