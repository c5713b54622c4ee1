//! Remask from Rust: generate with live steps, fill in holes, score.
//!
//!     remask_example generate MODEL "prompt"
//!     remask_example infill   MODEL "The [[4]] sat on the [[3]]."
//!     remask_example score    MODEL "prompt" " continuation" " another" ...

use std::ops::ControlFlow;
use std::process::ExitCode;

use remask::score::{Method, choose};
use remask::text::{Piece, Special, parse_holes};
use remask::{Canvas, Error, ErrorKind, GenerateParams, LoadOptions, Model, Result, Session, SessionOptions};

/// Fills the masked slots of `canvas`, shows each step, and prints the text.
fn fill(session: &mut Session, canvas: &mut Canvas) -> Result<()> {
    let model = session.model().clone();
    session.generate(canvas, &GenerateParams::default(), |report, _canvas| {
        let step = &report.sequences[0];
        eprint!("step {}, {} left:", step.step, step.n_masked);
        for change in &step.changed {
            let text = model.tokenizer().decode(&[change.token], true);
            eprint!(" [{}]{text} ({:.2})", change.slot, change.confidence);
        }
        eprintln!();
        ControlFlow::Continue(())
    })?;
    println!("{}", model.tokenizer().decode(canvas.tokens(), false));
    Ok(())
}

fn generate(session: &mut Session, prompt: &str) -> Result<()> {
    let model = session.model();
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&model.tokenizer().encode(prompt, Special::AsText)?);
    canvas.push_masked(16)?;
    fill(session, &mut canvas)
}

fn infill(session: &mut Session, text: &str) -> Result<()> {
    let model = session.model();
    let mut canvas = Canvas::new(model.mask_token());
    for piece in parse_holes(text)? {
        match piece {
            Piece::Text(text) => canvas.push_fixed(&model.tokenizer().encode(&text, Special::AsText)?),
            Piece::Hole(n) => canvas.push_masked(n)?,
            Piece::Open => {
                let message = "this example wants holes of a known size, such as [[4]]";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
    }
    fill(session, &mut canvas)
}

fn score(session: &mut Session, prompt: &str, continuations: &[String]) -> Result<()> {
    let model = session.model().clone();
    let encode = |text: &str| model.tokenizer().encode(text, Special::AsText);
    let choices: Vec<_> = continuations.iter().map(|c| encode(c)).collect::<Result<_>>()?;
    let choices: Vec<&[u32]> = choices.iter().map(Vec::as_slice).collect();
    let found = choose(
        session,
        &encode(prompt)?,
        &choices,
        model.mask_token(),
        &Method::Pseudo,
    )?;
    for (i, text) in continuations.iter().enumerate() {
        let mark = if i == found.best { '*' } else { ' ' };
        let (nats, share) = (found.scores[i].log_likelihood, 100.0 * found.probabilities[i]);
        println!("{mark} {nats:8.3} nats, {share:5.1} %:{text}");
    }
    Ok(())
}

fn run(args: &[String]) -> Result<()> {
    let usage = || {
        let message = "usage: remask_example generate|infill|score MODEL TEXT...";
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let [command, model, text, rest @ ..] = args else {
        return Err(usage());
    };
    let model = Model::load(model, &LoadOptions::default())?;
    let mut session = Session::new(&model, &SessionOptions::default())?;
    match command.as_str() {
        "generate" => generate(&mut session, text),
        "infill" => infill(&mut session, text),
        "score" => score(&mut session, text, rest),
        _ => Err(usage()),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
