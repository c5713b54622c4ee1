//! Stands in for `rpc` in builds without the feature.

use super::backend::Device;
use crate::error::Result;

pub fn connect(worker: &str) -> Result<Vec<Device>> {
    crate::bail!(
        Unsupported,
        "worker {worker}: this build knows no other machines; the feature `rpc` is off"
    )
}

pub fn name(_device: Device) -> Option<String> {
    None
}

#[derive(Clone, Default)]
pub struct Links {}

impl Links {
    pub fn of(_devices: &[Device]) -> Self {
        Self {}
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    pub fn settle<T>(&self, done: Result<T>) -> Result<T> {
        done
    }
}
