//! The engine on PyTorch's library against the golden vectors.

use remask_trainer::config::Config;
use remask_trainer::engine::Engine;
use remask_trainer::shape::Shape;
use remask_trainer_torch::Torch;

#[path = "../../tests/common/golden.rs"]
mod golden;
#[path = "../../../tests/common/vectors.rs"]
mod vectors;

fn open(shape: &Shape) -> Box<dyn Engine> {
    let config = Config {
        model: shape.clone(),
        ..Config::default()
    };
    Box::new(Torch::open(&config).unwrap())
}
