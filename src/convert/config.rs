//! `config.json`, of either kind: LLaDA's own names or a plain Llama's.
#![forbid(unsafe_code)]

use serde_json::Value;

use crate::error::Result;

/// Which names a checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `model.transformer.blocks.N.*`: LLaDA-8B, LLaDA-1.5.
    Llada,
    /// `model.layers.N.*`: iLLaDA.
    Llama,
}

/// Rotary scaling.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RopeScaling {
    pub kind: &'static str,
    pub factor: f64,
    pub original_context: Option<u64>,
}

/// Hyper-parameters, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub layout: Layout,
    pub n_embd: u64,
    pub n_layer: u64,
    pub n_head: u64,
    pub n_head_kv: u64,
    pub n_rot: u64,
    pub n_ff: u64,
    pub n_vocab: u64,
    pub n_ctx: u64,
    pub eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: Option<RopeScaling>,
    pub tied: bool,
    /// Whether predictions are read one slot before their own; not a key of the authors'.
    pub shift: bool,
    pub mask: Option<u64>,
    pub eos: Option<u64>,
    pub bos: Option<u64>,
    pub pad: Option<u64>,
}

/// Switches of LLaDA's configuration whose other positions are not served: key and the value it must
/// have where it is there.
const LLADA_SWITCHES: &[(&str, &[&str])] = &[
    ("alibi", &["false"]),
    ("activation_type", &["\"silu\"", "\"swiglu\""]),
    ("attention_layer_norm", &["false"]),
    ("block_type", &["\"llama\""]),
    ("clip_qkv", &["null"]),
    ("input_emb_norm", &["false"]),
    ("layer_norm_type", &["\"rms\""]),
    ("layer_norm_with_affine", &["true"]),
    ("bias_for_layer_norm", &["false", "null"]),
    ("rope", &["true"]),
    ("scale_logits", &["false"]),
    ("block_group_size", &["1"]),
];

/// The same for a plain Llama's.
const LLAMA_SWITCHES: &[(&str, &[&str])] = &[
    ("hidden_act", &["\"silu\""]),
    ("layer_norm_eps", &["null"]),
    ("clip_qkv", &["null"]),
    ("sliding_window", &["null"]),
    ("use_sliding_window", &["false"]),
    ("partial_rotary_factor", &["1.0", "1"]),
    ("logit_scale", &["1.0", "1"]),
    ("logits_scaling", &["1.0", "1"]),
    ("embedding_multiplier", &["1.0", "1"]),
    ("residual_multiplier", &["1.0", "1"]),
    ("final_logit_softcapping", &["null"]),
    ("attn_logit_softcapping", &["null"]),
];

impl Config {
    /// Reads and checks a configuration. `auto_map` (remote code), `init_device` and what concerns
    /// training only are ignored. Token ids that it lacks may stand in `generation` (its neighbour
    /// `generation_config.json`, or null).
    pub fn read(json: &Value, generation: &Value) -> Result<Self> {
        if !json.is_object() {
            crate::bail!(Format, "it must be an object");
        }
        let layout = match (json.get("d_model").is_some(), json.get("hidden_size").is_some()) {
            (true, _) => Layout::Llada,
            (false, true) => Layout::Llama,
            _ => crate::bail!(
                Unsupported,
                "neither d_model (LLaDA) nor hidden_size (iLLaDA) is there"
            ),
        };
        let model_type = json["model_type"].as_str().unwrap_or("llada");
        if !matches!(model_type, "llada" | "illada" | "llama") {
            let name: String = model_type.chars().take(64).collect();
            crate::bail!(Unsupported, "model_type is `{name}`; llada and illada are served");
        }
        let r = Reader { json, generation };
        r.switches(if layout == Layout::Llada {
            LLADA_SWITCHES
        } else {
            LLAMA_SWITCHES
        })?;
        let config = match layout {
            Layout::Llada => r.llada()?,
            Layout::Llama => r.llama()?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !self.n_head.is_multiple_of(self.n_head_kv) {
            crate::bail!(
                Model,
                "{} heads are not a multiple of {} key heads",
                self.n_head,
                self.n_head_kv
            );
        }
        if !self.n_rot.is_multiple_of(2) {
            crate::bail!(
                Model,
                "a head of {} dimensions is odd; rotary embedding needs an even one",
                self.n_rot
            );
        }
        for (name, id) in [
            ("mask", self.mask),
            ("eos", self.eos),
            ("bos", self.bos),
            ("pad", self.pad),
        ] {
            if let Some(id) = id.filter(|&id| id >= self.n_vocab) {
                crate::bail!(
                    Model,
                    "{name}_token_id is {id}; the vocabulary has {} entries",
                    self.n_vocab
                );
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    json: &'a Value,
    generation: &'a Value,
}

impl Reader<'_> {
    fn switches(&self, switches: &[(&str, &[&str])]) -> Result<()> {
        for (key, allowed) in switches {
            if let Some(value) = self.json.get(*key) {
                let text = value.to_string();
                if !allowed.contains(&text.as_str()) && !value.is_null() {
                    crate::bail!(
                        Unsupported,
                        "{key} is {}; only {} is served, and results would differ",
                        text.chars().take(64).collect::<String>(),
                        allowed.join(" or ")
                    );
                }
            }
        }
        Ok(())
    }

    fn count(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        match self.optional(key, range)? {
            Some(n) => Ok(n),
            None => crate::bail!(Model, "{key} is absent"),
        }
    }

    fn optional(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>> {
        number(key, &self.json[key], range)
    }

    fn float(&self, key: &str, default: f64) -> Result<f64> {
        match &self.json[key] {
            Value::Null => Ok(default),
            value => match value.as_f64().filter(|x| x.is_finite() && *x > 0.0) {
                Some(x) => Ok(x),
                None => crate::bail!(Model, "{key} is {value}; it must be a number above 0"),
            },
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.json[key].as_bool().unwrap_or(false)
    }

    fn id(&self, key: &str) -> Result<Option<u64>> {
        // Some configurations list several end tokens; the first is the one that ends a text.
        let here = &self.json[key];
        let value = if here.is_null() {
            &self.generation[key]
        } else {
            here
        };
        match value {
            Value::Array(ids) => Ok(ids.first().and_then(Value::as_u64)),
            value => number(key, value, 0..=1 << 22),
        }
    }

    fn llada(&self) -> Result<Config> {
        let n_embd = self.count("d_model", 1..=1 << 20)?;
        let n_head = self.count("n_heads", 1..=1 << 16)?;
        let n_head_kv = if self.flag("multi_query_attention") {
            1
        } else {
            self.optional("n_kv_heads", 1..=1 << 16)?.unwrap_or(n_head)
        };
        let n_ff = match self.optional("mlp_hidden_size", 1..=1 << 20)? {
            Some(n) => n,
            None => self.count("mlp_ratio", 1..=1 << 10)? * n_embd,
        };
        let vocab_size = self.count("vocab_size", 2..=1 << 22)?;
        let n_vocab = self
            .optional("embedding_size", 2..=1 << 22)?
            .unwrap_or(vocab_size);
        Ok(Config {
            layout: Layout::Llada,
            n_embd,
            n_layer: self.count("n_layers", 1..=1024)?,
            n_head,
            n_head_kv,
            n_rot: head_size(n_embd, n_head)?,
            n_ff,
            n_vocab,
            n_ctx: self.count("max_sequence_length", 1..=1 << 20)?,
            eps: self.float("rms_norm_eps", 1e-5)?,
            rope_theta: self.rope_theta()?,
            rope_scaling: self.rope_scaling()?,
            tied: self.flag("weight_tying"),
            shift: self.flag("shift_logits"),
            mask: self.id("mask_token_id")?,
            eos: self.id("eos_token_id")?,
            bos: self.id("bos_token_id")?,
            pad: self.id("pad_token_id")?,
        })
    }

    fn llama(&self) -> Result<Config> {
        let n_embd = self.count("hidden_size", 1..=1 << 20)?;
        let n_head = self.count("num_attention_heads", 1..=1 << 16)?;
        let n_rot = match self.optional("head_dim", 1..=1 << 16)? {
            Some(n) => n,
            None => head_size(n_embd, n_head)?,
        };
        Ok(Config {
            layout: Layout::Llama,
            n_embd,
            n_layer: self.count("num_hidden_layers", 1..=1024)?,
            n_head,
            n_head_kv: self
                .optional("num_key_value_heads", 1..=1 << 16)?
                .unwrap_or(n_head),
            n_rot,
            n_ff: self.count("intermediate_size", 1..=1 << 20)?,
            n_vocab: self.count("vocab_size", 2..=1 << 22)?,
            n_ctx: self.count("max_position_embeddings", 1..=1 << 20)?,
            eps: self.float("rms_norm_eps", 1e-6)?,
            rope_theta: self.rope_theta()?,
            rope_scaling: self.rope_scaling()?,
            tied: self.flag("tie_word_embeddings"),
            shift: self.flag("shift_logits"),
            mask: self.id("mask_token_id")?,
            eos: self.id("eos_token_id")?,
            bos: self.id("bos_token_id")?,
            pad: self.id("pad_token_id")?,
        })
    }

    /// Newer configurations keep the base and the scaling in `rope_parameters`.
    fn rope_theta(&self) -> Result<f64> {
        let newer = Reader {
            json: &self.json["rope_parameters"],
            generation: self.generation,
        };
        let default = newer.float("rope_theta", 10_000.0)?;
        self.float("rope_theta", default)
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>> {
        let value = match &self.json["rope_scaling"] {
            Value::Null => &self.json["rope_parameters"],
            value => value,
        };
        if value.is_null() {
            return Ok(None);
        }
        let name = value["rope_type"]
            .as_str()
            .or(value["type"].as_str())
            .unwrap_or("?");
        let kind = match name {
            "default" => return Ok(None),
            "linear" => "linear",
            "yarn" => "yarn",
            other => crate::bail!(
                Unsupported,
                "rope_scaling is of type `{}`; linear and yarn are served",
                other.chars().take(64).collect::<String>()
            ),
        };
        let Some(factor) = value["factor"].as_f64().filter(|x| x.is_finite() && *x > 0.0) else {
            crate::bail!(Model, "rope_scaling.factor must be a number above 0");
        };
        let original_context = value["original_max_position_embeddings"].as_u64();
        Ok(Some(RopeScaling {
            kind,
            factor,
            original_context,
        }))
    }
}

fn number(key: &str, value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>> {
    if value.is_null() {
        return Ok(None);
    }
    match value.as_u64() {
        Some(n) if range.contains(&n) => Ok(Some(n)),
        _ => crate::bail!(
            Model,
            "{key} is {}; it must be a number from {} to {}",
            value.to_string().chars().take(64).collect::<String>(),
            range.start(),
            range.end()
        ),
    }
}

fn head_size(n_embd: u64, n_head: u64) -> Result<u64> {
    if !n_embd.is_multiple_of(n_head) {
        crate::bail!(Model, "{n_head} heads do not divide a width of {n_embd}");
    }
    Ok(n_embd / n_head)
}
