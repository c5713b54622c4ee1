//! `cargo xtask test-rpc`: the tests of layers on other machines.

use crate::Outcome;

/// The relay's own tests, then whole workers as processes.
pub fn run() -> Outcome {
    let cargo = crate::cargo();
    let library = ["test", "--package", "remask", "--features", "rpc", "--lib"];
    crate::run(&cargo, &[&library[..], &["--", "rpc", "worker"]].concat())?;
    let command = ["test", "--package", "remask-cli", "--features", "rpc"];
    crate::run(
        &cargo,
        &[&command[..], &["--test", "remote", "--", "--nocapture"]].concat(),
    )
}
