//! A template as a tree.
//!
//! What can stand one behind the other without end (operators of one rank, filters, `elif`) is a list, so that a tree is
//! as deep as brackets and blocks are nested, which is bounded.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::lex::{self, Piece, Token, bad};
use crate::error::{Error, Result, try_push};

pub(crate) enum Expr {
    Undefined,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<String>),
    Name(String),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    /// Operators of one rank, from left to right.
    Chain(Box<Expr>, Vec<(Op, Expr)>),
    Compare(Box<Expr>, Vec<(Op, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Value, condition, value otherwise.
    If(Box<[Expr; 3]>),
    Post(Box<Expr>, Vec<Suffix>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Concat,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// What stands behind a value.
pub(crate) enum Suffix {
    Attr(String),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Args),
    Filter(String, Args),
    /// Name, arguments, whether `is not`.
    Test(String, Args, bool),
}

#[derive(Default)]
pub(crate) struct Args {
    pub(super) pos: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
}

pub(crate) enum Stmt {
    Text(String),
    Emit(Expr),
    Set(String, Expr),
    SetAttr(String, String, Expr),
    SetBlock(String, Vec<Stmt>),
    For(Box<For>),
    /// Conditions with their bodies, and the body otherwise.
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    Macro(Box<Macro>),
    /// A body that is run as it stands.
    Plain(Vec<Stmt>),
    Break,
    Continue,
}

pub(crate) struct For {
    pub(super) targets: Vec<String>,
    pub(super) over: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

pub(crate) struct Macro {
    pub(super) name: String,
    /// Names with their defaults.
    pub(super) parameters: Vec<(String, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
}

/// A template that parses.
pub(crate) struct Template {
    pub(super) body: Vec<Stmt>,
}

/// Brackets and blocks inside one another, at most. Published templates have up to ten.
const MAX_DEPTH: usize = 32;
const WHAT: &str = "a chat template";

/// Parses `source`.
///
/// # Errors
/// `Template`, naming the line; `Resource`.
pub(crate) fn parse(source: &str) -> Result<Template> {
    let newlines = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut parser = Parser {
        pieces: lex::split(&newlines)?.into_iter(),
        tokens: Vec::new().into_iter().peekable(),
        line: 1,
        depth: 0,
        n_loops: 0,
    };
    let (body, _) = parser.body(&[])?;
    Ok(Template { body })
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    depth: usize,
    /// Loops around what is read.
    n_loops: usize,
}

impl Parser {
    fn bad(&self, what: &str) -> Error {
        bad(self.line, what)
    }

    /// One level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.bad(&format!("more than {MAX_DEPTH} levels inside one another")));
        }
        self.depth += 1;
        let done = read(self);
        self.depth -= 1;
        done
    }

    fn begin(&mut self, line: usize, tokens: Vec<Token>) {
        self.line = line;
        self.tokens = tokens.into_iter().peekable();
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.tokens
            .next_if(|t| matches!(t, Token::Sign(s) if *s == sign))
            .is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        self.tokens
            .next_if(|t| matches!(t, Token::Name(n) if n == word))
            .is_some()
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        match self.sign(sign) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{sign}`"))),
        }
    }

    fn name(&mut self) -> Result<String> {
        match self.tokens.next_if(|t| matches!(t, Token::Name(_))) {
            Some(Token::Name(name)) => Ok(name),
            _ => Err(self.unexpected("a name")),
        }
    }

    fn end(&mut self) -> Result<()> {
        match self.tokens.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("its end")),
        }
    }

    fn unexpected(&mut self, wanted: &str) -> Error {
        let found: String = match self.tokens.peek() {
            None => "the end of the tag".to_owned(),
            Some(Token::Name(n)) => format!("`{}`", n.chars().take(32).collect::<String>()),
            Some(Token::Sign(s)) => format!("`{s}`"),
            Some(Token::Text(_)) => "a string".to_owned(),
            Some(_) => "a number".to_owned(),
        };
        self.bad(&format!("{found} stands where {wanted} was expected"))
    }

    /// Statements up to one of `ends`, whose name comes with them.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Stmt>, String)> {
        self.deeper(|p| {
            let mut body = Vec::new();
            while let Some(piece) = p.pieces.next() {
                let stmt = match piece {
                    Piece::Text(text) => Stmt::Text(text),
                    Piece::Emit(line, tokens) => {
                        p.begin(line, tokens);
                        let value = p.expr()?;
                        p.end()?;
                        Stmt::Emit(value)
                    }
                    Piece::Block(line, tokens) => {
                        p.begin(line, tokens);
                        let name = p.name()?;
                        if ends.contains(&name.as_str()) {
                            return Ok((body, name));
                        }
                        p.statement(&name)?
                    }
                };
                try_push(&mut body, stmt, WHAT)?;
            }
            match ends.last() {
                None => Ok((body, String::new())),
                Some(end) => Err(p.bad(&format!("`{end}` is missing"))),
            }
        })
    }

    /// A body up to `end`, whose tag holds nothing else.
    fn body_to(&mut self, end: &str) -> Result<Vec<Stmt>> {
        let (body, _) = self.body(&[end])?;
        self.end()?;
        Ok(body)
    }

    fn statement(&mut self, name: &str) -> Result<Stmt> {
        match name {
            "set" => self.set(),
            "for" => self.for_loop(),
            "if" => self.if_else(),
            "macro" => self.macro_of(),
            "generation" => {
                self.end()?;
                Ok(Stmt::Plain(self.body_to("endgeneration")?))
            }
            "break" | "continue" => {
                self.end()?;
                match (self.n_loops, name) {
                    (0, _) => Err(self.bad(&format!("`{name}` outside of a loop"))),
                    (_, "break") => Ok(Stmt::Break),
                    _ => Ok(Stmt::Continue),
                }
            }
            other => {
                let other: String = other.chars().take(32).collect();
                Err(self.bad(&format!("the statement `{other}` is not served")))
            }
        }
    }

    fn set(&mut self) -> Result<Stmt> {
        let name = self.name()?;
        if self.sign(".") {
            let attr = self.name()?;
            self.expect("=")?;
            let value = self.tuple()?;
            self.end()?;
            return Ok(Stmt::SetAttr(name, attr, value));
        }
        if self.sign("=") {
            let value = self.tuple()?;
            self.end()?;
            return Ok(Stmt::Set(name, value));
        }
        self.end()?;
        Ok(Stmt::SetBlock(name, self.body_to("endset")?))
    }

    fn for_loop(&mut self) -> Result<Stmt> {
        let bracket = self.sign("(");
        let mut targets = vec![self.name()?];
        while self.sign(",") {
            try_push(&mut targets, self.name()?, WHAT)?;
        }
        if bracket {
            self.expect(")")?;
        }
        if !self.word("in") {
            return Err(self.unexpected("`in`"));
        }
        let over = self.or()?;
        let condition = match self.word("if") {
            true => Some(self.expr()?),
            false => None,
        };
        self.end()?;
        self.n_loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.n_loops -= 1;
        self.end()?;
        let otherwise = match end.as_str() {
            "else" => self.body_to("endfor")?,
            _ => Vec::new(),
        };
        Ok(Stmt::For(Box::new(For {
            targets,
            over,
            condition,
            body,
            otherwise,
        })))
    }

    fn if_else(&mut self) -> Result<Stmt> {
        let mut branches = Vec::new();
        loop {
            let condition = self.expr()?;
            self.end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            try_push(&mut branches, (condition, body), WHAT)?;
            match end.as_str() {
                "elif" => {}
                "else" => {
                    self.end()?;
                    return Ok(Stmt::If(branches, self.body_to("endif")?));
                }
                _ => {
                    self.end()?;
                    return Ok(Stmt::If(branches, Vec::new()));
                }
            }
        }
    }

    fn macro_of(&mut self) -> Result<Stmt> {
        let name = self.name()?;
        self.expect("(")?;
        let mut parameters = Vec::new();
        while !self.sign(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = match self.sign("=") {
                true => Some(self.expr()?),
                false => None,
            };
            try_push(&mut parameters, (name, default), WHAT)?;
        }
        self.end()?;
        // A macro is no part of the loop that it stands in.
        let n_loops = std::mem::take(&mut self.n_loops);
        let body = self.body_to("endmacro")?;
        self.n_loops = n_loops;
        Ok(Stmt::Macro(Box::new(Macro {
            name,
            parameters,
            body,
        })))
    }

    /// One value, or several with commas between.
    fn tuple(&mut self) -> Result<Expr> {
        let first = self.expr()?;
        if !self.sign(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.tokens.peek().is_some() {
            try_push(&mut items, self.expr()?, WHAT)?;
            if !self.sign(",") {
                break;
            }
        }
        Ok(Expr::List(items))
    }

    fn expr(&mut self) -> Result<Expr> {
        self.deeper(|p| {
            let value = p.or()?;
            if !p.word("if") {
                return Ok(value);
            }
            let condition = p.or()?;
            let otherwise = match p.word("else") {
                true => p.expr()?,
                false => Expr::Undefined,
            };
            Ok(Expr::If(Box::new([value, condition, otherwise])))
        })
    }

    fn or(&mut self) -> Result<Expr> {
        let first = self.and()?;
        let mut all = vec![first];
        while self.word("or") {
            try_push(&mut all, self.and()?, WHAT)?;
        }
        Ok(one_or(all, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr> {
        let first = self.not()?;
        let mut all = vec![first];
        while self.word("and") {
            try_push(&mut all, self.not()?, WHAT)?;
        }
        Ok(one_or(all, Expr::And))
    }

    fn not(&mut self) -> Result<Expr> {
        match self.word("not") {
            true => Ok(Expr::Not(Box::new(self.deeper(Self::not)?))),
            false => self.compare(),
        }
    }

    fn compare(&mut self) -> Result<Expr> {
        let first = self.rank(0)?;
        let mut rest = Vec::new();
        loop {
            let op = match self.tokens.peek() {
                Some(Token::Sign("==")) => Op::Eq,
                Some(Token::Sign("!=")) => Op::Ne,
                Some(Token::Sign("<")) => Op::Lt,
                Some(Token::Sign("<=")) => Op::Le,
                Some(Token::Sign(">")) => Op::Gt,
                Some(Token::Sign(">=")) => Op::Ge,
                Some(Token::Name(n)) if n == "in" => Op::In,
                Some(Token::Name(n)) if n == "not" => Op::NotIn,
                _ => break,
            };
            self.tokens.next();
            if op == Op::NotIn && !self.word("in") {
                return Err(self.unexpected("`in`"));
            }
            let other = self.rank(0)?;
            try_push(&mut rest, (op, other), WHAT)?;
        }
        match rest.is_empty() {
            true => Ok(first),
            false => Ok(Expr::Compare(Box::new(first), rest)),
        }
    }

    /// Operators of one rank: `+ -`, `~`, `* / // %`, `**`.
    fn rank(&mut self, rank: usize) -> Result<Expr> {
        if rank == 4 {
            return self.unary(true);
        }
        let first = self.rank(rank + 1)?;
        let mut rest = Vec::new();
        loop {
            let op = match (rank, self.tokens.peek()) {
                (0, Some(Token::Sign("+"))) => Op::Add,
                (0, Some(Token::Sign("-"))) => Op::Sub,
                (1, Some(Token::Sign("~"))) => Op::Concat,
                (2, Some(Token::Sign("*"))) => Op::Mul,
                (2, Some(Token::Sign("/"))) => Op::Div,
                (2, Some(Token::Sign("//"))) => Op::FloorDiv,
                (2, Some(Token::Sign("%"))) => Op::Rem,
                (3, Some(Token::Sign("**"))) => Op::Pow,
                _ => break,
            };
            self.tokens.next();
            let other = self.rank(rank + 1)?;
            try_push(&mut rest, (op, other), WHAT)?;
        }
        match rest.is_empty() {
            true => Ok(first),
            false => Ok(Expr::Chain(Box::new(first), rest)),
        }
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let value = if self.sign("-") {
            Expr::Minus(Box::new(self.deeper(|p| p.unary(false))?))
        } else if self.sign("+") {
            self.deeper(|p| p.unary(false))?
        } else {
            self.primary()?
        };
        let mut suffixes = Vec::new();
        self.postfix(&mut suffixes)?;
        if with_filters {
            self.filters(&mut suffixes)?;
        }
        match suffixes.is_empty() {
            true => Ok(value),
            false => Ok(Expr::Post(Box::new(value), suffixes)),
        }
    }

    fn postfix(&mut self, suffixes: &mut Vec<Suffix>) -> Result<()> {
        loop {
            let suffix = if self.sign(".") {
                match self.tokens.next_if(|t| matches!(t, Token::Int(_))) {
                    Some(Token::Int(i)) => Suffix::Item(Expr::Int(i)),
                    _ => Suffix::Attr(self.name()?),
                }
            } else if self.sign("[") {
                self.subscript()?
            } else if self.sign("(") {
                Suffix::Call(self.args()?)
            } else {
                return Ok(());
            };
            try_push(suffixes, suffix, WHAT)?;
        }
    }

    fn subscript(&mut self) -> Result<Suffix> {
        let mut parts = [None, None, None];
        let mut n_colons = 0;
        loop {
            if self.sign("]") {
                break;
            } else if self.sign(":") {
                n_colons += 1;
            } else if let Some(part @ None) = parts.get_mut(n_colons) {
                *part = Some(self.expr()?);
            } else {
                return Err(self.unexpected("`]`"));
            }
        }
        match (n_colons, parts) {
            (0, [Some(index), _, _]) => Ok(Suffix::Item(index)),
            (1 | 2, parts) => Ok(Suffix::Slice(Box::new(parts))),
            _ => Err(self.bad("a subscript is empty or has too many parts")),
        }
    }

    fn filters(&mut self, suffixes: &mut Vec<Suffix>) -> Result<()> {
        loop {
            let suffix = if self.sign("|") {
                let name = self.name()?;
                let args = match self.sign("(") {
                    true => self.args()?,
                    false => Args::default(),
                };
                Suffix::Filter(name, args)
            } else if self.word("is") {
                self.test()?
            } else if self.sign("(") {
                Suffix::Call(self.args()?)
            } else {
                return Ok(());
            };
            try_push(suffixes, suffix, WHAT)?;
        }
    }

    fn test(&mut self) -> Result<Suffix> {
        let negated = self.word("not");
        let name = self.name()?;
        let mut args = Args::default();
        let bare = match self.tokens.peek() {
            Some(Token::Sign(s)) => matches!(*s, "[" | "{"),
            Some(Token::Name(n)) => !matches!(n.as_str(), "else" | "or" | "and" | "is" | "if" | "in" | "not"),
            Some(_) => true,
            None => false,
        };
        if self.sign("(") {
            args = self.args()?;
        } else if bare {
            let value = self.primary()?;
            let mut own = Vec::new();
            self.postfix(&mut own)?;
            args.pos.push(match own.is_empty() {
                true => value,
                false => Expr::Post(Box::new(value), own),
            });
        }
        Ok(Suffix::Test(name, args, negated))
    }

    fn args(&mut self) -> Result<Args> {
        let mut args = Args::default();
        while !self.sign(")") {
            if !args.pos.is_empty() || !args.named.is_empty() {
                self.expect(",")?;
                if self.sign(")") {
                    break;
                }
            }
            let value = self.expr()?;
            match value {
                Expr::Name(name) if self.sign("=") => {
                    let value = self.expr()?;
                    try_push(&mut args.named, (name, value), WHAT)?;
                }
                value if args.named.is_empty() => try_push(&mut args.pos, value, WHAT)?,
                _ => return Err(self.bad("an argument without a name follows one with a name")),
            }
        }
        Ok(args)
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.tokens.next() {
            Some(Token::Int(n)) => Ok(Expr::Int(n)),
            Some(Token::Float(x)) => Ok(Expr::Float(x)),
            Some(Token::Text(mut text)) => {
                while let Some(Token::Text(more)) = self.tokens.next_if(|t| matches!(t, Token::Text(_))) {
                    text.push_str(&more);
                }
                Ok(Expr::Text(Arc::new(text)))
            }
            Some(Token::Name(name)) => Ok(match name.as_str() {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => Expr::Name(name),
            }),
            Some(Token::Sign("(")) => {
                if self.sign(")") {
                    return Ok(Expr::List(Vec::new()));
                }
                let first = self.expr()?;
                match self.sign(",") {
                    true => self.list(vec![first], ")"),
                    false => self.expect(")").map(|()| first),
                }
            }
            Some(Token::Sign("[")) => self.list(Vec::new(), "]"),
            Some(Token::Sign("{")) => self.dict(),
            token => {
                let rest: Vec<Token> = token.into_iter().chain(self.tokens.by_ref()).collect();
                self.tokens = rest.into_iter().peekable();
                Err(self.unexpected("a value"))
            }
        }
    }

    fn list(&mut self, mut items: Vec<Expr>, end: &str) -> Result<Expr> {
        while !self.sign(end) {
            try_push(&mut items, self.expr()?, WHAT)?;
            if !self.sign(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(Expr::List(items))
    }

    fn dict(&mut self) -> Result<Expr> {
        let mut pairs = Vec::new();
        while !self.sign("}") {
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            try_push(&mut pairs, (key, value), WHAT)?;
            if !self.sign(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::Dict(pairs))
    }
}

fn one_or(mut all: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match (all.len(), all.pop()) {
        (1, Some(one)) => one,
        (_, Some(last)) => {
            all.push(last);
            many(all)
        }
        (_, None) => Expr::Undefined,
    }
}
