//! Hostile files of further kinds, made of the valid ones: GGUF, checkpoints, data sets, and paths that are no files.

use std::path::{Path, PathBuf};

use remask::gguf::{Array, Metadata, StringArray, Value};

use crate::fuzz::bent::{Bent, parts, whole};

/// What must become of a file.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// An error when it is opened.
    Refused,
    /// It loads and runs.
    Taken,
    /// Either, or an error when it runs.
    Either,
}
use Wanted::{Either, Refused, Taken};

/// A case.
pub struct Made {
    pub name: String,
    pub path: PathBuf,
    pub wanted: Wanted,
}

struct Maker<'a> {
    dir: &'a Path,
    out: PathBuf,
    made: Vec<Made>,
}

/// All cases; `dir` is the folder of hostile files, with the valid ones among them.
pub fn all(dir: &Path, scratch: &Path) -> Vec<Made> {
    let out = scratch.join("made");
    std::fs::create_dir(&out).unwrap();
    let mut maker = Maker {
        dir,
        out,
        made: Vec::new(),
    };
    maker.metadata();
    maker.loaders();
    maker.vocabularies();
    maker.tensors();
    maker.containers();
    maker.headers();
    maker.indices();
    maker.configs();
    maker.tokenizers();
    maker.data();
    #[cfg(unix)]
    maker.paths();
    assert!(maker.made.len() > 150, "{}", maker.made.len());
    maker.made
}

fn text(s: impl Into<String>) -> Value {
    Value::String(s.into())
}

fn strings(list: impl IntoIterator<Item = Vec<u8>>) -> Value {
    let list: StringArray = list.into_iter().collect();
    Value::Array(Array::Strings(list))
}

/// JSON that holds itself, `n` times.
fn nested(open: &str, n: usize, close: &str) -> String {
    [open.repeat(n), "1".to_owned(), close.repeat(n)].concat()
}

impl Maker<'_> {
    fn add(&mut self, name: &str, path: PathBuf, wanted: Wanted) {
        self.made.push(Made {
            name: name.to_owned(),
            path,
            wanted,
        });
    }

    fn file(&mut self, name: &str, bytes: &[u8], wanted: Wanted) {
        let path = self.out.join(format!("{}.gguf", self.made.len()));
        std::fs::write(&path, bytes).unwrap();
        self.add(name, path, wanted);
    }

    fn valid(&self) -> (Metadata, Vec<Bent>) {
        parts(&std::fs::read(self.dir.join("ok_q8.gguf")).unwrap())
    }

    /// The valid model with keys set.
    fn keys(&mut self, name: &str, keys: &[(&str, Value)], wanted: Wanted) {
        let (mut m, tensors) = self.valid();
        for (key, value) in keys {
            m.insert((*key).to_owned(), value.clone());
        }
        self.file(name, &whole(&m, &tensors), wanted);
    }

    fn metadata(&mut self) {
        let x = "{% set x = 'aaaaaaaa' %}";
        for (name, source) in [
            (
                "a template that doubles",
                x.to_owned() + &"{% set x = x ~ x %}".repeat(60),
            ),
            (
                "a template that captures",
                x.to_owned() + &"{% set x %}{{ x }}{{ x }}{% endset %}".repeat(60),
            ),
            (
                "a template that counts nothing",
                "{{ 'a'.count('') }}{{ 'a' * 999999999999 }}".to_owned(),
            ),
            ("a template of brackets", "{{ ".to_owned() + &"(".repeat(500_000)),
            ("a template of blocks", "{% if 1 %}".repeat(50_000)),
            (
                "a template of lists",
                "{% set x = [] %}".to_owned() + &"{% set x = [x, x, x] %}".repeat(100),
            ),
            ("a template that is too long", "a".repeat((1 << 20) + 1)),
        ] {
            self.keys(name, &[("tokenizer.chat_template", text(source))], Either);
        }
        let f = |x: f32| Value::F32(x);
        for (key, values) in [
            (
                "llada.rope.freq_base",
                vec![
                    f(1e-45),
                    f(f32::MAX),
                    f(f32::INFINITY),
                    f(-0.0),
                    Value::U32(10_000),
                ],
            ),
            (
                "llada.attention.layer_norm_rms_epsilon",
                vec![f(1e-45), f(f32::MAX), f(0.0), Value::F64(1e-5)],
            ),
            (
                "llada.rope.scaling.factor",
                vec![
                    f(0.0),
                    f(f32::NAN),
                    f(f32::INFINITY),
                    f(-1.0),
                    f(1e-45),
                    text("2"),
                ],
            ),
            (
                "llada.context_length",
                vec![Value::U32(u32::MAX), Value::U64(1 << 63), Value::I32(-1)],
            ),
            (
                "llada.attention.head_count_kv",
                vec![
                    Value::U32(3),
                    Value::U32(1 << 31),
                    Value::Array(Array::U32(vec![1; 2])),
                ],
            ),
            (
                "llada.feed_forward_length",
                vec![Value::Array(Array::U32(vec![64; 2])), Value::U32(1)],
            ),
            (
                "llada.attention.key_length",
                vec![Value::U32(1), Value::U32(1 << 20), Value::U32(0)],
            ),
            (
                "llada.rope.dimension_count",
                vec![Value::U32(1 << 30), Value::U32(2)],
            ),
            ("llada.vocab_size", vec![Value::U32(0), Value::U32(u32::MAX)]),
            ("diffusion.shift_logits", vec![Value::U32(1), text("yes")]),
            (
                "general.alignment",
                vec![Value::U64(1 << 40), Value::U32(1 << 16), Value::Bool(true)],
            ),
            (
                "tokenizer.ggml.mask_token_id",
                vec![Value::I32(-1), Value::U64(1 << 40), text("mask")],
            ),
            ("tokenizer.ggml.eot_token_id", vec![Value::U32(u32::MAX)]),
            (
                "tokenizer.ggml.add_bos_token",
                vec![Value::U32(1), text("\u{1b}[2J")],
            ),
            (
                "tokenizer.ggml.pre",
                vec![text("\u{1b}[2J".repeat(1000)), text("")],
            ),
            (
                "general.name",
                vec![text("\u{1b}[2J\u{202E}".repeat(1 << 16)), Value::U32(1)],
            ),
            (
                "general.architecture",
                vec![text("llada\u{1b}[2J"), text("x".repeat(1 << 20))],
            ),
            (
                "split.count",
                vec![Value::U32(2), Value::U32(65_535), Value::I32(-1), text("2")],
            ),
            ("split.no", vec![Value::U32(9)]),
        ] {
            for (i, value) in values.into_iter().enumerate() {
                self.keys(&format!("{key}, {i}"), &[(key, value)], Either);
            }
        }
    }

    /// What the loader around ggml ends a process for, and has no file in the list.
    fn loaders(&mut self) {
        for model in ["llama", "rwkv", "t5", "bert", "none", "plamo2"] {
            self.keys(
                &format!("a vocabulary of {model}"),
                &[("tokenizer.ggml.model", text(model))],
                Refused,
            );
        }
        let count = Value::U32;
        for (name, keys, wanted) in [
            (
                "keys of another length than values",
                vec![
                    ("llada.attention.key_length", count(16)),
                    ("llada.attention.value_length", count(8)),
                ],
                Refused,
            ),
            (
                "more layers that predict than there are",
                vec![("llada.nextn_predict_layers", count(9))],
                Either,
            ),
            (
                "experts in a dense model",
                vec![("llada.expert_count", count(1 << 20))],
                Either,
            ),
            (
                "experts used and none there",
                vec![
                    ("llada.expert_count", count(0)),
                    ("llada.expert_used_count", count(8)),
                ],
                Either,
            ),
            (
                "groups of experts",
                vec![("llada.expert_group_count", count(0))],
                Either,
            ),
            (
                "a pooling that is not known",
                vec![("llada.pooling_type", count(99))],
                Either,
            ),
        ] {
            self.keys(name, &keys, wanted);
        }
        // Text that is to begin with a token that is not there.
        let (mut m, tensors) = self.valid();
        m.remove("tokenizer.ggml.bos_token_id");
        m.insert("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true));
        self.file(
            "a beginning of text that is not there",
            &whole(&m, &tensors),
            Either,
        );
        // Every key missing, one after the other.
        let (m, tensors) = self.valid();
        let keys: Vec<String> = m.iter().map(|(k, _)| k.to_owned()).collect();
        for key in keys {
            let mut without = m.clone();
            without.remove(&key);
            self.file(&format!("without {key}"), &whole(&without, &tensors), Either);
        }
    }

    fn vocabularies(&mut self) {
        let token = |n: usize, of: &dyn Fn(usize) -> Vec<u8>| strings((0..n).map(of));
        let n = 288;
        for (name, list, wanted) in [
            ("empty tokens", token(n, &|_| Vec::new()), Either),
            ("tokens that are all one", token(n, &|_| b"a".to_vec()), Either),
            ("tokens of NULs", token(n, &|i| vec![0; i + 1]), Either),
            (
                "tokens that are no UTF-8",
                token(n, &|i| vec![0xFF, i as u8]),
                Refused,
            ),
            (
                "a token of 64 KiB and one",
                token(n, &|i| vec![b'a'; if i == 5 { 65_537 } else { i + 1 }]),
                Refused,
            ),
            (
                "a million tokens",
                token(1_000_000, &|i| i.to_string().into_bytes()),
                Refused,
            ),
            (
                "two million empty tokens",
                token(2_000_000, &|_| Vec::new()),
                Refused,
            ),
        ] {
            self.keys(name, &[("tokenizer.ggml.tokens", list)], wanted);
        }
        for (name, list, wanted) in [
            ("merges without a space", token(10, &|_| b"ab".to_vec()), Refused),
            ("merges of nothing", token(10, &|_| b" ".to_vec()), Refused),
            (
                "merges that are no UTF-8",
                token(10, &|_| vec![0xFF, b' ', 0xFE]),
                Refused,
            ),
            (
                "one merge, a hundred thousand times",
                token(100_000, &|_| b"a b".to_vec()),
                Either,
            ),
            ("a merge of spaces", token(1, &|_| vec![b' '; 1 << 20]), Refused),
        ] {
            self.keys(name, &[("tokenizer.ggml.merges", list)], wanted);
        }
        let types = |of: i32| Value::Array(Array::I32(vec![of; n]));
        for of in [0, -1, 7, i32::MIN, 2, 3, 4, 5, 6] {
            self.keys(
                &format!("all tokens of type {of}"),
                &[("tokenizer.ggml.token_type", types(of))],
                Either,
            );
        }
    }

    fn tensors(&mut self) {
        let (m, valid) = self.valid();
        let mut with = |name: &str, wanted: Wanted, change: &dyn Fn(&mut Vec<Bent>)| {
            let mut tensors = valid.clone();
            change(&mut tensors);
            self.file(name, &whole(&m, &tensors), wanted);
        };
        with("no tensors", Refused, &|t| t.clear());
        with("one tensor too many", Refused, &|t| {
            let mut more = t[0].clone();
            more.name = b"blk.0.spare.weight".to_vec();
            t.push(more);
        });
        with("a tensor of a layer that is not there", Either, &|t| {
            let mut more = t[0].clone();
            more.name = b"blk.99999999999999999999.attn_q.weight".to_vec();
            t.push(more);
        });
        with("two tensors of one name", Refused, &|t| {
            t[1].name = t[0].name.clone()
        });
        with("a name that is no UTF-8", Refused, &|t| t[0].name = vec![0xFF; 8]);
        with("a name that steers a terminal", Refused, &|t| {
            t[0].name = b"\x1b[2J\x07".to_vec()
        });
        with("a name with a NUL", Refused, &|t| {
            t[0].name = b"token_embd\0.weight".to_vec()
        });
        with("an empty name", Refused, &|t| t[0].name.clear());
        with("the last tensor is missing", Refused, &|t| drop(t.pop()));
        with("five dimensions", Refused, &|t| t[0].dims = vec![1; 5]);
        with("no dimensions", Refused, &|t| t[0].dims.clear());
        with("swapped dimensions", Refused, &|t| {
            let i = t
                .iter()
                .position(|t| t.dims.len() == 2 && t.dims[0] != t.dims[1])
                .unwrap();
            t[i].dims.reverse();
        });
        with("a vector of ones around it", Either, &|t| {
            let i = t.iter().position(|t| t.dims.len() == 1).unwrap();
            t[i].dims.extend([1, 1, 1]);
        });
        for (name, bits) in [
            ("NaN", 0x7FC0_0000u32),
            ("infinity", 0x7F80_0000),
            ("the largest", 0x7F7F_FFFF),
            ("the least", 1),
            ("minus zero", 0x8000_0000),
        ] {
            with(&format!("norms of {name}"), Either, &|t| {
                for t in t.iter_mut().filter(|t| t.dims.len() == 1) {
                    t.data
                        .chunks_exact_mut(4)
                        .for_each(|c| c.copy_from_slice(&bits.to_le_bytes()));
                }
            });
        }
        for byte in [0x00, 0x7F, 0x80, 0xFF] {
            with(&format!("all weights of bytes {byte}"), Either, &|t| {
                t.iter_mut().for_each(|t| t.data.fill(byte));
            });
        }
        with("sixty thousand tensors", Refused, &|t| {
            for i in 0..60_000 {
                t.push(Bent {
                    name: format!("t{i}").into_bytes(),
                    dims: vec![1],
                    ty: 0,
                    offset: 0,
                    data: vec![0; 4],
                });
            }
        });
    }

    fn containers(&mut self) {
        let valid = std::fs::read(self.dir.join("ok_q8.gguf")).unwrap();
        let head = |n_tensors: u64, n_kv: u64| -> Vec<u8> {
            [
                &b"GGUF\x03\0\0\0"[..],
                &n_tensors.to_le_bytes(),
                &n_kv.to_le_bytes(),
            ]
            .concat()
        };
        let array = |ty: u32, n: u64| -> Vec<u8> {
            [
                &1u64.to_le_bytes()[..],
                b"k",
                &9u32.to_le_bytes(),
                &ty.to_le_bytes(),
                &n.to_le_bytes(),
            ]
            .concat()
        };
        self.file("nothing", b"", Refused);
        self.file("a magic", b"GGUF", Refused);
        self.file("a zip", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa", Refused);
        self.file("zeros", &vec![0; 1 << 20], Refused);
        self.file("ones", &vec![0xFF; 1 << 20], Refused);
        self.file(
            "something behind the end",
            &[&valid[..], &[1; 4096]].concat(),
            Either,
        );
        self.file(
            "all keys missing",
            &[head(0, u64::MAX), vec![0; 64]].concat(),
            Refused,
        );
        for ty in [0, 7, 8, 9, 12, 13, u32::MAX] {
            let bytes = [head(0, 1), array(ty, 1 << 24), vec![0; 1 << 20]].concat();
            self.file(&format!("a long array of type {ty}"), &bytes, Refused);
        }
        // Strings of no length: 8 bytes in the file.
        let bytes = [head(0, 1), array(8, 4_000_000), vec![0; 32_000_000]].concat();
        self.file("four million empty strings", &bytes, Refused);
        // Arrays of arrays of arrays.
        let deep = [9u32.to_le_bytes(), 1u32.to_le_bytes(), 0u32.to_le_bytes()].concat();
        self.file(
            "arrays in arrays",
            &[head(0, 1), array(9, 1), deep.repeat(100_000)].concat(),
            Refused,
        );
        self.file(
            "bools of 2",
            &[head(0, 1), array(7, 64), vec![2; 64]].concat(),
            Refused,
        );
    }

    /// The valid checkpoint with one file replaced.
    fn folder(&mut self, name: &str, file: &str, bytes: &[u8], wanted: Wanted) -> PathBuf {
        let path = self.out.join(format!("hf-{}", self.made.len()));
        std::fs::create_dir(&path).unwrap();
        for entry in std::fs::read_dir(self.dir.join("hf_ok")).unwrap().flatten() {
            std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
        std::fs::write(path.join(file), bytes).unwrap();
        self.add(name, path.clone(), wanted);
        path
    }

    fn headers(&mut self) {
        let with = |header: &str, data: usize| {
            let n = header.len() as u64;
            [&n.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
        };
        let one = |inside: &str| format!("{{\"a\":{{{inside}}}}}");
        let entry = r#""dtype":"F32","shape":[0],"data_offsets":[0,0]"#;
        let many: String = (0..200_000).map(|i| format!("\"{i}\":{{{entry}}},")).collect();
        for (name, header, data) in [
            (
                "two hundred thousand tensors",
                format!("{{{}\"z\":{{{entry}}}}}", many),
                0,
            ),
            (
                "a shape without end",
                one(&format!("\"shape\":[{}0]", "0,".repeat(5_000_000))),
                0,
            ),
            (
                "metadata without end",
                format!("{{\"__metadata__\":[{}0]}}", "0,".repeat(5_000_000)),
                0,
            ),
            ("brackets in brackets", nested("[", 1_000_000, "]"), 0),
            ("objects in objects", nested("{\"a\":", 1_000_000, "}"), 0),
            (
                "a name of 8 MiB",
                format!("{{\"{}\":{{{entry}}}}}", "\\u001b".repeat(1 << 20)),
                0,
            ),
            (
                "offsets that cross",
                one(r#""dtype":"F32","shape":[1],"data_offsets":[4,0]"#),
                8,
            ),
            (
                "offsets beyond all",
                one(r#""dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]"#),
                8,
            ),
            (
                "more offsets",
                one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4,8]"#),
                8,
            ),
            (
                "a shape that overflows",
                one(r#""dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]"#),
                4,
            ),
            (
                "a shape of fractions",
                one(r#""dtype":"F32","shape":[1.0],"data_offsets":[0,4]"#),
                4,
            ),
            (
                "a negative shape",
                one(r#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#),
                4,
            ),
            (
                "a type of control characters",
                one("\"dtype\":\"\\u001b[2J\",\"shape\":[1],\"data_offsets\":[0,4]"),
                4,
            ),
            (
                "eight-bit floats",
                one(r#""dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]"#),
                4,
            ),
            (
                "a type twice",
                one(r#""dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]"#),
                4,
            ),
            ("no type", one(r#""shape":[1],"data_offsets":[0,4]"#), 4),
            ("a list for a header", "[]".to_owned(), 0),
            ("a number for a header", "1e999".to_owned(), 0),
            ("an empty header", "{}".to_owned(), 4),
            ("a header of spaces", " ".repeat(1 << 20), 0),
            ("a mark at the beginning", "\u{FEFF}{}".to_owned(), 0),
            ("half a surrogate", "{\"\\ud800\":1}".to_owned(), 0),
        ] {
            self.folder(
                &format!("safetensors: {name}"),
                "model.safetensors",
                &with(&header, data),
                Refused,
            );
        }
        let long = [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat();
        self.folder(
            "safetensors: a header of a tebibyte",
            "model.safetensors",
            &long,
            Refused,
        );
        self.folder("safetensors: seven bytes", "model.safetensors", &[0; 7], Refused);
    }

    fn indices(&mut self) {
        for shard in [
            "..",
            ".",
            "",
            "/dev/zero",
            "../x",
            "a/b",
            "a\\b",
            "\u{1b}[2J",
            "nothing",
            "config.json",
        ] {
            let index = serde_json::json!({"weight_map": {"a": shard}}).to_string();
            let name = format!("index: {}", shard.escape_debug());
            self.folder(&name, "model.safetensors.index.json", index.as_bytes(), Refused);
        }
        let many: String = (0..5000).map(|i| format!("\"{i}\":\"{i}\",")).collect();
        for (name, index) in [
            (
                "five thousand shards",
                format!("{{\"weight_map\":{{{many}\"a\":\"b\"}}}}"),
            ),
            ("a list", "{\"weight_map\":[]}".to_owned()),
            ("numbers", "{\"weight_map\":{\"a\":1}}".to_owned()),
            ("nothing", String::new()),
            (
                "lists without end",
                format!("{{\"weight_map\":{{}},\"m\":[{}0]}}", "0,".repeat(5_000_000)),
            ),
            (
                "one tensor twice",
                "{\"weight_map\":{\"a\":\"b\",\"a\":\"b\"}}".to_owned(),
            ),
        ] {
            self.folder(
                &format!("index: {name}"),
                "model.safetensors.index.json",
                index.as_bytes(),
                Refused,
            );
        }
    }

    fn configs(&mut self) {
        let valid = std::fs::read_to_string(self.dir.join("hf_ok/config.json")).unwrap();
        let whole: serde_json::Value = serde_json::from_str(&valid).unwrap();
        let with = |key: &str, value: serde_json::Value| {
            let mut config = whole.clone();
            config[key] = value;
            config.to_string()
        };
        for (name, config) in [
            ("brackets in brackets", nested("[", 1_000_000, "]")),
            ("objects in objects", nested("{\"a\":", 1_000_000, "}")),
            ("a list without end", format!("[{}0]", "0,".repeat(10_000_000))),
            (
                "objects without end",
                format!("[{}0]", "{\"a\":1},".repeat(3_000_000)),
            ),
            ("null", "null".to_owned()),
            ("nothing", String::new()),
            ("a mark at the beginning", format!("\u{FEFF}{valid}")),
            (
                "a number that is too large",
                valid.replacen('{', "{\"rope_theta\":1e400,", 1),
            ),
            ("half a surrogate", valid.replacen('{', "{\"x\":\"\\ud800\",", 1)),
            ("no number", valid.replacen('{', "{\"rope_theta\":NaN,", 1)),
            ("a width of a fraction", with("d_model", 1.5.into())),
            ("a width of nothing", with("d_model", 0.into())),
            ("a width beyond all", with("d_model", u64::MAX.into())),
            ("more heads than width", with("n_heads", 65_536.into())),
            ("layers without end", with("n_layers", 1_000_000_000.into())),
            ("a ratio without end", with("mlp_ratio", u64::MAX.into())),
            ("a vocabulary beyond all", with("vocab_size", u64::MAX.into())),
            ("an epsilon of minus one", with("rms_norm_eps", (-1).into())),
            ("a base of a text", with("rope_theta", "\u{1b}[2J".into())),
            (
                "a scaling of nonsense",
                with(
                    "rope_scaling",
                    serde_json::json!({"type": "\u{1b}[2J", "factor": -1}),
                ),
            ),
            (
                "a model type that steers",
                with("model_type", "\u{1b}[2J".repeat(10_000).into()),
            ),
            (
                "an activation that steers",
                with("activation_type", "\u{1b}[2J".into()),
            ),
        ] {
            let wanted = match name {
                "a ratio without end" | "half a surrogate" => Either,
                _ => Refused,
            };
            self.folder(
                &format!("config: {name}"),
                "config.json",
                config.as_bytes(),
                wanted,
            );
        }
        let ids = with("eos_token_id", vec![1; 100_000].into());
        self.folder("config: ends without end", "config.json", ids.as_bytes(), Either);
        let utf16: Vec<u8> = valid.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.folder("config: UTF-16", "config.json", &utf16, Refused);
        for name in [
            "tokenizer_config.json",
            "generation_config.json",
            "special_tokens_map.json",
        ] {
            for (what, bytes) in [
                ("nothing", ""),
                ("a list", "[]"),
                ("a text", "\"a\""),
                ("no JSON", "{"),
            ] {
                self.folder(&format!("{name}: {what}"), name, bytes.as_bytes(), Either);
            }
        }
        let template = serde_json::json!({"chat_template": "{% set x = 'aa' %}".to_owned() + &"{% set x = x ~ x %}".repeat(60)});
        let template = template.to_string();
        self.folder(
            "tokenizer_config: a template that doubles",
            "tokenizer_config.json",
            template.as_bytes(),
            Either,
        );
    }

    fn tokenizers(&mut self) {
        let valid = std::fs::read_to_string(self.dir.join("hf_ok/tokenizer.json")).unwrap();
        let whole: serde_json::Value = serde_json::from_str(&valid).unwrap();
        let with = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = whole.clone();
            change(&mut json);
            json.to_string()
        };
        let regex = |regex: &str| {
            with(&|j| {
                j["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
                ]});
            })
        };
        for pattern in [
            "(a|a){0,20}[bc]|a",
            "(a|aa)*[bc]|a",
            "((a{1000}){1000}){1000}",
            "a{99999}",
            "(?<=a*)b",
            "(?~a)",
            "(",
            "[",
            "a**",
            "\\",
            "\\p{Nothing}",
            "(?<n>a)\\k<n>",
            "",
        ] {
            let json = regex(pattern);
            self.folder(
                &format!("tokenizer: regex {pattern}"),
                "tokenizer.json",
                json.as_bytes(),
                Either,
            );
        }
        self.folder(
            "tokenizer: a regex of 9 KiB",
            "tokenizer.json",
            regex(&"a".repeat(9000)).as_bytes(),
            Refused,
        );
        let deep = |n: usize| {
            (0..n).fold(
                serde_json::json!({"type": "NFC"}),
                |v, _| serde_json::json!({"type": "Sequence", "normalizers": [v]}),
            )
        };
        for (name, json, wanted) in [
            ("brackets in brackets", nested("[", 1_000_000, "]"), Refused),
            (
                "merges of numbers",
                format!("{{\"model\":{{\"merges\":[{}0]}}}}", "0,".repeat(5_000_000)),
                Refused,
            ),
            (
                "merges of nothing",
                format!("{{\"model\":{{\"merges\":[{}\"\"]}}}}", "\"\",".repeat(5_000_000)),
                Refused,
            ),
            (
                "merges of pairs of nothing",
                format!(
                    "{{\"model\":{{\"merges\":[{}[\"\",\"\"]]}}}}",
                    "[\"\",\"\"],".repeat(2_000_000)
                ),
                Refused,
            ),
            (
                "one token, again and again",
                format!(
                    "{{\"model\":{{\"vocab\":{{{}\"a\":0}}}}}}",
                    "\"\":0,".repeat(5_000_000)
                ),
                Refused,
            ),
            (
                "added tokens of nothing",
                format!("{{\"added_tokens\":[{}{{}}]}}", "{},".repeat(3_000_000)),
                Refused,
            ),
            (
                "an id beyond all",
                with(&|j| j["model"]["vocab"]["zz"] = u64::MAX.into()),
                Refused,
            ),
            (
                "an id of minus one",
                with(&|j| j["model"]["vocab"]["zz"] = (-1).into()),
                Refused,
            ),
            (
                "an id of a fraction",
                with(&|j| j["model"]["vocab"]["zz"] = 1.5.into()),
                Refused,
            ),
            (
                "an id twice",
                with(&|j| j["model"]["vocab"]["zz"] = 0.into()),
                Refused,
            ),
            (
                "a vocabulary of nothing",
                with(&|j| j["model"]["vocab"] = serde_json::json!({})),
                Refused,
            ),
            (
                "a vocabulary of null",
                with(&|j| j["model"]["vocab"] = serde_json::Value::Null),
                Refused,
            ),
            (
                "another model",
                with(&|j| j["model"]["type"] = "\u{1b}[2J".into()),
                Refused,
            ),
            ("dropout", with(&|j| j["model"]["dropout"] = 0.5.into()), Refused),
            (
                "an added token of 300 bytes",
                with(&|j| j["added_tokens"][0]["content"] = "a".repeat(300).into()),
                Refused,
            ),
            (
                "normalizers in normalizers",
                with(&|j| j["normalizer"] = deep(40)),
                Refused,
            ),
            (
                "a hundred stages",
                with(&|j| {
                    let stage = serde_json::json!({"type": "Digits", "individual_digits": true});
                    j["pre_tokenizer"] =
                        serde_json::json!({"type": "Sequence", "pretokenizers": vec![stage; 100]});
                }),
                Refused,
            ),
        ] {
            self.folder(
                &format!("tokenizer: {name}"),
                "tokenizer.json",
                json.as_bytes(),
                wanted,
            );
        }
        self.folder("tokenizer: no UTF-8", "tokenizer.json", &[0xFF; 64], Refused);
    }

    fn data(&mut self) {
        for (name, bytes, wanted) in [
            (
                "a line of 16 MiB",
                [&b"{\"text\":\""[..], &vec![b'a'; 16 << 20], b"\"}"].concat(),
                Refused,
            ),
            (
                "brackets in brackets",
                [b"{\"text\":\"a\",\"x\":", &vec![b'['; 1 << 20][..]].concat(),
                Refused,
            ),
            ("half a surrogate", b"{\"text\":\"\\ud800\"}".to_vec(), Refused),
            (
                "a mark at the beginning",
                b"\xEF\xBB\xBF{\"text\":\"a\"}".to_vec(),
                Refused,
            ),
            ("a NUL", b"{\"text\":\"a\0\"}".to_vec(), Refused),
            (
                "UTF-16",
                "{\"text\":\"a\"}"
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect(),
                Refused,
            ),
            ("ends of lines", vec![b'\n'; 4 << 20], Taken),
            (
                "carriage returns",
                b"{\"text\":\"a\"}\r\n\r\n{\"text\":\"b\"}\r\n".to_vec(),
                Taken,
            ),
            ("no end of line", b"{\"text\":\"a\"}".to_vec(), Taken),
            ("a text of null", b"{\"text\":null}".to_vec(), Refused),
            (
                "a text twice",
                b"{\"text\":\"a\",\"text\":\"b\"}".to_vec(),
                Refused,
            ),
            ("objects of nothing", b"{}\n".repeat(1_000_000), Refused),
            ("controls", b"{\"text\":\"\x1b[2J\"}".to_vec(), Refused),
            ("nothing", Vec::new(), Taken),
        ] {
            let path = self.out.join(format!("{}.jsonl", self.made.len()));
            std::fs::write(&path, bytes).unwrap();
            self.add(&format!("data: {name}"), path, wanted);
        }
    }

    /// Paths that are no files, or files with odd names: nothing waits, nothing is read without end.
    #[cfg(unix)]
    fn paths(&mut self) {
        use std::os::unix::ffi::OsStringExt;
        use std::os::unix::fs::symlink;
        let out = self.out.clone();
        let fifo = out.join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        symlink(out.join("loop"), out.join("loop")).unwrap();
        symlink("/dev/zero", out.join("zero.gguf")).unwrap();
        symlink(&fifo, out.join("fifo.gguf")).unwrap();
        symlink(&fifo, out.join("fifo.jsonl")).unwrap();
        symlink("/dev/zero", out.join("zero.jsonl")).unwrap();
        for (name, path) in [
            ("a FIFO", fifo.clone()),
            ("a link to itself", out.join("loop")),
            ("a link to /dev/zero", out.join("zero.gguf")),
            ("a link to a FIFO", out.join("fifo.gguf")),
            ("data from a FIFO", out.join("fifo.jsonl")),
            ("data from /dev/zero", out.join("zero.jsonl")),
            ("/dev/zero", "/dev/zero".into()),
            ("/dev/full", "/dev/full".into()),
            ("/proc/self/mem", "/proc/self/mem".into()),
            ("a name that is too long", out.join("a".repeat(5000))),
            ("a path that is too long", out.join("a/".repeat(5000))),
            ("a name of an end of line", out.join("a\nb")),
            ("a file as a folder", out.join("0.gguf/x.gguf")),
        ] {
            self.add(name, path, Refused);
        }
        // An odd name is no reason to refuse a good file.
        let odd = out.join(std::ffi::OsString::from_vec(b"odd\xFF\x1b[2J.gguf".to_vec()));
        std::fs::copy(self.dir.join("ok_q8.gguf"), &odd).unwrap();
        self.add("a name that is no UTF-8", odd, Taken);
        // Each file of a checkpoint is a FIFO, endless, a folder.
        for file in [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "model.safetensors",
            "model.safetensors.index.json",
        ] {
            for kind in ["fifo", "zero", "folder"] {
                let folder = self.folder(&format!("{file} is a {kind}"), "spare", b"", Refused);
                let _ = std::fs::remove_file(folder.join(file));
                match kind {
                    "fifo" => symlink(&fifo, folder.join(file)).unwrap(),
                    "zero" => symlink("/dev/zero", folder.join(file)).unwrap(),
                    _ => std::fs::create_dir(folder.join(file)).unwrap(),
                }
            }
        }
        // The second part of a split model.
        let (mut m, tensors) = self.valid();
        m.insert("split.count".to_owned(), Value::U32(2));
        m.insert("split.no".to_owned(), Value::U32(0));
        for kind in ["fifo", "zero", "itself", "folder"] {
            let first = out.join(format!("{kind}-00001-of-00002.gguf"));
            let second = out.join(format!("{kind}-00002-of-00002.gguf"));
            std::fs::write(&first, whole(&m, &tensors)).unwrap();
            match kind {
                "fifo" => symlink(&fifo, second).unwrap(),
                "zero" => symlink("/dev/zero", second).unwrap(),
                "itself" => symlink(&first, second).unwrap(),
                _ => std::fs::create_dir(second).unwrap(),
            }
            self.add(&format!("the second part is {kind}"), first, Refused);
        }
    }
}
