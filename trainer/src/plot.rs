//! Curves of runs as a picture.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use remask::{Error, ErrorKind, Result};
use serde_json::Value;

const COLORS: &[&str] = &["#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706", "#0891b2"];
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

type Points = Vec<(f64, f64)>;

struct Curve {
    name: String,
    loss: Points,
    bound: Points,
}

/// Draws the loss (a mean over neighbours) and the bound on held-out text of `runs` to an SVG file.
///
/// # Errors
/// `Io`, naming the file; `Data`, when a run has no metrics.
pub fn plot(runs: &[PathBuf], output: &Path) -> Result<()> {
    let curves: Result<Vec<Curve>> = runs.iter().map(|run| read(run)).collect();
    let svg = draw(&curves?);
    crate::files::write_atomically(output, |file| std::io::Write::write_all(file, svg.as_bytes()))
}

fn read(run: &Path) -> Result<Curve> {
    let path = run.join("metrics.jsonl");
    let text = crate::files::read_text(&path)?;
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect();
    let points = |key: &str| -> Points {
        let each = lines
            .iter()
            .filter_map(|v| Some((v["step"].as_f64()?, v[key].as_f64()?)));
        each.filter(|(_, y)| y.is_finite()).collect()
    };
    let loss = points("loss");
    if loss.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("{}: has no step", path.display()),
        ));
    }
    // About 200 points are seen; between them is noise.
    let n = loss.len().div_ceil(200);
    let means = loss.chunks(n).map(|c| {
        let mean = |f: fn(&(f64, f64)) -> f64| c.iter().map(f).sum::<f64>() / c.len() as f64;
        (mean(|p| p.0), mean(|p| p.1))
    });
    Ok(Curve {
        name: run
            .file_name()
            .map_or_else(|| run.display().to_string(), |n| n.to_string_lossy().into_owned()),
        loss: means.collect(),
        bound: points("bound"),
    })
}

/// A step of 1, 2 or 5 times a power of ten, for about `n` marks.
fn round_step(span: f64, n: f64) -> f64 {
    let rough = span / n;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|t| t * power >= rough);
    times.unwrap_or(10.0) * power
}

fn draw(curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|c| c.loss.iter().chain(&c.bound));
    let most = |f: fn(&(f64, f64)) -> f64| all().map(f).fold(f64::MIN, f64::max);
    let least = all().map(|p| p.1).fold(f64::MAX, f64::min);
    let step = round_step((most(|p| p.1) - least).max(0.1), 6.0);
    let (low, high) = (
        (least / step).floor() * step,
        (most(|p| p.1) / step).ceil() * step,
    );
    let right = most(|p| p.0).max(1.0);
    let x = |v: f64| LEFT + v / right * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| TOP + (high - v) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut s = String::new();
    let _ = writeln!(
        s,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
    );
    let mut mark = low;
    while mark <= high + step / 2.0 {
        let at = y(mark);
        let _ = writeln!(
            s,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#e5e7eb"/><text x="{}" y="{:.1}" text-anchor="end" fill="#374151">{}</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.5,
            short(mark)
        );
        mark += step;
    }
    let across = round_step(right, 8.0);
    let mut mark = 0.0;
    while mark <= right {
        let _ = writeln!(
            s,
            r##"<text x="{:.1}" y="{}" text-anchor="middle" fill="#374151">{}</text>"##,
            x(mark),
            HEIGHT - BOTTOM + 20.0,
            short(mark)
        );
        mark += across;
    }
    let _ = writeln!(
        s,
        r##"<text x="{:.1}" y="{}" text-anchor="middle" fill="#111827">updates</text>
<text x="16" y="{:.1}" transform="rotate(-90 16 {:.1})" text-anchor="middle" fill="#111827">nats a token</text>"##,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 10.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    let mut at = LEFT;
    for (curve, color) in curves.iter().zip(COLORS.iter().cycle()) {
        let line = |points: &Points| -> String {
            points
                .iter()
                .map(|p| format!("{:.1},{:.1} ", x(p.0), y(p.1)))
                .collect()
        };
        let _ = writeln!(
            s,
            r##"<polyline points="{}" fill="none" stroke="{color}" stroke-opacity="0.45" stroke-width="1.2"/>"##,
            line(&curve.loss)
        );
        let _ = writeln!(
            s,
            r##"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2.2"/>"##,
            line(&curve.bound)
        );
        for p in &curve.bound {
            let _ = writeln!(
                s,
                r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{color}"/>"##,
                x(p.0),
                y(p.1)
            );
        }
        let name = curve.name.replace('&', "&amp;").replace('<', "&lt;");
        let label = match curve.bound.is_empty() {
            true => format!("{name}: loss"),
            false => format!("{name}: loss (thin), held out (bold)"),
        };
        let _ = writeln!(
            s,
            r##"<rect x="{at:.0}" y="15" width="12" height="12" fill="{color}"/><text x="{:.0}" y="26" fill="#111827">{label}</text>"##,
            at + 18.0
        );
        at += 40.0 + 7.2 * label.len() as f64;
    }
    s.push_str("</svg>\n");
    s
}

fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", value / 1e6),
        v if v >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}
