//! `remask worker`

use remask::device::Worker;

use crate::args::{WorkerArgs, device_choice};
use crate::output::Outcome;

pub fn run(args: &WorkerArgs) -> Outcome {
    let choice = device_choice(&args.device);
    let worker = Worker::bind(args.bind, &choice, args.threads, args.i_trust_this_network)?;
    eprintln!(
        "remask: for trusted networks only: nothing is encrypted, and whoever can reach {} controls this process",
        worker.address()
    );
    eprintln!("remask: listening at {}", worker.address());
    Ok(worker.serve()?)
}
