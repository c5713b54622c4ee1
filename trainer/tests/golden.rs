//! The default engine against the golden vectors.

use remask_trainer::engine::{Device, Engine, Flex};
use remask_trainer::shape::Shape;

#[path = "common/golden.rs"]
mod golden;
#[path = "../../tests/common/vectors.rs"]
mod vectors;

fn open(shape: &Shape) -> Box<dyn Engine> {
    Box::new(Flex::new(shape, Device::Cpu, 0).unwrap())
}
