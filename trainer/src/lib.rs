//! Pretrains and fine-tunes masked-diffusion language models (LLaDA, arXiv 2502.09992).
//!
//! texts -> shards of tokens -> batches of weighted cross entropies -> engine -> checkpoint -> GGUF.
#![forbid(unsafe_code)]
#![recursion_limit = "256"] // config.json is one long literal

pub mod adapter;
pub mod bench;
pub mod checkpoint;
pub mod command;
pub mod config;
pub mod data;
pub mod engine;
pub mod estimate;
pub mod export;
pub mod files;
pub mod import;
pub mod lora;
pub mod metrics;
pub mod noise;
pub mod objective;
pub mod optim;
pub mod plot;
pub mod policy;
pub mod preference;
pub mod rollout;
pub mod run;
pub mod sample;
pub mod shape;
pub mod show;
