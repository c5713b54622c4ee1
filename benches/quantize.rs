//! Quantizing a file, here and by llama.cpp, in one run and each in a process of its own.
//!
//! `cargo bench --bench quantize -- MODEL.gguf [TYPE...]`; MODEL holds F16, BF16 or F32 matrices. Writes
//! beside it. Prints seconds (the median of three, taken in turn), what was read a second, and the
//! most memory that each process had. The file should fit into the page cache.
#![allow(clippy::multiple_unsafe_ops_per_block)] // a foreign API, called as its own programs do

use std::ffi::CString;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ggml_sys as sys;
use remask::quantize::{Mix, Policy, QuantizeOptions, quantize};

const THREADS: usize = 2;
const ROUNDS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["child", who, input, output, ty] => child(who, Path::new(input), Path::new(output), ty),
        [input, types @ ..] => compare(Path::new(input), types),
        [] => println!("usage: cargo bench --bench quantize -- MODEL.gguf [TYPE...]"),
    }
}

fn child(who: &str, input: &Path, output: &Path, ty: &str) {
    let mix = Mix::from_name(ty).unwrap_or_else(|| panic!("`{ty}` is no type"));
    let began = Instant::now();
    match who {
        "remask" => {
            let options = QuantizeOptions {
                policy: Policy {
                    mix,
                    ..Policy::default()
                },
                n_threads: THREADS,
                overwrite: true,
                ..QuantizeOptions::default()
            };
            quantize(input, output, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        }
        _ => {
            let path = |p: &Path| CString::new(p.to_str().unwrap()).unwrap();
            let (input, output) = (path(input), path(output));
            // SAFETY: the strings live through the call; the log sink ignores its arguments.
            let code = unsafe {
                sys::llama_log_set(Some(quiet), std::ptr::null_mut());
                let mut params = sys::llama_model_quantize_default_params();
                params.nthread = THREADS as i32;
                params.ftype = mix.file_type();
                sys::llama_model_quantize(input.as_ptr(), output.as_ptr(), &params)
            };
            assert_eq!(code, 0);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{seconds} {}", peak_memory());
}

extern "C" fn quiet(_: sys::ggml_log_level, _: *const std::os::raw::c_char, _: *mut std::os::raw::c_void) {}

/// Most memory that this process had, in MiB; NaN where the system does not tell.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |k| k / 1024.0)
}

fn compare(input: &Path, types: &[&str]) {
    let types = match types {
        [] => &["q8_0", "q4_0", "q5_1", "q4_k_m", "q6_k", "q3_k_m", "iq4_xs"],
        types => types,
    };
    let n_bytes = std::fs::metadata(input).unwrap().len() as f64;
    let output = input.with_extension("bench-output.gguf");
    let run = |who: &str, ty: &str| -> (f64, f64) {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["child", who])
            .args([input, output.as_path()])
            .arg(ty)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let mut numbers = said.split_whitespace().filter_map(|w| w.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(seconds), Some(memory)) => (seconds, memory),
            _ => panic!("{who} {ty}: {said}{}", String::from_utf8_lossy(&done.stderr)),
        }
    };
    println!("{} ({:.2} GB), {THREADS} threads", input.display(), n_bytes / 1e9);
    println!("type      remask                     llama.cpp                  ratio");
    for ty in types {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(run("remask", ty));
            theirs.push(run("llama", ty));
        }
        let median = |runs: &mut Vec<(f64, f64)>| {
            runs.sort_by(|a, b| a.0.total_cmp(&b.0));
            runs[ROUNDS / 2]
        };
        let (a, b) = (median(&mut ours), median(&mut theirs));
        let show = |(seconds, memory): (f64, f64)| {
            format!(
                "{seconds:6.2} s {:5.3} GB/s {memory:6.0} MiB",
                n_bytes / 1e9 / seconds
            )
        };
        println!("{ty:8}  {}  {}  {:.2}x", show(a), show(b), b.0 / a.0);
    }
    let _ = std::fs::remove_file(output);
}
