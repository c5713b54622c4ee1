//! `cargo xtask train-demo`: from texts to a model of one's own, in five minutes.

use std::fmt::Write;
use std::path::Path;

use crate::Outcome;

/// Sentences of a little world whose rules a small model can find out, and questions about them.
struct World {
    state: u64,
}

const ANIMALS: &[(&str, &str)] = &[
    ("cat", "meow"),
    ("dog", "woof"),
    ("cow", "moo"),
    ("duck", "quack"),
    ("sheep", "baa"),
    ("crow", "caw"),
    ("pig", "oink"),
    ("owl", "hoot"),
];
const COLORS: &[&str] = &["black", "white", "brown", "gray", "red", "golden"];
const PLACES: &[&str] = &[
    "barn", "hill", "river", "garden", "road", "forest", "old mill", "bridge",
];
const FRIENDS: &[&str] = &["Anna", "Tom", "Mary", "Peter", "Lucy", "John"];
const FOODS: &[&str] = &["bread", "an apple", "some cheese", "a carrot", "corn", "a pear"];

impl World {
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        // splitmix64
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        list[((z ^ (z >> 31)) % list.len() as u64) as usize]
    }

    /// A story, a question about it and the answer.
    fn story(&mut self) -> (String, String, String) {
        let (animal, sound) = self.pick(ANIMALS);
        let (color, place, friend) = (self.pick(COLORS), self.pick(PLACES), self.pick(FRIENDS));
        let food = self.pick(FOODS);
        let article = if animal == "owl" { "An" } else { "A" };
        let text = match self.pick(&[0, 1, 2]) {
            0 => format!(
                "Once upon a time {friend} met a {color} {animal} near the {place}. The {animal} said {sound}. \
                 {friend} gave it {food}, and they were friends."
            ),
            1 => format!(
                "{article} {animal} lived near the {place}. It was {color}. Every day {friend} came with {food}, and the \
                 {animal} said {sound}."
            ),
            _ => format!(
                "{friend} had {food} and went to the {place}. There was a {color} {animal}. It said {sound}, and \
                 {friend} laughed."
            ),
        };
        let (question, answer) = match self.pick(&[0, 1, 2, 3]) {
            0 => (
                format!("What does a {animal} say?"),
                format!("A {animal} says {sound}."),
            ),
            1 => (
                format!("{text} What color was the {animal}?"),
                format!("The {animal} was {color}."),
            ),
            2 => (format!("{text} Who was there?"), format!("{friend} was there.")),
            _ => (
                format!("Who says {sound}?"),
                format!("The {animal} says {sound}."),
            ),
        };
        (text, question, answer)
    }
}

pub fn run() -> Outcome {
    let cargo = crate::cargo();
    crate::run(
        &cargo,
        &[
            "build",
            "--release",
            "--package",
            "remask-trainer",
            "--package",
            "remask-cli",
        ],
    )?;
    let target = crate::root().join(crate::demo::target());
    let program = |name: &str| target.join("release").join(name).to_string_lossy().into_owned();
    let (train, remask) = (program("remask-train"), program("remask"));
    let folder = target.join("train-demo");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    println!("\n-- texts: 6000 stories of a little world, and questions about them --");
    write_texts(&folder)?;
    let (texts, pairs) = (at("texts.jsonl"), at("pairs.jsonl"));
    let (held, questions) = (at("held.jsonl"), at("questions.jsonl"));
    crate::run(
        &train,
        &[
            "tokenizer",
            "--vocab-size",
            "512",
            "-o",
            &at("tok"),
            &texts,
            &pairs,
        ],
    )?;
    for (to, file) in [
        ("data", &texts),
        ("sft", &pairs),
        ("heldout", &held),
        ("heldout-sft", &questions),
    ] {
        crate::run(
            &train,
            &["prepare", "--tokenizer", &at("tok"), "-o", &at(to), file],
        )?;
    }
    let network = "
        [model]
        d_model = 128
        n_layers = 4
        n_heads = 4
        mlp_hidden_size = 384
        max_sequence_length = 256
        ";
    let pretrain = format!(
        "{network}
        [data]
        train = [{:?}]
        eval = {:?}
        length = 64
        [optimizer]
        lr = 3e-3
        decay = 0.4
        [run]
        tokenizer = {:?}
        steps = 1500
        batch = 16
        eval_every = 500
        checkpoint_every = 500
        prompts = [\"Once upon a time\"]
        ",
        at("data"),
        at("heldout"),
        at("tok")
    );
    // Stories go on being told beside the questions, or they would be forgotten.
    let sft = format!(
        "[data]
        train = [{:?}, {:?}]
        eval = {:?}
        length = 128
        [objective]
        kind = \"sft\"
        [optimizer]
        lr = 1e-3
        decay = 0.4
        warmup = 20
        [run]
        init_from = {:?}
        steps = 800
        batch = 16
        eval_every = 400
        checkpoint_every = 400
        ",
        at("sft"),
        at("data"),
        at("heldout-sft"),
        at("pretrained")
    );
    for (name, config, title) in [
        ("pretrained", pretrain, "pretraining: every token may be masked"),
        ("tuned", sft, "fine-tuning: of questions only answers are"),
    ] {
        println!("\n-- {title} --");
        let file = at(&format!("{name}.toml"));
        std::fs::write(&file, config).map_err(|e| format!("{file}: {e}"))?;
        crate::run(&train, &["run", &file, "-o", &at(name), "--log-every", "100"])?;
    }
    println!("\n-- export: one file, checked in the runtime --");
    let model = at("model.gguf");
    crate::run(&train, &["export", &at("tuned"), "-o", &model, "--type", "q8_0"])?;
    let curves = at("curves.svg");
    crate::run(&train, &["plot", &at("pretrained"), "-o", &curves])?;
    println!("\n-- and it writes --");
    let question = "What does a duck say?";
    crate::run(
        &remask,
        &[
            "generate", "-m", &model, "-p", question, "-n", "16", "--steps", "8",
        ],
    )?;
    let question = "Anna met a golden sheep near the river. What color was the sheep?";
    crate::run(
        &remask,
        &[
            "generate", "-m", &model, "-p", question, "-n", "16", "--visual", "--delay", "80",
        ],
    )?;
    crate::run(
        &remask,
        &[
            "infill",
            "-m",
            &model,
            "Once upon a time Tom met a[[1]] cow near the river. The cow said[[1]].",
        ],
    )?;
    println!("\n{model} is the model, {curves} its curves.");
    Ok(())
}

/// `n` freshly drawn questions and their answers, or beginnings of stories and how they go on, as JSON
/// lines. Seeds other than 1 were not trained on.
pub fn questions(seed: u64, n: usize, stories: bool) -> String {
    let mut world = World { state: seed };
    let mut lines = String::new();
    for _ in 0..n {
        let (text, question, answer) = world.story();
        let cut = text.match_indices(' ').nth(4).map_or(text.len(), |(i, _)| i);
        let (prompt, response) = match stories {
            true => text.split_at(cut),
            false => (question.as_str(), answer.as_str()),
        };
        let _ = writeln!(lines, "{{\"prompt\": {prompt:?}, \"response\": {response:?}}}");
    }
    lines
}

fn write_texts(folder: &Path) -> Outcome {
    let mut world = World { state: 1 };
    let [mut texts, mut pairs, mut held, mut questions] = [const { String::new() }; 4];
    for i in 0..6300 {
        let (text, question, answer) = world.story();
        let (text_to, pair_to) = match i < 6000 {
            true => (&mut texts, &mut pairs),
            false => (&mut held, &mut questions),
        };
        let _ = writeln!(text_to, "{{\"text\": {text:?}}}");
        let _ = writeln!(pair_to, "{{\"prompt\": {question:?}, \"response\": {answer:?}}}");
    }
    for (name, content) in [
        ("texts", texts),
        ("pairs", pairs),
        ("held", held),
        ("questions", questions),
    ] {
        let path = folder.join(format!("{name}.jsonl"));
        std::fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
