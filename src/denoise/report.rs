//! What a step reports.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::canvas::Token;

/// One slot that a step filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Position in the canvas.
    pub slot: usize,
    /// The token it holds now.
    pub token: Token,
    /// What it was ranked by: a probability for order `LowConfidence`, see
    /// [`Order`](super::Order) for the others.
    pub confidence: f32,
}

/// What a step did to one canvas.
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceStep {
    /// Steps of the plan that are behind it, this one counted.
    pub step: usize,
    /// Steps of the plan.
    pub n_steps: usize,
    /// The block at work.
    pub block: Range<usize>,
    /// Slots that this step computed; empty where it computed none. Of a feature cache's partial steps,
    /// those that it chose from.
    pub window: Range<usize>,
    /// Whether keys and values of the other slots came from earlier steps.
    pub cached: bool,
    /// Slots filled, best first.
    pub changed: Vec<Change>,
    /// Slots still masked.
    pub n_masked: usize,
    /// Where the response ends, once an end-of-sequence token or stop text settled it.
    pub end: Option<usize>,
    /// Whether the canvas is finished.
    pub done: bool,
}

/// What a step did. Borrowed from the run and overwritten by the next step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepReport {
    /// One entry per canvas of the run.
    pub sequences: Vec<SequenceStep>,
    /// Function evaluations so far: forward passes of one canvas. Guidance counts two a step.
    pub nfe: u64,
    /// Rows whose logits were computed in this step, over all canvases.
    pub n_rows: usize,
    /// Slots that went through the network so far, over all canvases and both branches of guidance.
    pub n_computed: u64,
    /// Whether all canvases are finished.
    pub done: bool,
}
