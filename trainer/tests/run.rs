//! Whole runs, small: from texts to a model that the runtime loads, and what may go wrong on the way.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remask::quantize::Mix;
use remask::{ErrorKind, LoadOptions, Model};
use remask_trainer::checkpoint;
use remask_trainer::config::{Config, PRESETS, REFERENCE};
use remask_trainer::data::{
    Encoder, Loader, PrepareOptions, Shard, ShardWriter, Unit, prepare, train_tokenizer,
};
use remask_trainer::engine::{Device, Engine, Flex};
use remask_trainer::export::export;
use remask_trainer::objective::Example;
use remask_trainer::run::{End, Event, Run};

struct Folder(tempfile::TempDir);

impl Folder {
    /// Texts, a tokenizer and prepared data.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut text = std::fs::File::create(folder.at("texts.jsonl")).unwrap();
        let mut pairs = std::fs::File::create(folder.at("pairs.jsonl")).unwrap();
        for i in 0..200 {
            let animal = ["cat", "dog", "hen", "fox"][i % 4];
            let place = ["mat", "log", "pen", "box"][i % 4];
            writeln!(
                text,
                r#"{{"text": "The {animal} sat on the {place}. It was the {animal}'s {place}."}}"#
            )
            .unwrap();
            writeln!(
                pairs,
                r#"{{"prompt": "Where did the {animal} sit?", "response": "On the {place}."}}"#
            )
            .unwrap();
        }
        drop((text, pairs));
        let files = [folder.at("texts.jsonl"), folder.at("pairs.jsonl")];
        train_tokenizer(&files, 320, &folder.at("tok")).unwrap();
        for (file, to) in [("texts", "data"), ("pairs", "sft")] {
            let file = folder.at(&format!("{file}.jsonl"));
            prepare(
                &[file],
                &folder.at("tok"),
                &folder.at(to),
                &PrepareOptions::default(),
                &mut |_| (),
            )
            .unwrap();
        }
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, changes: &[&str]) -> Config {
        let path = |name: &str| self.at(name).display().to_string();
        let text = format!(
            r#"
            seed = 3
            [model]
            d_model = 32
            n_layers = 2
            n_heads = 2
            mlp_hidden_size = 64
            max_sequence_length = 128
            [data]
            train = ['{}']
            eval = '{}'
            length = 24
            [optimizer]
            lr = 1e-2
            warmup = 2
            [run]
            tokenizer = '{}'
            steps = 6
            batch = 4
            micro_batch = 2
            eval_every = 0
            checkpoint_every = 3
            ema = 0.9
            "#,
            path("data"),
            path("data"),
            path("tok")
        );
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        Config::parse(&text, &changes).unwrap()
    }
}

fn quiet(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn state(folder: &Path, step: u64) -> Vec<u8> {
    std::fs::read(folder.join(checkpoint::name(step)).join("trainer.safetensors")).unwrap()
}

#[test]
fn a_run_that_was_interrupted_ends_at_the_same_bits() {
    let folder = Folder::new();
    for changes in [
        &[][..],
        &[
            "objective.times=uniform",
            "objective.random_length=0.5",
            "objective.keywords=0.5",
        ],
        &["objective.kind=causal"],
        &["objective.anneal=4", "objective.shift=true"],
        &["data.across_documents=false"],
        &["lora.rank=2"],
    ] {
        let config = folder.config(changes);
        let (whole, parts) = (folder.at("whole"), folder.at("parts"));
        assert_eq!(
            Run::open(&config, &whole).unwrap().train(&mut quiet).unwrap(),
            End::Steps
        );
        // Ends after the fourth update, then goes on.
        let mut run = Run::open(&config, &parts).unwrap();
        let end = run.train(&mut |event| match event {
            Event::Step(s) if s.step == 4 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        assert_eq!(end.unwrap(), End::Asked);
        drop(run);
        let mut run = Run::open(&config, &parts).unwrap();
        assert_eq!(run.step(), 4);
        run.train(&mut quiet).unwrap();
        assert_eq!(state(&whole, 6), state(&parts, 6), "{changes:?}");
        let lines = std::fs::read_to_string(parts.join("metrics.jsonl")).unwrap();
        assert_eq!(lines.lines().count(), 6);
        for folder in [whole, parts] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn a_run_learns_and_its_file_writes_what_it_learned() {
    let folder = Folder::new();
    let config = folder.config(&[
        "run.steps=500",
        "run.batch=8",
        "run.micro_batch=8",
        "run.eval_every=250",
        "run.checkpoint_every=250",
    ]);
    let mut run = Run::open(&config, &folder.at("run")).unwrap();
    let (mut first, mut bounds) = (None, Vec::new());
    run.train(&mut |event| {
        match event {
            Event::Step(s) => first = first.or(Some(s.loss)),
            Event::Evaluated { bound, .. } => bounds.push(bound),
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let first = first.unwrap();
    assert!(first > 5.0 && bounds.len() == 2, "{first} {bounds:?}");
    assert!(bounds[1] < 0.25 * first, "{first} {bounds:?}");

    let newest = checkpoint::find(&folder.at("run")).unwrap();
    let (shape, mut weights) = remask_trainer::import::read_folder(&newest).unwrap();
    let mut engine = Flex::new(&shape, Device::Cpu, 0).unwrap();
    let states = shape
        .parameters()
        .into_iter()
        .map(|p| remask_trainer::optim::State {
            values: weights.remove(&p.name).unwrap(),
            ..Default::default()
        });
    engine.set_state(states.collect()).unwrap();
    for mix in [Mix::F32, Mix::F16, Mix::Q8_0] {
        let output = folder.at("model.gguf");
        let (_, difference) = export(&newest, &output, mix, true, &mut engine).unwrap();
        assert!(difference.agreement > 0.9, "{} {difference:?}", mix.name());
        let model = Model::load(&output, &LoadOptions::default()).unwrap();
        assert_eq!(
            model.tokenizer().token_text(model.mask_token()),
            Some("<|mdm_mask|>")
        );
        assert!(model.chat_template().is_some());
    }
    let text = remask_trainer::sample::write(&newest, "The cat sat on", 8).unwrap();
    assert!(text.contains("mat"), "{text}");
    // Another network's logits are refused, and the file stays.
    let before = std::fs::read(folder.at("model.gguf")).unwrap();
    let mut other = Flex::new(&shape, Device::Cpu, 1).unwrap();
    let error = export(&newest, &folder.at("model.gguf"), Mix::F32, true, &mut other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric, "{error}");
    assert_eq!(std::fs::read(folder.at("model.gguf")).unwrap(), before);

    // Answers can be learned from there.
    let sft = format!("data.train=['{}']", folder.at("sft").display());
    let eval = format!("data.eval='{}'", folder.at("sft").display());
    let init = format!("run.init_from='{}'", folder.at("run").display());
    let config = folder.config(&[
        &sft,
        &eval,
        &init,
        "objective.kind=sft",
        "data.length=64",
        "run.steps=20",
    ]);
    let mut run = Run::open(&config, &folder.at("tuned")).unwrap();
    let before = run.bound().unwrap().unwrap().0;
    run.train(&mut quiet).unwrap();
    let after = run.bound().unwrap().unwrap().0;
    assert!(after < 0.8 * before, "{after} for {before}");
}

fn refused(folder: &Folder, changes: &[&str], run: &str) -> remask::Error {
    match Run::open(&folder.config(changes), &folder.at(run)) {
        Err(e) => e,
        Ok(_) => panic!("{changes:?} was taken"),
    }
}

#[test]
fn what_would_change_a_run_is_refused() {
    let folder = Folder::new();
    Run::open(&folder.config(&["run.steps=3"]), &folder.at("run"))
        .unwrap()
        .train(&mut quiet)
        .unwrap();
    for (change, key) in [
        ("seed=4", "seed"),
        ("optimizer.lr=1e-3", "[optimizer]"),
        ("model.d_model=64", "[model]"),
        ("data.length=16", "[data]"),
        ("run.steps=9", "run.steps"),
    ] {
        let error = refused(&folder, &["run.steps=3", change], "run");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{change}: {error}");
        assert!(error.message().contains(key), "{change}: {error}");
    }
    // What changes nothing is taken.
    Run::open(
        &folder.config(&["run.steps=3", "run.keep=9", "run.checkpoint_every=1"]),
        &folder.at("run"),
    )
    .unwrap();
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::new();
    for (change, kind, word) in [
        ("run.tokenizer=''", ErrorKind::InvalidArgument, "run.tokenizer"),
        ("run.tokenizer='/nowhere'", ErrorKind::Io, "/nowhere"),
        ("data.train=[]", ErrorKind::InvalidArgument, "data.train"),
        ("data.train=['/nowhere']", ErrorKind::Io, "/nowhere"),
        ("data.length=4096", ErrorKind::InvalidArgument, "data.length"),
        ("model.n_heads=3", ErrorKind::InvalidArgument, "model.n_heads"),
        (
            "model.vocab_size=100",
            ErrorKind::InvalidArgument,
            "model.vocab_size",
        ),
        ("run.device=toaster", ErrorKind::InvalidArgument, "toaster"),
        ("run.init_from='/nowhere'", ErrorKind::Io, "/nowhere"),
    ] {
        let error = refused(&folder, &[change], "new");
        assert_eq!(error.kind(), kind, "{change}: {error}");
        assert!(error.message().contains(word), "{change}: {error}");
        assert!(!error.message().contains('\n'), "{change}: {error}");
    }
    for (text, word) in [
        ("[model]\nd_modell = 3", "d_modell"),
        ("[optimizer]\nlr = -1.0", "optimizer.lr"),
        ("[optimizer]\nlr = 'fast'", "line 2"),
        ("[run]\nbatch = 0", "run.batch"),
        ("[objective]\nkind = 'gan'", "gan"),
        ("[objective]\neps = 2.0", "objective.eps"),
    ] {
        let error = Config::parse(text, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(word), "{text}: {error}");
    }
    let error = Config::parse("", &["run.bach=3".to_owned()]).unwrap_err();
    assert!(error.message().contains("bach"), "{error}");
    // Data of another tokenizer.
    train_tokenizer(&[folder.at("pairs.jsonl")], 300, &folder.at("other")).unwrap();
    let other = format!("run.tokenizer='{}'", folder.at("other").display());
    let error = refused(&folder, &[&other], "new");
    assert!(error.message().contains("another tokenizer"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_loses_nothing() {
    let folder = Folder::new();
    let mut run = Run::open(
        &folder.config(&[
            "optimizer.lr=1e30",
            "optimizer.warmup=0",
            "optimizer.grad_clip=0.0",
            "run.checkpoint_every=1",
        ]),
        &folder.at("run"),
    )
    .unwrap();
    let error = run.train(&mut quiet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric, "{error}");
    assert!(
        error.message().contains("step ") && error.message().contains("epoch"),
        "{error}"
    );
    let left = checkpoint::list(&folder.at("run"));
    assert!(!left.is_empty());
}

#[test]
fn a_shard_that_vanished_or_was_cut_is_named() {
    let folder = Folder::new();
    let shard = folder.at("data").join("shard-00000.tokens");
    let bytes = std::fs::read(&shard).unwrap();
    for (content, kind) in [
        (Some(&bytes[..bytes.len() - 2]), ErrorKind::Data),
        (Some(&bytes[..20]), ErrorKind::Data),
        (Some(&b"not a shard at all, but long enough"[..]), ErrorKind::Data),
        (None, ErrorKind::Io),
    ] {
        match content {
            Some(content) => std::fs::write(&shard, content).unwrap(),
            None => std::fs::remove_file(&shard).unwrap(),
        }
        let error = refused(&folder, &[], "new");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains("shard-00000"), "{error}");
    }
}

/// What is open stays readable when its name goes; what is cut off is named, and the checkpoint before it
/// is where the run goes on.
#[test]
fn a_shard_that_is_cut_while_training_stops_the_run_and_loses_nothing() {
    let folder = Folder::new();
    let config = folder.config(&["run.checkpoint_every=1", "run.steps=40"]);
    let shard = folder.at("data").join("shard-00000.tokens");
    let bytes = std::fs::read(&shard).unwrap();
    let mut run = Run::open(&config, &folder.at("run")).unwrap();
    let error = run
        .train(&mut |event| {
            if let Event::Step(step) = event
                && step.step == 2
            {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&shard)
                    .unwrap()
                    .set_len(bytes.len() as u64 / 4)
                    .unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(
        error.message().contains("shard-00000") && error.message().contains("cut off"),
        "{error}"
    );
    assert!(!error.message().contains('\n'));
    drop(run);
    // Whole again, it ends as if nothing had been.
    std::fs::write(&shard, &bytes).unwrap();
    let mut run = Run::open(&config, &folder.at("run")).unwrap();
    assert!(run.step() >= 2);
    run.train(&mut quiet).unwrap();
    Run::open(&config, &folder.at("whole"))
        .unwrap()
        .train(&mut quiet)
        .unwrap();
    assert_eq!(state(&folder.at("run"), 40), state(&folder.at("whole"), 40));
    // A vanished one was opened before; the next run names it.
    let gone = folder.config(&["run.steps=3", "run.checkpoint_every=9"]);
    let mut run = Run::open(&gone, &folder.at("gone")).unwrap();
    run.train(&mut |event| {
        if let Event::Step(step) = event
            && step.step == 1
        {
            std::fs::remove_file(&shard).unwrap();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let error = refused(&folder, &[], "next");
    assert!(error.message().contains("shard-00000"), "{error}");
}

#[test]
fn a_shard_gives_back_what_was_put_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tokens");
    for n_vocab in [300, 1 << 17] {
        let documents: Vec<Example> = (0..50)
            .map(|i| Example {
                tokens: (0..i * 3 % 17 + 1).map(|j| (i * 31 + j * 7) % 300).collect(),
                n_prompt: (i % 2) as usize,
            })
            .collect();
        let mut writer = ShardWriter::new(n_vocab);
        documents.iter().for_each(|d| writer.push(d));
        writer.finish(&path).unwrap();
        let shard = Shard::open(&path).unwrap();
        let back: Vec<Example> = (0..50).map(|i| shard.document(i).unwrap()).collect();
        assert_eq!(back, documents);
        let all: Vec<u32> = documents.iter().flat_map(|d| d.tokens.clone()).collect();
        assert_eq!(shard.tokens(0, all.len()).unwrap(), all);
        assert_eq!(shard.document_of(0), 0);
        assert_eq!(shard.document_of(all.len() as u64 - 1), 49);
    }
}

#[test]
fn every_sequence_is_read_once_and_a_place_is_found_again() {
    let folder = Folder::new();
    let mut loader = Loader::open(&[folder.at("sft")], 64, Unit::Example, 5).unwrap();
    let n = loader.n_sequences();
    assert_eq!(n, 200);
    let mut all = Vec::new();
    let mut middle = None;
    for i in 0..n {
        if i == 77 {
            middle = Some(loader.position());
        }
        all.push(loader.next_examples().unwrap().0.swap_remove(0));
    }
    loader.seek(middle.unwrap());
    assert_eq!(loader.next_examples().unwrap().0.swap_remove(0), all[77]);
    let mut counts = std::collections::BTreeMap::new();
    all.iter()
        .for_each(|e| *counts.entry(e.tokens.clone()).or_insert(0) += 1);
    assert!(
        counts.values().all(|&n| n == 50) && counts.len() == 4,
        "{counts:?}"
    );
    let (batch, _) = loader.next_batch(3, 0).unwrap();
    assert!(
        batch
            .iter()
            .all(|e| e.tokens.len() == batch[0].tokens.len() && e.n_prompt > 0)
    );
}

#[test]
fn texts_come_compressed_and_as_conversations_and_may_be_left_out() {
    let folder = Folder::new();
    let line =
        br#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "So long"}]}"#;
    let line: Vec<u8> = line.iter().copied().filter(|&b| b != b'\n').collect();
    let gz = folder.at("chat.jsonl.gz");
    let mut out =
        flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    out.write_all(&line).unwrap();
    out.finish().unwrap();
    let zst = folder.at("plain.txt.zst");
    std::fs::write(
        &zst,
        zstd::encode_all(&b"The fox sat on the box, and so on and on it went."[..], 1).unwrap(),
    )
    .unwrap();
    let options = PrepareOptions::default();
    let done = prepare(
        &[gz.clone(), zst.clone()],
        &folder.at("tok"),
        &folder.at("mixed"),
        &options,
        &mut |_| (),
    )
    .unwrap();
    // Two answers, one text.
    assert_eq!(done.manifest.n_documents(), 3);
    let encoder = Encoder::open(&folder.at("tok")).unwrap();
    let shard = Shard::open(&folder.at("mixed").join("shard-00000.tokens")).unwrap();
    let second = shard.document(1).unwrap();
    assert_eq!(second.tokens.last(), Some(&encoder.ids().eos));
    assert!(second.n_prompt > shard.document(0).unwrap().n_prompt);

    let options = PrepareOptions {
        exclude: vec![zst.clone()],
        ngram: 5,
        ..PrepareOptions::default()
    };
    let done = prepare(
        &[folder.at("texts.jsonl"), gz],
        &folder.at("tok"),
        &folder.at("clean"),
        &options,
        &mut |_| (),
    )
    .unwrap();
    // The fox of every fourth text.
    assert_eq!(done.n_excluded, 50);
    let error = prepare(
        &[zst],
        &folder.at("tok"),
        &folder.at("clean"),
        &options,
        &mut |_| (),
    )
    .unwrap_err();
    assert!(error.message().contains("already"), "{error}");
}

#[test]
fn presets_and_the_reference_are_read() {
    assert_eq!(Config::parse(REFERENCE, &[]).unwrap(), Config::default());
    for (name, _, _) in PRESETS {
        Config::read(name, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // Every key is described: what serialising gives is in the text.
    for line in Config::default().to_text().lines().filter(|l| l.contains('=')) {
        let key = line.split('=').next().unwrap().trim();
        let described = REFERENCE
            .lines()
            .any(|l| l.split('=').next().map(str::trim) == Some(key));
        assert!(described, "{key}");
    }
}
