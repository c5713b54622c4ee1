//! File types: which type each kind of tensor gets, as data.
#![forbid(unsafe_code)]

use crate::gguf::TensorType;
use TensorType as T;

/// What a file's matrices are stored as: one type, or a mix that gives more bits to tensors that need
/// them. Names, numbers and rules are llama.cpp's (src/llama-quant.cpp), so that either program makes
/// the same file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it; the table below has the details
pub enum Mix {
    F32,
    #[default]
    F16,
    Bf16,
    Q8_0,
    Q6K,
    Q5KM,
    Q5KS,
    Q5_1,
    Q5_0,
    Q4KM,
    Q4KS,
    Q4_1,
    Q4_0,
    Iq4Nl,
    Iq4Xs,
    Q3KL,
    Q3KM,
    Q3KS,
    Q2K,
}

/// Mix, name, llama.cpp's number of the file type (llama.h), base type.
const MIXES: &[(Mix, &str, u32, TensorType)] = &[
    (Mix::F32, "f32", 0, T::F32),
    (Mix::F16, "f16", 1, T::F16),
    (Mix::Bf16, "bf16", 32, T::Bf16),
    (Mix::Q8_0, "q8_0", 7, T::Q8_0),
    (Mix::Q6K, "q6_k", 18, T::Q6K),
    (Mix::Q5KM, "q5_k_m", 17, T::Q5K),
    (Mix::Q5KS, "q5_k_s", 16, T::Q5K),
    (Mix::Q5_1, "q5_1", 9, T::Q5_1),
    (Mix::Q5_0, "q5_0", 8, T::Q5_0),
    (Mix::Q4KM, "q4_k_m", 15, T::Q4K),
    (Mix::Q4KS, "q4_k_s", 14, T::Q4K),
    (Mix::Q4_1, "q4_1", 3, T::Q4_1),
    (Mix::Q4_0, "q4_0", 2, T::Q4_0),
    (Mix::Iq4Nl, "iq4_nl", 25, T::Iq4Nl),
    (Mix::Iq4Xs, "iq4_xs", 30, T::Iq4Xs),
    (Mix::Q3KL, "q3_k_l", 13, T::Q3K),
    (Mix::Q3KM, "q3_k_m", 12, T::Q3K),
    (Mix::Q3KS, "q3_k_s", 11, T::Q3K),
    (Mix::Q2K, "q2_k", 10, T::Q2K),
];

/// Short names for the mix that most people mean.
const ALIASES: &[(&str, Mix)] = &[("q3_k", Mix::Q3KM), ("q4_k", Mix::Q4KM), ("q5_k", Mix::Q5KM)];

impl Mix {
    /// All mixes, from the largest file to the smallest.
    pub fn all() -> impl Iterator<Item = Self> {
        MIXES.iter().map(|row| row.0)
    }

    /// The mix of this name, in any case. `q4_k` is `q4_k_m`, and so for 3 and 5 bits.
    pub fn from_name(name: &str) -> Option<Self> {
        let table = MIXES.iter().map(|row| (row.1, row.0));
        let mut names = table.chain(ALIASES.iter().copied());
        names
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, mix)| mix)
    }

    fn row(self) -> &'static (Self, &'static str, u32, TensorType) {
        // The table lists every variant (tested); the first row stands in for the impossible.
        MIXES.iter().find(|row| row.0 == self).unwrap_or(&MIXES[0])
    }

    /// Its name, such as `q4_k_m`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// llama.cpp's number, the value of `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.row().2
    }

    /// The type that tensors get where no rule says otherwise.
    pub fn base(self) -> TensorType {
        self.row().3
    }
}

/// What a tensor does in the network, as far as mixes tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The embedding table.
    Embedding,
    /// The head.
    Head,
    /// Values, or queries, keys and values fused.
    Value,
    /// What attention's result goes through.
    AttentionOutput,
    /// The second layer of a feed-forward network.
    Down,
    /// All others.
    Other,
}

impl Kind {
    pub fn of(name: &str) -> Self {
        match name {
            "token_embd.weight" => Self::Embedding,
            "output.weight" => Self::Head,
            _ if name.contains("attn_qkv.weight") || name.contains("attn_v.weight") => Self::Value,
            _ if name.contains("attn_output.weight") => Self::AttentionOutput,
            _ if name.contains("ffn_down") => Self::Down,
            _ => Self::Other,
        }
    }
}

/// Which tensors of a kind a rule is for. `i` counts them from 0 through the layers, `n` is how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// The first and the last eighth, and every third in between.
    MoreBits,
    /// i < n / k.
    First(usize),
    /// i < k.
    Below(usize),
    /// At least four queries share a key.
    Gqa4,
    /// As `First(8)`, with or without an importance matrix.
    FirstEighth {
        importance: bool,
    },
}

/// Mix, kind, condition, type. The first line that fits counts; where none does, the base type.
const RULES: &[(Mix, Kind, When, TensorType)] = &[
    (Mix::Q2K, Kind::Value, When::Gqa4, T::Q4K),
    (Mix::Q2K, Kind::Value, When::Always, T::Q3K),
    (Mix::Q2K, Kind::Down, When::Always, T::Q3K),
    (Mix::Q2K, Kind::AttentionOutput, When::Always, T::Q3K),
    (Mix::Q3KM, Kind::Value, When::Below(2), T::Q5K),
    (Mix::Q3KM, Kind::Value, When::Always, T::Q4K),
    (Mix::Q3KM, Kind::Down, When::First(16), T::Q5K),
    (Mix::Q3KM, Kind::Down, When::Always, T::Q4K),
    (Mix::Q3KM, Kind::AttentionOutput, When::Always, T::Q4K),
    (Mix::Q3KL, Kind::Value, When::Always, T::Q5K),
    (Mix::Q3KL, Kind::Down, When::Always, T::Q5K),
    (Mix::Q3KL, Kind::AttentionOutput, When::Always, T::Q5K),
    (Mix::Q4KM, Kind::Value, When::MoreBits, T::Q6K),
    (Mix::Q4KM, Kind::Down, When::MoreBits, T::Q6K),
    (Mix::Q4KS, Kind::Value, When::Below(4), T::Q5K),
    (Mix::Q4KS, Kind::Down, When::First(8), T::Q5K),
    (Mix::Q5KM, Kind::Value, When::MoreBits, T::Q6K),
    (Mix::Q5KM, Kind::Down, When::MoreBits, T::Q6K),
    (Mix::Iq4Nl, Kind::Value, When::Gqa4, T::Q5K),
    (Mix::Iq4Xs, Kind::Value, When::Gqa4, T::Q5K),
    (
        Mix::Iq4Nl,
        Kind::Down,
        When::FirstEighth { importance: false },
        T::Q5K,
    ),
    (
        Mix::Iq4Xs,
        Kind::Down,
        When::FirstEighth { importance: false },
        T::Q5K,
    ),
    // With an importance matrix the simple types do badly on the first of these.
    (
        Mix::Q4_0,
        Kind::Down,
        When::FirstEighth { importance: true },
        T::Q4_1,
    ),
    (
        Mix::Q5_0,
        Kind::Down,
        When::FirstEighth { importance: true },
        T::Q5_1,
    ),
];

/// What rules look at besides a tensor's kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Number of this tensor among those of its kind, through the layers.
    pub i: usize,
    /// How many values there are.
    pub n_value: usize,
    /// Layers of the model.
    pub n_layer: usize,
    /// Queries per key.
    pub n_gqa: usize,
    /// Whether there is an importance matrix.
    pub importance: bool,
    /// Whether the embedding table is the head too.
    pub tied: bool,
    /// Elements of a row.
    pub n_per_row: u64,
}

/// The type that `mix` gives to a matrix of this kind.
pub(super) fn choose(mix: Mix, kind: Kind, s: &Situation) -> TensorType {
    let base = mix.base();
    if base.block_len() == 1 {
        return base;
    }
    if kind == Kind::Head || (s.tied && kind == Kind::Embedding) {
        // The head decides over the tokens themselves.
        return match () {
            () if !s.n_per_row.is_multiple_of(base.block_len()) => T::Q8_0,
            () if base == T::Q8_0 => base,
            () => T::Q6K,
        };
    }
    let n = if kind == Kind::Value { s.n_value } else { s.n_layer };
    let fits = |when: When| match when {
        When::Always => true,
        When::MoreBits => more_bits(s.i, n),
        When::First(k) => s.i < n / k,
        When::Below(k) => s.i < k,
        When::Gqa4 => s.n_gqa >= 4,
        When::FirstEighth { importance } => s.i < n / 8 && s.importance == importance,
    };
    let rule = RULES
        .iter()
        .find(|(m, k, when, _)| *m == mix && *k == kind && fits(*when));
    rule.map_or(base, |rule| rule.3)
}

fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// What takes a type's place where its blocks do not divide a row.
pub(super) fn fallback(ty: TensorType, n_per_row: u64) -> TensorType {
    let fits = |ty: TensorType| n_per_row.is_multiple_of(ty.block_len());
    if fits(ty) {
        return ty;
    }
    let smaller = match ty {
        T::Iq4Xs => T::Iq4Nl,
        T::Q2K | T::Q3K => T::Q4_0,
        T::Q4K => T::Q5_0,
        T::Q5K => T::Q5_1,
        T::Q6K => T::Q8_0,
        other => other,
    };
    if fits(smaller) { smaller } else { T::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(i: usize) -> Situation {
        Situation {
            i,
            n_value: 32,
            n_layer: 32,
            n_gqa: 1,
            importance: false,
            tied: false,
            n_per_row: 4096,
        }
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for mix in Mix::all() {
            assert_eq!(Mix::from_name(mix.name()), Some(mix));
            assert_eq!(Mix::from_name(&mix.name().to_uppercase()), Some(mix));
        }
        assert_eq!(Mix::from_name("Q4_K"), Some(Mix::Q4KM));
        assert_eq!(Mix::from_name("q1_0"), None);
        let mut numbers: Vec<_> = Mix::all().map(Mix::file_type).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Mix::all().count());
    }

    #[test]
    fn an_8b_in_q4_k_m_has_six_bits_where_llama_cpp_puts_them() {
        // The layers that llama.cpp lists for 32: 0-3, every third, 28-31.
        let six = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
        for i in 0..32 {
            let wanted = if six.contains(&i) { T::Q6K } else { T::Q4K };
            assert_eq!(choose(Mix::Q4KM, Kind::Value, &at(i)), wanted, "layer {i}");
            assert_eq!(choose(Mix::Q4KM, Kind::Down, &at(i)), wanted, "layer {i}");
            assert_eq!(choose(Mix::Q4KM, Kind::Other, &at(i)), T::Q4K);
        }
        assert_eq!(choose(Mix::Q4KM, Kind::Head, &at(0)), T::Q6K);
        assert_eq!(choose(Mix::Q4KM, Kind::Embedding, &at(0)), T::Q4K);
        let tied = Situation { tied: true, ..at(0) };
        assert_eq!(choose(Mix::Q4_0, Kind::Embedding, &tied), T::Q6K);
        assert_eq!(choose(Mix::Q8_0, Kind::Head, &at(0)), T::Q8_0);
        assert_eq!(choose(Mix::F16, Kind::Head, &at(0)), T::F16);
    }

    #[test]
    fn rows_that_blocks_do_not_divide_fall_back() {
        assert_eq!(fallback(T::Q4K, 4096), T::Q4K);
        assert_eq!(fallback(T::Q4K, 96), T::Q5_0);
        assert_eq!(fallback(T::Q6K, 352), T::Q8_0);
        assert_eq!(fallback(T::Iq4Xs, 64), T::Iq4Nl);
        assert_eq!(fallback(T::Q4_0, 50), T::F16);
        assert_eq!(fallback(T::Q2K, 50), T::F16);
    }
}
