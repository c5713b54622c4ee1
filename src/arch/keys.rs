//! Reads a family's hyper-parameters within stated bounds.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Result};
use crate::ggml::Rope;
use crate::gguf::Gguf;

/// The keys below one architecture's name.
pub struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'static str,
}

impl<'a> Keys<'a> {
    pub fn new(gguf: &'a Gguf, arch: &'static str) -> Self {
        Self { gguf, arch }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// A count that must be there and in `range`.
    pub fn count(&self, name: &str, range: RangeInclusive<u64>) -> Result<usize> {
        match self.optional_count(name, range)? {
            Some(n) => Ok(n),
            None => crate::bail!(Model, "key {} is absent", self.key(name)),
        }
    }

    /// A count in `range`, if it is there.
    pub fn optional_count(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<usize>> {
        let key = self.key(name);
        let Some(n) = self.gguf.metadata.u64(&key).map_err(as_model)? else {
            return Ok(None);
        };
        if !range.contains(&n) {
            crate::bail!(
                Model,
                "key {key} is {n}; it must be {} to {}",
                range.start(),
                range.end()
            );
        }
        usize::try_from(n)
            .map(Some)
            .map_err(|_| crate::err!(Limit, "key {key} is {n}, too large"))
    }

    /// A float that passes `good`, or `default` where it is absent (`None`: it must be there).
    pub fn float(&self, name: &str, default: Option<f32>, good: fn(f32) -> bool) -> Result<f32> {
        let key = self.key(name);
        match (self.gguf.metadata.f32(&key).map_err(as_model)?, default) {
            (Some(x), _) if x.is_finite() && good(x) => Ok(x),
            (Some(x), _) => crate::bail!(Model, "key {key} is {x}, out of range"),
            (None, Some(x)) => Ok(x),
            (None, None) => crate::bail!(Model, "key {key} is absent"),
        }
    }

    /// A switch, false where it is absent.
    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self
            .gguf
            .metadata
            .bool(&self.key(name))
            .map_err(as_model)?
            .unwrap_or(false))
    }

    /// The rotary embedding of heads of `n_rot`, with the scaling that the file asks for.
    ///
    /// Linear scaling multiplies positions by 1/factor; YaRN (arXiv 2309.00071) mixes that with the
    /// unscaled frequencies between `beta_fast` and `beta_slow`.
    pub fn rope(&self, n_rot: usize, n_ctx: usize) -> Result<Rope> {
        let positive = |x: f32| x > 0.0;
        let kind_key = self.key("rope.scaling.type");
        let kind = self
            .gguf
            .metadata
            .str(&kind_key)
            .map_err(as_model)?
            .unwrap_or("none");
        let factor = self.float("rope.scaling.factor", Some(1.0), positive)?;
        let mut rope = Rope {
            n_dims: n_rot,
            half_split: false,
            freq_base: self.float("rope.freq_base", Some(10_000.0), positive)?,
            freq_scale: 1.0,
            n_ctx_orig: 0,
            ext_factor: 0.0,
            attn_factor: self.float("rope.scaling.attn_factor", Some(1.0), positive)?,
            beta_fast: self.float("rope.scaling.yarn_beta_fast", Some(32.0), positive)?,
            beta_slow: self.float("rope.scaling.yarn_beta_slow", Some(1.0), positive)?,
        };
        match kind {
            "none" | "" => {}
            "linear" => rope.freq_scale = 1.0 / factor,
            "yarn" => {
                rope.freq_scale = 1.0 / factor;
                rope.ext_factor = self.float("rope.scaling.yarn_ext_factor", Some(1.0), |x| x >= 0.0)?;
                let key = "rope.scaling.original_context_length";
                rope.n_ctx_orig = self.optional_count(key, 1..=1 << 20)?.unwrap_or(n_ctx);
            }
            other => crate::bail!(
                Unsupported,
                "key {kind_key} is `{}`; known are none, linear and yarn",
                other.chars().take(64).collect::<String>()
            ),
        }
        Ok(rope)
    }
}

/// A hyper-parameter of the wrong type is a fault of the model, not of the container.
fn as_model(error: Error) -> Error {
    Error::new(ErrorKind::Model, error.message())
}
