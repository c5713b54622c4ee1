//! `remask devices`

use std::io::Write;

use remask::device;
use serde_json::json;

use crate::args::DevicesArgs;
use crate::output::{Outcome, bytes};

pub fn run(args: &DevicesArgs) -> Outcome {
    let mut out = std::io::stdout().lock();
    for d in device::list()? {
        if args.json {
            let line = json!({"name": d.name, "description": d.description, "kind": format!("{:?}", d.kind),
                "memory_free": d.memory_free, "memory_total": d.memory_total});
            writeln!(out, "{line}")?;
        } else {
            let memory = match d.memory_total {
                0 => String::new(),
                total => format!(", {} of {} free", bytes(d.memory_free), bytes(total)),
            };
            writeln!(out, "{:<10} {}{memory}", d.name, d.description)?;
        }
    }
    Ok(())
}
