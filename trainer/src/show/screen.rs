//! A screen with the curve of the loss, for a terminal.
//!
//! A thread of its own draws and listens to keys, so that the clock goes on while a step computes. The
//! terminal gets back its state when the screen is dropped, and before a panic is reported.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};
use remask::{Error, ErrorKind, Result};

use super::{clock, left, rate};
use crate::run::{Event, Step};

/// Messages that are kept.
const MESSAGES: usize = 100;
/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a screen has the terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// The screen. Drop it before anything else is printed.
pub struct Screen {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// - folder: the run's; the curve begins with what it measured before
    /// - peak: operations a second that a large product reaches; 0 where it is not known
    /// - asked: is set when a key asks the run to end
    ///
    /// # Errors
    /// `Io`, when the terminal cannot be used.
    pub fn open(folder: &Path, peak: f64, asked: &'static AtomicBool) -> Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        let mut terminal = ratatui::try_init().map_err(|e| Error::from(e).context("the terminal"))?;
        SHOWN.store(true, Ordering::SeqCst);
        let state = Arc::new(Mutex::new(State {
            folder: folder.display().to_string(),
            peak,
            begun: Instant::now(),
            losses: earlier(folder),
            ..State::default()
        }));
        let shared = state.clone();
        let draw = move || {
            while SHOWN.load(Ordering::SeqCst) {
                let now = lock(&shared).clone_for_drawing(asked);
                if terminal.draw(|frame| draw(frame, &now)).is_err() {
                    break;
                }
                listen(asked);
            }
        };
        let thread = std::thread::Builder::new().name("screen".to_owned()).spawn(draw);
        let thread = thread.map_err(|e| {
            give_back();
            Error::new(ErrorKind::Resource, format!("no thread for the screen: {e}"))
        })?;
        let messages = state.clone();
        remask::log::set_log_sink(Some(Box::new(move |level, text| {
            if level >= remask::log::Level::Warn {
                lock(&messages).say(text.to_owned());
            }
        })));
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    /// Gives the terminal back; returns a line on the newest update.
    pub fn last(self) -> Option<String> {
        let step = lock(&self.state).step?;
        Some(format!("{}/{}  loss {:.4}", step.step, step.total, step.loss))
    }

    /// Tells an event.
    pub fn tell(&mut self, event: &Event<'_>) {
        let mut state = lock(&self.state);
        match event {
            Event::Started {
                n_parameters,
                config,
                step,
                memory,
            } => {
                state.begun = Instant::now();
                state.before = *step;
                state.total = config.run.steps;
                state.about = format!(
                    "{:.2} M parameters, {} x {} tokens, about {:.2} GB",
                    *n_parameters as f64 / 1e6,
                    config.run.batch,
                    config.data.length,
                    *memory as f64 / 1e9
                );
            }
            Event::Step(step) => {
                state.losses.push((step.step as f64, step.loss));
                state.step = Some(**step);
            }
            Event::Evaluated {
                step,
                bound,
                error,
                bits_per_byte,
            } => {
                state.bound = Some((*bound, *error, *bits_per_byte));
                state.bounds.push((*step as f64, *bound));
                state.say(format!(
                    "{step}: held out {bound:.4} ± {error:.4} nats a token, {bits_per_byte:.3} bits a byte"
                ));
            }
            Event::Saved(path) => state.say(format!("saved {}", path.display())),
            Event::Wrote { text, .. } => state.say(format!("> {}", text.replace('\n', " "))),
            Event::Note(text) => state.say((*text).to_owned()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let shown = SHOWN.swap(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if shown {
            ratatui::restore();
        }
        remask::log::set_log_sink(Some(Box::new(crate::command::warn)));
    }
}

/// Gives the terminal back, if a screen has it.
pub(crate) fn give_back() {
    if SHOWN.swap(false, Ordering::SeqCst) {
        ratatui::restore();
    }
}

/// Whether a screen has the terminal.
pub(crate) fn is_shown() -> bool {
    SHOWN.load(Ordering::SeqCst)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

/// Waits for a key, a little while.
fn listen(asked: &AtomicBool) {
    if !event::poll(PAUSE).unwrap_or(false) {
        return;
    }
    let Ok(event::Event::Key(key)) = event::read() else {
        return;
    };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let ends = interrupt || key.code == KeyCode::Char('q');
    if key.kind == KeyEventKind::Press && ends && asked.swap(true, Ordering::SeqCst) && interrupt {
        give_back();
        std::process::exit(130);
    }
}

/// What the run measured before it was opened.
fn earlier(folder: &Path) -> Vec<(f64, f64)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((value["step"].as_f64()?, value["loss"].as_f64()?))
    });
    lines.collect()
}

/// What is shown.
#[derive(Clone)]
struct State {
    folder: String,
    about: String,
    peak: f64,
    begun: Instant,
    before: u64,
    total: u64,
    step: Option<Step>,
    bound: Option<(f64, f64, f64)>,
    losses: Vec<(f64, f64)>,
    bounds: Vec<(f64, f64)>,
    messages: VecDeque<String>,
    ending: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            folder: String::new(),
            about: String::new(),
            peak: 0.0,
            begun: Instant::now(),
            before: 0,
            total: 0,
            step: None,
            bound: None,
            losses: Vec::new(),
            bounds: Vec::new(),
            messages: VecDeque::new(),
            ending: false,
        }
    }
}

impl State {
    fn say(&mut self, text: String) {
        self.messages.push_back(text);
        if self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
    }

    /// A copy, with a curve of no more points than a screen has.
    fn clone_for_drawing(&self, asked: &AtomicBool) -> Self {
        Self {
            losses: averaged(&self.losses, 300),
            ending: asked.load(Ordering::SeqCst),
            bounds: self.bounds.clone(),
            messages: self.messages.clone(),
            folder: self.folder.clone(),
            about: self.about.clone(),
            ..*self
        }
    }
}

/// A running mean over a twentieth of all points: single draws of the noise differ by half of the loss.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let decay = 1.0 - 1.0 / (points.len() as f64 / 20.0).max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let finite = points.iter().filter(|p| p.1.is_finite());
    let mean = |&(x, y): &(f64, f64)| {
        sum = decay * sum + (1.0 - decay) * y;
        weight = decay * weight + (1.0 - decay);
        (x, sum / weight)
    };
    finite.map(mean).collect()
}

/// At most `n` means of neighbours.
fn averaged(points: &[(f64, f64)], n: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(n).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(size).map(mean).collect()
}

fn draw(frame: &mut Frame<'_>, s: &State) {
    let rows = [
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Max(7),
        Constraint::Length(1),
    ];
    let [top, curve, numbers, bar, log, keys] = Layout::vertical(rows).areas(frame.area());
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let dim = Style::new().fg(Color::DarkGray);
    let title = Line::from(vec![
        Span::styled(s.folder.as_str(), strong),
        Span::raw("  "),
        Span::styled(s.about.as_str(), dim),
    ]);
    frame.render_widget(title, top);
    draw_curve(frame, curve, s);
    frame.render_widget(Paragraph::new(numbers_of(s)), numbers);
    draw_bar(frame, bar, s);
    let visible = usize::from(log.height.saturating_sub(1));
    let skip = s.messages.len().saturating_sub(visible);
    let lines: Vec<Line<'_>> = s
        .messages
        .iter()
        .skip(skip)
        .map(|m| Line::raw(m.as_str()))
        .collect();
    let block = Block::new()
        .borders(ratatui::widgets::Borders::TOP)
        .border_style(dim);
    frame.render_widget(Paragraph::new(lines).block(block), log);
    let help = match s.ending {
        true => "ending with a checkpoint; Ctrl-C ends at once",
        false => "q or Ctrl-C ends with a checkpoint",
    };
    frame.render_widget(Line::styled(help, dim), keys);
}

fn draw_curve(frame: &mut Frame<'_>, area: Rect, s: &State) {
    let curve = smoothed(&s.losses);
    let all = || curve.iter().chain(&s.bounds);
    let last = s.total.max(1) as f64;
    let to = s.step.map_or(last, |step| step.step as f64).max(2.0);
    let fold =
        |f: fn(f64, f64) -> f64, begin: f64| all().map(|p| p.1).filter(|y| y.is_finite()).fold(begin, f);
    let (mut low, mut high) = (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY));
    if low > high {
        (low, high) = (0.0, 1.0);
    }
    let margin = ((high - low) * 0.2).max(0.01);
    (low, high) = (low - margin, high + margin);
    let mut sets = vec![
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Scatter)
            .style(Style::new().fg(Color::DarkGray))
            .data(&s.losses),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(Color::Cyan))
            .data(&curve),
    ];
    if !s.bounds.is_empty() {
        sets.push(
            Dataset::default()
                .marker(Marker::Dot)
                .graph_type(GraphType::Scatter)
                .style(Style::new().fg(Color::Yellow))
                .data(&s.bounds),
        );
    }
    let label = |y: f64| Span::raw(format!("{y:.2}"));
    let dim = Style::new().fg(Color::DarkGray);
    let chart = Chart::new(sets)
        .x_axis(
            Axis::default()
                .style(dim)
                .bounds([0.0, to])
                .labels([Span::raw("0"), Span::raw(format!("{to:.0}"))]),
        )
        .y_axis(Axis::default().style(dim).bounds([low, high]).labels([
            label(low),
            label((low + high) / 2.0),
            label(high),
        ]));
    frame.render_widget(chart, area);
}

fn numbers_of(s: &State) -> Vec<Line<'static>> {
    let Some(step) = &s.step else {
        return vec![Line::raw("the first update is at work")];
    };
    let loss = smoothed(&s.losses).last().map_or(step.loss, |p| p.1);
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let mut first = vec![Span::raw("loss "), Span::styled(format!("{loss:.4}"), strong)];
    if let Some((bound, error, bits)) = s.bound {
        let color = Style::new().fg(Color::Yellow);
        first.push(Span::styled(
            format!("   held out {bound:.4} ± {error:.4}, {bits:.3} bits a byte"),
            color,
        ));
    }
    if let Some(score) = step.score {
        first.push(Span::raw(format!("   score {score:.3}")));
    }
    first.push(Span::raw(format!(
        "   |g| {:.2}   lr {:.2e}",
        step.grad_norm, step.lr
    )));
    let share = match s.peak > 0.0 {
        true => format!("   MFU {:.0} %", 100.0 * step.flops / s.peak),
        false => String::new(),
    };
    let second = format!(
        "{:.0} tokens/s   {}{share}   {:.2} M tokens seen",
        step.tokens_per_s,
        rate(step.flops),
        step.tokens as f64 / 1e6
    );
    vec![Line::from(first), Line::raw(second)]
}

fn draw_bar(frame: &mut Frame<'_>, area: Rect, s: &State) {
    let done = s.step.map_or(s.before, |step| step.step);
    let seconds = s.begun.elapsed().as_secs_f64();
    let left = match left(done, s.total, s.before, seconds) {
        Some(left) => format!("{} left", clock(left)),
        None => "time is not known yet".to_owned(),
    };
    let gauge = Gauge::default()
        .gauge_style(Style::new().fg(Color::Cyan).bg(Color::Black))
        .ratio((done as f64 / s.total.max(1) as f64).clamp(0.0, 1.0))
        .label(format!("{done}/{}   {}   {left}", s.total, clock(seconds)));
    frame.render_widget(gauge, area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn shown(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let cells = terminal.backend().buffer().content();
        cells
            .chunks(usize::from(width))
            .map(|row| row.iter().map(|c| c.symbol()).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn everything_is_there_and_no_size_panics() {
        let mut state = State {
            folder: "run".to_owned(),
            about: "7.00 M parameters".to_owned(),
            peak: 100e9,
            total: 1000,
            losses: (0..500)
                .map(|i| (f64::from(i), 8.0 / (1.0 + f64::from(i))))
                .collect(),
            bounds: vec![(250.0, 3.0)],
            bound: Some((3.0, 0.1, 1.5)),
            step: Some(Step {
                step: 500,
                total: 1000,
                loss: 2.5,
                score: None,
                grad_norm: 0.5,
                lr: 1e-3,
                tokens: 1_000_000,
                tokens_per_s: 2000.0,
                flops: 50e9,
                seconds: 10.0,
            }),
            ..State::default()
        };
        (0..200).for_each(|i| state.say(format!("message {i}")));
        let text = shown(&state, 100, 30);
        for word in [
            "run",
            "held out 3.0000",
            "2000 tokens/s",
            "MFU 50 %",
            "500/1000",
            "message 199",
            "q or Ctrl-C",
        ] {
            assert!(text.contains(word), "{word}:\n{text}");
        }
        assert!(state.messages.len() == MESSAGES);
        state.losses.push((501.0, f64::NAN));
        for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 80)] {
            shown(&state, width, height);
        }
        shown(&State::default(), 80, 24);
    }

    #[test]
    fn a_long_curve_is_averaged() {
        let points: Vec<_> = (0..1000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let few = averaged(&points, 100);
        assert_eq!(few.len(), 100);
        assert!(few.iter().all(|p| p.1 == 0.5));
    }
}
