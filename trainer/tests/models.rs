//! Networks that come in as files of other kinds, and adapters that go out as one.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remask::convert::{ConvertOptions, convert};
use remask::gguf::{Array, Metadata, StringArray};
use remask::quantize::{MemoryTensor, Mix, Policy, write_gguf};
use remask::text::{SpecialIds, Tokenizer};
use remask::{ErrorKind, LoadOptions, Model, ModelFile, Residence};
use remask_trainer::adapter::export_adapter;
use remask_trainer::checkpoint;
use remask_trainer::config::Config;
use remask_trainer::data::{Encoder, PrepareOptions, prepare, train_tokenizer};
use remask_trainer::engine::{Device, Engine, Flex};
use remask_trainer::export::export;
use remask_trainer::import;
use remask_trainer::objective::{Batch, Example, causal};
use remask_trainer::run::{End, Event, Run};
use remask_trainer::shape::Shape;

#[path = "../../tests/common/vectors.rs"]
mod vectors;

/// Texts and the tokenizer of an autoregressive model: without a mask.
struct World {
    folder: tempfile::TempDir,
    tokens: Vec<String>,
    merges: Vec<String>,
    shape: Shape,
    weights: Vec<Vec<f32>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let text = "The cat sat on the mat. The dog sat on the log, and the hen in the pen.\n";
        std::fs::write(at("text.txt"), text.repeat(40)).unwrap();
        train_tokenizer(&[at("text.txt")], 300, &at("trained")).unwrap();
        let json = std::fs::read_to_string(at("trained/tokenizer.json")).unwrap();
        let all = Tokenizer::from_json(&json, SpecialIds::default(), 1 << 20).unwrap();
        // The mask and what follows it go; the marks of beginning and end stay.
        let mask = all.token_id("<|mdm_mask|>").unwrap();
        let shape = Shape {
            d_model: 64,
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            mlp_hidden_size: 96,
            vocab_size: mask as usize,
            max_sequence_length: 64,
            weight_tying: true,
            rope_theta: 5000.0,
            ..Shape::default()
        };
        let engine = Flex::new(&shape, Device::Cpu, 9).unwrap();
        Self {
            tokens: (0..mask).map(|i| all.token_text(i).unwrap().to_owned()).collect(),
            merges: all.merges().map(|(a, b)| format!("{a} {b}")).collect(),
            weights: engine.weights(),
            shape,
            folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The network as llama.cpp's converter writes an autoregressive Llama.
    fn llama_gguf(&self, mix: Mix) -> PathBuf {
        let path = self.at(&format!("{}.gguf", mix.name()));
        let s = &self.shape;
        let mut m = Metadata::new();
        m.insert("general.architecture", "llama");
        for (key, n) in [
            ("context_length", s.max_sequence_length),
            ("embedding_length", s.d_model),
            ("block_count", s.n_layers),
            ("feed_forward_length", s.mlp_hidden_size),
            ("attention.head_count", s.n_heads),
            ("attention.head_count_kv", s.kv_heads()),
            ("rope.dimension_count", s.head_dim()),
            ("vocab_size", s.vocab_size),
        ] {
            m.insert(format!("llama.{key}"), n as u32);
        }
        m.insert("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        m.insert("llama.rope.freq_base", s.rope_theta as f32);
        let n = self.tokens.len();
        let tokens: StringArray = self.tokens.iter().map(String::as_str).collect();
        let merges: StringArray = self.merges.iter().map(String::as_str).collect();
        let types: Vec<i32> = (0..n).map(|i| if i + 2 < n { 1 } else { 3 }).collect();
        m.insert("tokenizer.ggml.model", "gpt2");
        m.insert("tokenizer.ggml.pre", "bailingmoe");
        m.insert("tokenizer.ggml.tokens", tokens);
        m.insert("tokenizer.ggml.token_type", Array::I32(types));
        m.insert("tokenizer.ggml.merges", merges);
        m.insert("tokenizer.ggml.bos_token_id", n as u32 - 2);
        m.insert("tokenizer.ggml.eos_token_id", n as u32 - 1);
        let mut tensors: Vec<(String, Vec<u64>, Vec<f32>)> = Vec::new();
        for (p, values) in s.parameters().iter().zip(&self.weights) {
            let mut dims: Vec<u64> = p.dims.iter().map(|&d| d as u64).collect();
            dims.reverse();
            let (name, heads) = ggml_name(&p.name, s);
            let values = if heads == 0 {
                values.clone()
            } else {
                interleaved(values, p.dims[1], heads)
            };
            tensors.push((name, dims, values));
        }
        let views: Vec<MemoryTensor<'_>> = tensors
            .iter()
            .map(|(name, dims, values)| MemoryTensor { name, dims, values })
            .collect();
        let policy = Policy {
            mix,
            ..Policy::default()
        };
        write_gguf(&path, &m, &views, &policy, 1, true, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        path
    }
}

/// llama.cpp's names, and the heads whose rows it permutes (convert: `LlamaModel.permute`).
fn ggml_name(name: &str, s: &Shape) -> (String, usize) {
    let name = name.trim_start_matches("model.transformer.");
    let mut parts = name.split('.');
    let (first, layer, part) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
    let (part, heads) = match (first, part) {
        ("wte", _) => return ("token_embd.weight".to_owned(), 0),
        ("ln_f", _) => return ("output_norm.weight".to_owned(), 0),
        (_, Some("attn_norm")) => ("attn_norm", 0),
        (_, Some("q_proj")) => ("attn_q", s.n_heads),
        (_, Some("k_proj")) => ("attn_k", s.kv_heads()),
        (_, Some("v_proj")) => ("attn_v", 0),
        (_, Some("attn_out")) => ("attn_output", 0),
        (_, Some("ff_norm")) => ("ffn_norm", 0),
        (_, Some("ff_proj")) => ("ffn_gate", 0),
        (_, Some("up_proj")) => ("ffn_up", 0),
        _ => ("ffn_down", 0),
    };
    (format!("blk.{layer}.{part}.weight"), heads)
}

/// `w.reshape(heads, 2, size / 2, n_in).swapaxes(1, 2)`.
fn interleaved(values: &[f32], n_in: usize, heads: usize) -> Vec<f32> {
    let size = values.len() / n_in / heads;
    let mut out = vec![0.0; values.len()];
    for head in 0..heads {
        for half in 0..2 {
            for i in 0..size / 2 {
                let from = (head * size + half * (size / 2) + i) * n_in;
                let to = (head * size + 2 * i + half) * n_in;
                out[to..to + n_in].copy_from_slice(&values[from..from + n_in]);
            }
        }
    }
    out
}

fn weights_of(source: &import::Source) -> Vec<Vec<f32>> {
    let parameters = source.shape.parameters();
    parameters
        .iter()
        .map(|p| source.weights[&p.name].clone())
        .collect()
}

#[test]
fn a_gguf_file_is_the_network_that_it_was_made_from() {
    let world = World::new();
    let source = import::read(&world.llama_gguf(Mix::F32)).unwrap();
    assert!(source.autoregressive && !source.shift);
    assert_eq!(
        Shape {
            init: world.shape.init,
            ..source.shape.clone()
        },
        world.shape
    );
    assert!(weights_of(&source) == world.weights);
    let source = import::read(&world.llama_gguf(Mix::Q8_0)).unwrap();
    for (ours, exact) in weights_of(&source).iter().zip(&world.weights) {
        let largest = exact.iter().fold(0f32, |a, x| a.max(x.abs()));
        let error = ours
            .iter()
            .zip(exact)
            .fold(0f32, |a, (x, y)| a.max((x - y).abs()));
        assert!(error <= largest / 127.0, "{error} of {largest}");
    }
    // The authors' checkpoints, through the library's converter and back.
    for name in ["llada-tiny", "llada-gqa-tiny"] {
        let folder = vectors::vectors_dir().join("checkpoints").join(name);
        let file = world.at("llada.gguf");
        let options = ConvertOptions {
            policy: Policy {
                mix: Mix::F32,
                ..Policy::default()
            },
            overwrite: true,
            ..ConvertOptions::default()
        };
        convert(&folder, &file, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let (shape, weights) = import::read_folder(&folder).unwrap();
        let source = import::read(&file).unwrap();
        assert_eq!(source.shape, shape, "{name}");
        assert!(source.weights == weights && !source.autoregressive, "{name}");
    }
}

/// A configuration that begins with `init`, on the world's text.
fn config(world: &World, init: &Path, data: &Path, changes: &[&str]) -> Config {
    let text = format!(
        "seed = 2
        [data]
        train = ['{}']
        length = 32
        [objective]
        random_length = 0.0
        [optimizer]
        lr = 3e-3
        warmup = 5
        [run]
        init_from = '{}'
        tokenizer = '{}'
        steps = 30
        batch = 8
        eval_every = 0
        checkpoint_every = 1000",
        data.display(),
        init.display(),
        world.at("tok").display()
    );
    let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
    Config::parse(&text, &changes).unwrap()
}

fn losses(run: &mut Run) -> Vec<f64> {
    let mut losses = Vec::new();
    let end = run.train(&mut |event| {
        if let Event::Step(step) = event {
            losses.push(step.loss);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(end.unwrap(), End::Steps);
    losses
}

fn prepared(world: &World, name: &str) -> PathBuf {
    let folder = world.at(name);
    let options = PrepareOptions::default();
    prepare(
        &[world.at("text.txt")],
        &world.at("tok"),
        &folder,
        &options,
        &mut |_| (),
    )
    .unwrap();
    folder
}

#[test]
fn an_autoregressive_network_becomes_a_mask_predictor_and_says_that_it_is_shifted() {
    let world = World::new();
    let gguf = world.llama_gguf(Mix::F32);
    import::write_tokenizer(&gguf, "<mask>", &world.at("tok")).unwrap();
    let encoder = Encoder::open(&world.at("tok")).unwrap();
    let n = world.tokens.len();
    assert_eq!((encoder.n_vocab(), encoder.ids().mask as usize), (n + 1, n));
    assert_eq!(encoder.ids().eos as usize, n - 1);
    let text = "The cat sat on the mat";
    let plain = Tokenizer::from_json(
        &std::fs::read_to_string(world.at("trained/tokenizer.json")).unwrap(),
        SpecialIds::default(),
        1 << 20,
    )
    .unwrap();
    let ids = |t: &Tokenizer| t.encode(text, remask::text::Special::AsText).unwrap();
    assert_eq!(ids(encoder.tokenizer()), ids(&plain));

    let data = prepared(&world, "data");
    let changes = ["objective.shift=true", "objective.anneal=20"];
    let config = config(&world, &gguf, &data, &changes);
    let mut run = Run::open(&config, &world.at("run")).unwrap();
    // One row more: the mean of the others. The others are as they were.
    assert_eq!(run.config().model.vocab_size, n + 1);
    let found = losses(&mut run);
    assert!(
        found[25..].iter().sum::<f64>() < 0.8 * found[..5].iter().sum::<f64>(),
        "{found:?}"
    );
    let mut grown = import::read(&gguf).unwrap();
    grown.grow(encoder.tokenizer()).unwrap();
    let table = &grown.weights["model.transformer.wte.weight"];
    let d = world.shape.d_model;
    assert!(table[..n * d] == world.weights[0]);
    for (i, &x) in table[n * d..].iter().enumerate() {
        let mean: f64 = (0..n).map(|row| f64::from(table[row * d + i])).sum::<f64>() / n as f64;
        assert!((f64::from(x) - mean).abs() < 1e-7);
    }

    // The file says that predictions are shifted, and the runtime reads them so.
    let newest = checkpoint::find(&world.at("run")).unwrap();
    let (shape, mut weights) = import::read_folder(&newest).unwrap();
    let mut engine = Flex::new(&shape, Device::Cpu, 0).unwrap();
    let values = shape
        .parameters()
        .iter()
        .map(|p| weights.remove(&p.name).unwrap())
        .collect();
    engine.set_weights(values).unwrap();
    let output = world.at("model.gguf");
    let (_, difference) = export(&newest, &output, Mix::F32, false, &mut engine).unwrap();
    assert!(difference.relative < 1e-3, "{difference:?}");
    let model = Model::load(&output, &LoadOptions::default()).unwrap();
    assert!(model.sizes().shift_logits);
    assert_eq!(
        model.metadata().bool("diffusion.shift_logits").unwrap(),
        Some(true)
    );
    assert_eq!(model.mask_token() as usize, n);
    // And so does whoever begins with it.
    assert!(import::read(&output).unwrap().shift && import::read(&newest).unwrap().shift);
    let plain = Config {
        objective: Default::default(),
        ..config
    };
    for init in [newest, output] {
        let mut next = plain.clone();
        next.run.init_from = init;
        let error = Run::open(&next, &world.at("next")).err().unwrap();
        assert!(error.message().contains("objective.shift = true"), "{error}");
    }
}

/// The Hugging Face layout of the same network, its own tokenizer without a mask, and no `run.tokenizer`.
#[test]
fn a_folder_of_an_autoregressive_network_gives_its_tokenizer_a_mask() {
    let world = World::new();
    let gguf = world.llama_gguf(Mix::F32);
    let folder = world.at("hf");
    std::fs::create_dir(&folder).unwrap();
    import::write_tokenizer(&gguf, "<mask>", &world.at("tok")).unwrap();
    // The file as it was before the mask came.
    let json = ModelFile::open(&gguf, Residence::Map)
        .unwrap()
        .tokenizer()
        .unwrap()
        .to_json()
        .unwrap();
    std::fs::write(folder.join("tokenizer.json"), json).unwrap();
    let s = &world.shape;
    let text = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s.d_model,
        "num_hidden_layers": s.n_layers, "num_attention_heads": s.n_heads, "num_key_value_heads": s.n_kv_heads,
        "intermediate_size": s.mlp_hidden_size, "vocab_size": s.vocab_size, "max_position_embeddings": 64,
        "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 5000.0,
        "rope_type": "default"}, "hidden_act": "silu", "eos_token_id": s.vocab_size - 1, "rope_scaling": null,
    });
    std::fs::write(folder.join("config.json"), text.to_string()).unwrap();
    let llama = |name: &str| {
        let name = name.trim_start_matches("model.transformer.");
        let name = name.replace("blocks.", "layers.");
        [
            ("wte", "embed_tokens"),
            ("ln_f", "norm"),
            ("attn_norm", "input_layernorm"),
            ("ff_norm", "post_attention_layernorm"),
            ("q_proj", "self_attn.q_proj"),
            ("k_proj", "self_attn.k_proj"),
            ("v_proj", "self_attn.v_proj"),
            ("attn_out", "self_attn.o_proj"),
            ("ff_proj", "mlp.gate_proj"),
            ("up_proj", "mlp.up_proj"),
            ("ff_out", "mlp.down_proj"),
        ]
        .iter()
        .fold(format!("model.{name}"), |n, (from, to)| n.replace(from, to))
    };
    let bytes: Vec<Vec<u8>> = world
        .weights
        .iter()
        .map(|v| v.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let tensors = s.parameters().into_iter().zip(&bytes).map(|(p, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, p.dims, bytes).unwrap();
        (llama(&p.name), view)
    });
    safetensors::serialize_to_file(tensors, None, &folder.join("model.safetensors")).unwrap();

    let source = import::read(&folder).unwrap();
    assert!(source.autoregressive && weights_of(&source) == world.weights);
    let data = prepared(&world, "data");
    let mut config = config(&world, &folder, &data, &["objective.kind=causal", "run.steps=1"]);
    config.run.tokenizer = PathBuf::new();
    config.run.mask_token = "<mask>".to_owned();
    let mut run = Run::open(&config, &world.at("run")).unwrap();
    // The first loss is that of the network as it came.
    let found = losses(&mut run)[0];
    let mut engine = Flex::new(s, Device::Cpu, 9).unwrap();
    let encoder = Encoder::open(&world.at("tok")).unwrap();
    let text = std::fs::read_to_string(world.at("text.txt")).unwrap();
    let tokens = encoder
        .tokenizer()
        .encode(&text, remask::text::Special::AsText)
        .unwrap();
    let examples: Vec<Example> = tokens
        .chunks_exact(32)
        .map(|t| Example {
            tokens: t.to_vec(),
            n_prompt: 0,
        })
        .collect();
    let batch: Batch = causal(&examples[..8]);
    let expected = batch.loss(&engine.evaluate(&batch).unwrap().log_probs, &[]);
    assert!(
        (found - expected).abs() < 0.1 * expected,
        "{found} for {expected}"
    );
    // Another tokenizer is no more of the same.
    config.run.tokenizer = world.at("trained");
    let error = Run::open(&config, &world.at("other")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn an_adapter_beside_its_base_is_the_merged_model() {
    let world = World::new();
    let gguf = world.llama_gguf(Mix::F32);
    import::write_tokenizer(&gguf, "<mask>", &world.at("tok")).unwrap();
    let data = prepared(&world, "data");
    let changes = [
        "lora.rank=3",
        "lora.alpha=5.0",
        "objective.shift=true",
        "run.steps=8",
        "run.ema=0.5",
    ];
    let config = config(&world, &gguf, &data, &changes);
    losses(&mut Run::open(&config, &world.at("run")).unwrap());
    let newest = checkpoint::find(&world.at("run")).unwrap();
    let file = world.at("adapter.gguf");
    assert_eq!(export_adapter(&newest, &file, false).unwrap(), 14);
    let merged = world.at("merged.gguf");
    let options = ConvertOptions {
        policy: Policy {
            mix: Mix::F32,
            ..Policy::default()
        },
        ..ConvertOptions::default()
    };
    convert(&newest, &merged, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let open = |path: &Path| ModelFile::open(path, Residence::Map).unwrap();
    let (base, adapter, merged) = (open(&gguf), open(&file), open(&merged));
    let m = &adapter.gguf.metadata;
    assert_eq!(m.str("general.type").unwrap(), Some("adapter"));
    assert_eq!(m.str("adapter.type").unwrap(), Some("lora"));
    let alpha = m.f32("adapter.lora.alpha").unwrap().unwrap();
    let mut n = 0;
    for info in base
        .gguf
        .tensors
        .iter()
        .filter(|t| t.name.starts_with("blk.") && t.dims().len() == 2)
    {
        let [n_in, n_out] = [info.dims()[0] as usize, info.dims()[1] as usize];
        let (a, b) = (format!("{}.lora_a", info.name), format!("{}.lora_b", info.name));
        let rank = adapter.gguf.tensor(&a).unwrap().dims()[1] as usize;
        assert_eq!(
            adapter.gguf.tensor(&b).unwrap().dims(),
            [rank as u64, n_out as u64]
        );
        let (a, b) = (adapter.values(&a).unwrap(), adapter.values(&b).unwrap());
        let (w, sum) = (
            base.values(&info.name).unwrap(),
            merged.values(&info.name).unwrap(),
        );
        let mut moved = 0f32;
        for row in 0..n_out {
            for column in 0..n_in {
                let at = row * n_in + column;
                let product: f32 = (0..rank).map(|r| b[row * rank + r] * a[r * n_in + column]).sum();
                let expected = w[at] + alpha / rank as f32 * product;
                assert!(
                    (sum[at] - expected).abs() < 1e-6,
                    "{}: {} for {expected}",
                    info.name,
                    sum[at]
                );
                moved = moved.max((sum[at] - w[at]).abs());
            }
        }
        assert!(moved > 1e-5, "{}", info.name);
        n += 1;
    }
    assert_eq!((n, adapter.gguf.tensors.len()), (14, 28));
    let error = export_adapter(&newest, &file, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}
