//! Runs a template.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::builtin::Given;
use super::parse::{Args, Expr, For, Macro, Op, Stmt, Suffix, Template};
use super::value::{Meter, Value, wrong};
use super::{builtin, method};
use crate::error::Result;

/// Steps of a run: statements and parts of expressions.
pub(crate) const FUEL: u64 = 4_000_000;
/// Largest prompt, in bytes.
const MAX_OUTPUT: usize = 16 << 20;
/// Bytes that a run may make or read, beside a multiple of what it is given.
const WORK: usize = 64 << 20;
const WORK_PER_BYTE: usize = 64;
/// Statements, values and macros inside one another while running.
const MAX_DEPTH: usize = 100;

/// What a template is told: texts by name, the messages with their parts by name, and a switch.
pub(crate) struct Input<'a> {
    pub messages: &'a [(&'a str, &'a str)],
    pub texts: &'a [(&'static str, &'a str)],
    pub add_generation_prompt: bool,
}

/// The prompt.
///
/// # Errors
/// `Template`, when the template refuses what it is given, is at fault or works for too long; `Resource`.
pub(crate) fn render(template: &Template, input: &Input<'_>) -> Result<String> {
    let given: usize = input.messages.iter().map(|(r, c)| r.len() + c.len()).sum();
    let meter = Meter::new(FUEL, given.saturating_mul(WORK_PER_BYTE).saturating_add(WORK));
    let mut run = Run {
        frames: vec![Frame::default()],
        namespaces: Vec::new(),
        macros: Vec::new(),
        out: String::new(),
        depth: 0,
        meter,
    };
    run.give(input)?;
    run.body(&template.body)?;
    Ok(run.out)
}

#[derive(Default)]
struct Frame<'t> {
    names: HashMap<&'t str, Value>,
    lap: Option<Lap>,
    /// A macro's: of the frames below only the outermost can be seen.
    is_macro: bool,
}

/// Where a loop is.
struct Lap {
    at: usize,
    items: Rc<Vec<Value>>,
}

enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Run<'t> {
    frames: Vec<Frame<'t>>,
    pub(super) namespaces: Vec<Vec<(Arc<String>, Value)>>,
    macros: Vec<&'t Macro>,
    out: String,
    depth: usize,
    pub(super) meter: Meter,
}

impl<'t> Run<'t> {
    fn give(&mut self, input: &Input<'_>) -> Result<()> {
        let mut messages = Vec::new();
        let name = |text: &str| Arc::new(text.to_owned());
        for (role, content) in input.messages {
            let pairs = vec![
                (name("role"), self.meter.text(role)?),
                (name("content"), self.meter.text(content)?),
            ];
            let message = self.meter.map(pairs)?;
            self.meter.push(&mut messages, message)?;
        }
        let messages = self.meter.list(messages)?;
        self.set("messages", messages);
        for (key, text) in input.texts {
            let text = self.meter.text(text)?;
            self.set(key, text);
        }
        self.set("add_generation_prompt", Value::Bool(input.add_generation_prompt));
        Ok(())
    }

    fn set(&mut self, name: &'t str, value: Value) {
        if let Some(frame) = self.frames.last_mut() {
            frame.names.insert(name, value);
        }
    }

    /// The frames that can be seen, innermost first.
    fn seen(&self) -> impl Iterator<Item = &Frame<'t>> {
        let macro_at = self.frames.iter().rposition(|f| f.is_macro).unwrap_or(0);
        let own = self.frames.get(macro_at..).unwrap_or_default();
        let outermost = self.frames.first().filter(|_| macro_at > 0);
        own.iter().rev().chain(outermost)
    }

    fn name(&self, name: &str) -> Value {
        let found = self.seen().find_map(|f| f.names.get(name));
        found.cloned().unwrap_or_else(|| match builtin::function(name) {
            Some(function) => Value::Function(function),
            None => Value::Undefined,
        })
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.meter.step()?;
        if self.depth == MAX_DEPTH {
            return Err(wrong("it calls itself, or nests, too deeply"));
        }
        self.depth += 1;
        let done = run(self);
        self.depth -= 1;
        done
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if self.out.len() + text.len() > MAX_OUTPUT {
            return Err(wrong("the prompt is larger than 16 MiB"));
        }
        self.meter.add(&mut self.out, text)
    }

    /// What `run` writes.
    fn captured(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<Value> {
        let before = std::mem::take(&mut self.out);
        let done = run(self);
        let text = std::mem::replace(&mut self.out, before);
        done?;
        Ok(Value::Text(Arc::new(text)))
    }

    fn body(&mut self, body: &'t [Stmt]) -> Result<Flow> {
        for stmt in body {
            match self.deeper(|r| r.statement(stmt))? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, stmt: &'t Stmt) -> Result<Flow> {
        match stmt {
            Stmt::Text(text) => self.write(text)?,
            Stmt::Emit(value) => match self.eval(value)? {
                Value::Text(text) => self.write(&text)?,
                value => {
                    let mut text = String::new();
                    value.print(&mut text, &self.meter)?;
                    self.write(&text)?;
                }
            },
            Stmt::Set(name, value) => {
                let value = self.eval(value)?;
                self.set(name, value);
            }
            Stmt::SetAttr(name, attr, value) => {
                let value = self.eval(value)?;
                let Value::Namespace(i) = self.name(name) else {
                    return Err(wrong(&format!("`{name}` is no namespace")));
                };
                self.set_in(i, attr, value)?;
            }
            Stmt::SetBlock(name, body) => {
                let value = self.captured(|r| r.body(body).map(|_| ()))?;
                self.set(name, value);
            }
            Stmt::For(stmt) => self.for_loop(stmt)?,
            Stmt::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.eval(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            Stmt::Macro(stmt) => {
                self.meter.push(&mut self.macros, &**stmt)?;
                self.set(&stmt.name, Value::Macro(self.macros.len() - 1));
            }
            Stmt::Plain(body) => return self.body(body),
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn set_in(&mut self, namespace: usize, attr: &str, value: Value) -> Result<()> {
        let meter = &self.meter;
        let Some(pairs) = self.namespaces.get_mut(namespace) else {
            return Ok(());
        };
        meter.pay(pairs.len() + attr.len())?;
        match pairs.iter_mut().find(|(k, _)| k.as_str() == attr) {
            Some(pair) => pair.1 = value,
            None => meter.push(pairs, (Arc::new(attr.to_owned()), value))?,
        }
        Ok(())
    }

    fn for_loop(&mut self, stmt: &'t For) -> Result<()> {
        let all = self.eval(&stmt.over)?.elements(&self.meter)?;
        self.frames.push(Frame::default());
        let done = self.laps(stmt, all);
        self.frames.pop();
        if done? == 0 {
            self.body(&stmt.otherwise)?;
        }
        Ok(())
    }

    /// Goes through `all`; how many the condition left.
    fn laps(&mut self, stmt: &'t For, all: Vec<Value>) -> Result<usize> {
        let items = match &stmt.condition {
            None => all,
            Some(condition) => {
                let mut kept = Vec::new();
                for item in all {
                    self.bind(&stmt.targets, &item)?;
                    if self.eval(condition)?.is_true() {
                        self.meter.push(&mut kept, item)?;
                    }
                }
                kept
            }
        };
        let items = Rc::new(items);
        for (at, item) in items.iter().enumerate() {
            // What a lap sets is gone in the next.
            if let Some(frame) = self.frames.last_mut() {
                frame.names.clear();
                let items = items.clone();
                frame.lap = Some(Lap { at, items });
            }
            self.bind(&stmt.targets, item)?;
            if let Flow::Break = self.body(&stmt.body)? {
                break;
            }
        }
        Ok(items.len())
    }

    fn bind(&mut self, targets: &'t [String], item: &Value) -> Result<()> {
        self.meter.step()?;
        if let [target] = targets {
            self.set(target, item.clone());
            return Ok(());
        }
        match item {
            Value::List(list) if list.items.len() == targets.len() => {
                targets
                    .iter()
                    .zip(&list.items)
                    .for_each(|(t, v)| self.set(t, v.clone()));
                Ok(())
            }
            other => Err(wrong(&format!(
                "{} has not {} parts",
                other.kind(),
                targets.len()
            ))),
        }
    }

    pub(super) fn eval(&mut self, expr: &'t Expr) -> Result<Value> {
        self.deeper(|r| r.value(expr))
    }

    fn value(&mut self, expr: &'t Expr) -> Result<Value> {
        Ok(match expr {
            Expr::Undefined => Value::Undefined,
            Expr::None => Value::None,
            Expr::Bool(b) => Value::Bool(*b),
            Expr::Int(n) => Value::Int(*n),
            Expr::Float(x) => Value::Float(*x),
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => {
                let items = self.all(items)?;
                self.meter.list(items)?
            }
            Expr::Dict(pairs) => {
                let mut all = Vec::new();
                for (key, value) in pairs {
                    let key = match self.eval(key)? {
                        Value::Text(key) => key,
                        other => return Err(wrong(&format!("{} is no key", other.kind()))),
                    };
                    let value = self.eval(value)?;
                    self.meter.push(&mut all, (key, value))?;
                }
                self.meter.map(all)?
            }
            Expr::Not(value) => Value::Bool(!self.eval(value)?.is_true()),
            Expr::Minus(value) => match self.eval(value)? {
                Value::Float(x) => Value::Float(-x),
                other => match other.as_int().and_then(i64::checked_neg) {
                    Some(n) => Value::Int(n),
                    None => return Err(wrong(&format!("{} has no negative", other.kind()))),
                },
            },
            Expr::Chain(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    left = builtin::operate(*op, &left, &right, &self.meter)?;
                }
                left
            }
            Expr::Compare(first, rest) => self.compare(first, rest)?,
            Expr::And(all) => self.first(all, false)?,
            Expr::Or(all) => self.first(all, true)?,
            Expr::If(parts) => {
                let [value, condition, otherwise] = &**parts;
                match self.eval(condition)?.is_true() {
                    true => self.eval(value)?,
                    false => self.eval(otherwise)?,
                }
            }
            Expr::Post(value, suffixes) => self.post(value, suffixes)?,
        })
    }

    fn all(&mut self, exprs: &'t [Expr]) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for expr in exprs {
            let value = self.eval(expr)?;
            self.meter.push(&mut all, value)?;
        }
        Ok(all)
    }

    /// The first value that is as true as `wanted`, or the last.
    fn first(&mut self, all: &'t [Expr], wanted: bool) -> Result<Value> {
        let mut last = Value::Undefined;
        for expr in all {
            last = self.eval(expr)?;
            if last.is_true() == wanted {
                break;
            }
        }
        Ok(last)
    }

    fn compare(&mut self, first: &'t Expr, rest: &'t [(Op, Expr)]) -> Result<Value> {
        let mut left = self.eval(first)?;
        for (op, right) in rest {
            let right = self.eval(right)?;
            if !builtin::compare(*op, &left, &right, &self.meter)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn post(&mut self, expr: &'t Expr, suffixes: &'t [Suffix]) -> Result<Value> {
        let mut rest = suffixes;
        let mut value = match (expr, rest) {
            (Expr::Name(name), [Suffix::Attr(attr), after @ ..]) if name == "loop" => {
                rest = after;
                if let [Suffix::Call(_), ..] = after {
                    return Err(wrong(&format!("`loop.{attr}` cannot be called here")));
                }
                self.lap(attr)
            }
            (Expr::Name(name), [Suffix::Call(args), after @ ..]) => {
                rest = after;
                let function = self.name(name);
                let given = self.given(args)?;
                match function {
                    Value::Undefined => return Err(wrong(&format!("`{name}` is no function"))),
                    function => self.call(&function, given)?,
                }
            }
            _ => self.eval(expr)?,
        };
        while let [suffix, after @ ..] = rest {
            self.meter.step()?;
            rest = after;
            value = match (suffix, rest) {
                (Suffix::Attr(name), [Suffix::Call(args), after @ ..]) => {
                    rest = after;
                    let given = self.given(args)?;
                    match self.attr(&value, name)? {
                        // What is there under this name goes before a method.
                        function @ (Value::Macro(_) | Value::Function(_)) => self.call(&function, given)?,
                        _ => method::call(&value, name, &given, &self.meter)?,
                    }
                }
                (Suffix::Attr(name), _) => match value {
                    Value::Undefined => return Err(wrong(&format!("`{name}` of what is undefined"))),
                    value => self.attr(&value, name)?,
                },
                (Suffix::Item(index), _) => {
                    let index = self.eval(index)?;
                    match (&value, index.as_text()) {
                        (Value::Undefined, _) => return Err(wrong("an element of what is undefined")),
                        (Value::Namespace(_), Some(name)) => self.attr(&value, name)?,
                        _ => builtin::item(&value, &index, &self.meter)?,
                    }
                }
                (Suffix::Slice(parts), _) => {
                    let mut bounds = [None; 3];
                    for (bound, part) in bounds.iter_mut().zip(&**parts) {
                        if let Some(part) = part {
                            *bound = match self.eval(part)? {
                                Value::None => None,
                                other => Some(other.as_int().ok_or_else(|| wrong("a bound is no integer"))?),
                            };
                        }
                    }
                    builtin::slice(&value, bounds, &self.meter)?
                }
                (Suffix::Call(args), _) => {
                    let given = self.given(args)?;
                    self.call(&value, given)?
                }
                (Suffix::Filter(name, args), _) => {
                    let given = self.given(args)?;
                    builtin::filter(name, &value, &given, &self.meter)?
                }
                (Suffix::Test(name, args, negated), _) => {
                    let given = self.given(args)?;
                    Value::Bool(builtin::test(name, &value, &given, &self.meter)? != *negated)
                }
            };
        }
        Ok(value)
    }

    fn given(&mut self, args: &'t Args) -> Result<Given> {
        let pos = self.all(&args.pos)?;
        let mut named = Vec::new();
        for (name, value) in &args.named {
            let value = self.eval(value)?;
            self.meter.push(&mut named, (Arc::new(name.clone()), value))?;
        }
        Ok(Given { pos, named })
    }

    fn attr(&self, value: &Value, name: &str) -> Result<Value> {
        let found = match value {
            Value::Namespace(i) => {
                let pairs = self.namespaces.get(*i).map(Vec::as_slice).unwrap_or_default();
                self.meter.pay(pairs.len())?;
                pairs
                    .iter()
                    .find(|(k, _)| k.as_str() == name)
                    .map(|(_, v)| v.clone())
            }
            other => other.get(name, &self.meter)?,
        };
        Ok(found.unwrap_or(Value::Undefined))
    }

    /// What the loop around says of itself.
    fn lap(&self, name: &str) -> Value {
        let Some(Lap { at, items }) = self.seen().find_map(|f| f.lap.as_ref()) else {
            return Value::Undefined;
        };
        let int = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let other = |i: Option<usize>| i.and_then(|i| items.get(i)).cloned().unwrap_or(Value::Undefined);
        match name {
            "index" => int(at + 1),
            "index0" => int(*at),
            "revindex" => int(items.len() - at),
            "revindex0" => int(items.len() - at - 1),
            "first" => Value::Bool(*at == 0),
            "last" => Value::Bool(at + 1 == items.len()),
            "length" => int(items.len()),
            "previtem" => other(at.checked_sub(1)),
            "nextitem" => other(at.checked_add(1)),
            _ => Value::Undefined,
        }
    }

    fn call(&mut self, function: &Value, given: Given) -> Result<Value> {
        match function {
            Value::Macro(i) => match self.macros.get(*i) {
                Some(&callee) => self.call_macro(callee, given),
                None => Ok(Value::Undefined),
            },
            Value::Function("namespace") => {
                let pairs = builtin::pairs(given, &self.meter)?;
                self.meter.push(&mut self.namespaces, pairs)?;
                Ok(Value::Namespace(self.namespaces.len() - 1))
            }
            Value::Function(name) => builtin::call(name, given, &self.meter),
            other => Err(wrong(&format!("{} cannot be called", other.kind()))),
        }
    }

    fn call_macro(&mut self, callee: &'t Macro, given: Given) -> Result<Value> {
        if given.pos.len() > callee.parameters.len() {
            return Err(wrong(&format!("macro `{}` has fewer parameters", callee.name)));
        }
        self.frames.push(Frame {
            is_macro: true,
            ..Frame::default()
        });
        let done = self.captured(|r| {
            for (i, (name, default)) in callee.parameters.iter().enumerate() {
                let value = match (given.pos.get(i), given.name(name), default) {
                    (Some(value), ..) | (None, Some(value), _) => value.clone(),
                    (None, None, Some(default)) => r.eval(default)?,
                    (None, None, None) => Value::Undefined,
                };
                r.set(name, value);
            }
            r.body(&callee.body).map(|_| ())
        });
        self.frames.pop();
        done
    }
}
