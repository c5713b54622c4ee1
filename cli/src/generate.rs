//! `remask generate`

use std::io::{Read, Write};
use std::path::Path;

use remask::text::{ChatMessage, Special};
use remask::{Canvas, Error, GenerateParams, Model, Params};

use crate::args::GenerateArgs;
use crate::fill::{self, Show};
use crate::output::{Failure, Outcome, cancel_on_ctrl_c, invalid};

pub fn run(args: &GenerateArgs, quiet: bool) -> Outcome {
    let prompt = match (&args.prompt, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => read_prompt(path)?,
        (None, None) => return Err(invalid("give a prompt with -p or a file with -f")),
    };
    if prompt.is_empty() {
        return Err(invalid("the prompt is empty"));
    }
    if args.gen_length == 0 {
        return Err(invalid("--gen-length is 0; it must be 1 or more"));
    }
    let mut session = fill::open(&args.model, quiet)?;
    let model = session.model().clone();
    let tokens = if args.raw || model.chat_template().is_none() {
        raw_prompt(&model, &prompt)?
    } else {
        let mut messages = Vec::new();
        messages.extend(args.system.iter().map(|s| ChatMessage::new("system", s)));
        messages.push(ChatMessage::new("user", prompt));
        chat_prompt(&model, &messages)?
    };
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&tokens);
    canvas.push_masked(args.gen_length)?;
    let mut params = GenerateParams {
        denoise: Params {
            stop_at_eos: !args.full && has_end(&model),
            ..args.policy.params()
        },
        stop: args.stop.clone(),
        cancel: None,
    };
    let cancel = cancel_on_ctrl_c();
    let show = Show::new(&args.show, quiet, tokens.len());
    let cancelled = fill::run(&mut session, &mut canvas, &mut params, &show, &cancel)?;
    if !args.show.json {
        let response = canvas.tokens().get(tokens.len()..).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{}",
            model.tokenizer().decode(&filled(&model, response), false)
        )?;
    }
    if cancelled {
        Err(Failure::Cancelled)
    } else {
        Ok(())
    }
}

/// Tokens without the slots that are still masked.
pub fn filled(model: &Model, tokens: &[u32]) -> Vec<u32> {
    tokens
        .iter()
        .copied()
        .filter(|&t| t != model.mask_token())
        .collect()
}

/// Whether the model has a token that ends a text.
pub fn has_end(model: &Model) -> bool {
    let specials = model.tokenizer().specials();
    specials.eos.is_some() || specials.eot.is_some()
}

/// A prompt as it is, with the begin-of-text token where the model wants one.
pub fn raw_prompt(model: &Model, text: &str) -> Result<Vec<u32>, Error> {
    let tokenizer = model.tokenizer();
    let mut tokens = Vec::new();
    if tokenizer.add_bos() {
        tokens.extend(tokenizer.specials().bos);
    }
    tokens.extend(tokenizer.encode(text, Special::AsText)?);
    fill::require_text(&tokens, "the prompt")?;
    Ok(tokens)
}

/// A conversation, up to where the answer begins.
pub fn chat_prompt(model: &Model, messages: &[ChatMessage]) -> Result<Vec<u32>, Failure> {
    let Some(template) = model.chat_template() else {
        return Err(invalid(
            "this model has no chat template; use `remask generate --raw`",
        ));
    };
    let options = model.chat_options(true);
    Ok(template.encode(model.tokenizer(), messages, &options)?)
}

/// Largest prompt file.
const MAX_PROMPT: u64 = 64 << 20;

fn read_prompt(path: &Path) -> Result<String, Failure> {
    let named = |e: std::io::Error| Failure::Error(Error::from(e).context(path.display()));
    let mut text = String::new();
    let n = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_PROMPT + 1)
            .read_to_string(&mut text)
            .map_err(named)?
    } else {
        let file = std::fs::File::open(path).map_err(named)?;
        file.take(MAX_PROMPT + 1)
            .read_to_string(&mut text)
            .map_err(named)?
    };
    if n as u64 > MAX_PROMPT {
        return Err(invalid(format!(
            "{}: the prompt is larger than 64 MiB",
            path.display()
        )));
    }
    Ok(text.trim_end_matches('\n').to_owned())
}
