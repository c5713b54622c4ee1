//! The command `remask-train` with PyTorch's library as its engine.
#![forbid(unsafe_code)]

/// The system's allocator gives pages back after each step and faults them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    remask_trainer_torch::register();
    remask_trainer::command::main()
}
