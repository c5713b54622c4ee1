//! `remask chat`

use std::io::{BufRead, IsTerminal, Write};
use std::ops::ControlFlow;

use remask::text::{ChatMessage, TokenKind};
use remask::{CancelToken, Canvas, ErrorKind, GenerateParams, Params, Session, Slot};

use crate::args::ChatArgs;
use crate::fill;
use crate::generate::{chat_prompt, filled, has_end};
use crate::output::{Failure, Outcome, cancel_on_ctrl_c, invalid, note};
use crate::visual::Painter;

const HELP: &str = "\
/help           this text
/reset          forget the conversation
/system TEXT    say what the model is to be, and forget the conversation
/length N       tokens of an answer
/quit           end";

struct Chat {
    session: Session,
    messages: Vec<ChatMessage>,
    gen_length: usize,
    params: GenerateParams,
    cancel: CancelToken,
    visual: bool,
}

pub fn run(args: &ChatArgs, quiet: bool) -> Outcome {
    if args.gen_length == 0 {
        return Err(invalid("--gen-length is 0; it must be 1 or more"));
    }
    let session = fill::open(&args.model, quiet)?;
    if session.model().chat_template().is_none() {
        return Err(invalid(
            "this model has no chat template; use `remask generate --raw`",
        ));
    }
    let cancel = cancel_on_ctrl_c();
    let denoise = Params {
        stop_at_eos: has_end(session.model()),
        ..args.policy.params()
    };
    let params = GenerateParams {
        denoise,
        cancel: Some(cancel.clone()),
        ..GenerateParams::default()
    };
    let messages = args
        .system
        .iter()
        .map(|s| ChatMessage::new("system", s))
        .collect();
    let mut chat = Chat {
        session,
        messages,
        gen_length: args.gen_length,
        params,
        cancel,
        visual: args.visual,
    };
    let people = std::io::stdin().is_terminal();
    if people && !quiet {
        note!("/help for help, Ctrl-D to end");
    }
    let mut line = String::new();
    loop {
        if people {
            write!(std::io::stdout(), "> ")?;
            std::io::stdout().flush()?;
        }
        line.clear();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        if let Some(command) = text.strip_prefix('/') {
            if chat.command(command)?.is_break() {
                return Ok(());
            }
        } else {
            chat.turn(text)?;
        }
    }
}

impl Chat {
    fn command(&mut self, command: &str) -> Result<ControlFlow<()>, Failure> {
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        match word {
            "help" => writeln!(std::io::stdout(), "{HELP}")?,
            "quit" | "exit" => return Ok(ControlFlow::Break(())),
            "reset" => self.messages.retain(|m| m.role == "system"),
            "system" => self.messages = vec![ChatMessage::new("system", rest.trim())],
            "length" => match rest.trim().parse::<usize>() {
                Ok(n) if n > 0 => self.gen_length = n,
                _ => note!("remask: /length needs a number from 1 on"),
            },
            _ => note!("remask: /{word} is no command; /help lists them"),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One question and its answer. What goes wrong with one is said, and the chat goes on.
    fn turn(&mut self, text: &str) -> Outcome {
        self.cancel.reset();
        self.messages.push(ChatMessage::new("user", text));
        match self.answer() {
            Ok(answer) => self.messages.push(ChatMessage::new("assistant", answer)),
            Err(Failure::Error(error)) => {
                self.messages.pop();
                note!("remask: {error}");
                if error.kind() == ErrorKind::InvalidArgument {
                    note!("remask: /reset forgets the conversation and makes room");
                }
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let model = self.session.model().clone();
        let prompt = chat_prompt(&model, &self.messages)?;
        let mut canvas = Canvas::new(model.mask_token());
        canvas.push_fixed(&prompt);
        canvas.push_masked(self.gen_length)?;
        let mut painter = self
            .visual
            .then(|| Painter::new(model.tokenizer(), prompt.len(), std::time::Duration::ZERO));
        let mut stream = model.tokenizer().stream(false);
        let mut shown = 0;
        let mut failed = None;
        let outcome = self.session.generate(&mut canvas, &self.params, |report, now| {
            let response = now.slots().get(prompt.len()..).unwrap_or_default();
            let done = match &mut painter {
                Some(painter) => painter.draw(now, report),
                None => {
                    // What is settled from the start on cannot change: it is shown at once. A token that
                    // ends the text is not followed any further.
                    let settled = response
                        .iter()
                        .position(|s| *s == Slot::Masked)
                        .unwrap_or(response.len());
                    let tokens = &now.tokens()[prompt.len()..prompt.len() + settled];
                    let is_end = |t: &u32| model.tokenizer().token_kind(*t) == Some(TokenKind::Control);
                    let end = tokens.iter().position(is_end).unwrap_or(tokens.len());
                    let fresh = stream.push(tokens.get(shown..end).unwrap_or_default());
                    shown = shown.max(end);
                    let mut out = std::io::stdout().lock();
                    write!(out, "{fresh}").and_then(|()| out.flush())
                }
            };
            failed = done.err();
            if failed.is_some() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let response = canvas.tokens().get(prompt.len()..).unwrap_or_default();
        let text = model.tokenizer().decode(&filled(&model, response), false);
        match &mut painter {
            Some(painter) => {
                painter.clear()?;
                writeln!(std::io::stdout(), "{text}")?;
            }
            None => writeln!(std::io::stdout(), "{}", stream.finish())?,
        }
        match outcome {
            Ok(_) => Ok(text),
            // A stopped answer stays in the conversation as far as it got.
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(text),
            Err(error) => Err(error.into()),
        }
    }
}
