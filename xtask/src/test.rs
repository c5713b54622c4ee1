//! `cargo xtask test`: everything that has to hold.

use crate::Outcome;

pub fn run(quick: bool) -> Outcome {
    let cargo = crate::cargo();
    if !quick {
        crate::run(&cargo, &["fmt", "--all", "--check"])?;
        crate::run(
            &cargo,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        )?;
    }
    // One after the other: libtest's own parallelism is enough for two cores.
    crate::run(&cargo, &["test", "--workspace", "--no-fail-fast"])?;
    crate::wheel::test_if_possible()?;
    // Last: it leaves a library with another backend in the target folder.
    crate::vulkan::test_if_possible()
}
