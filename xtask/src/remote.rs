//! `cargo xtask test-rpc`: the tests of layers on other machines.

use crate::Outcome;

/// The relay's own tests, then whole workers as processes.
pub fn run() -> Outcome {
    let cargo = crate::cargo();
    // All packages, so that what other tests compiled is used.
    let test = ["test", "--workspace", "--features", "remask/rpc,remask-cli/rpc"];
    crate::run(&cargo, &[&test[..], &["--lib", "--", "rpc", "worker"]].concat())?;
    let remote = ["--test", "remote", "--", "--nocapture"];
    crate::run(&cargo, &[&test[..], &remote].concat())
}
