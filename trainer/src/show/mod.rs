//! What a person sees of a run: a screen in a terminal, lines elsewhere.

mod plain;
mod screen;

pub use plain::Plain;
pub use screen::Screen;
pub(crate) use screen::{give_back, is_shown};

/// Hours, minutes and seconds.
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match (s / 86400, s / 3600 % 24) {
        (0, 0) => format!("{}:{:02}", s / 60, s % 60),
        (0, h) => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
        (d, h) => format!("{d} d {h:02}:{:02}", s / 60 % 60),
    }
}

/// Floating-point operations a second, in a unit that leaves one to three digits before the point.
pub fn rate(flops: f64) -> String {
    match flops {
        f if f >= 1e12 => format!("{:.1} TFLOP/s", f / 1e12),
        f => format!("{:.1} GFLOP/s", f / 1e9),
    }
}

/// Seconds that are left after `done` of `total` updates, of which `before` were done in another process.
pub(crate) fn left(done: u64, total: u64, before: u64, seconds: f64) -> Option<f64> {
    let here = done.checked_sub(before).filter(|&n| n > 0)?;
    Some((total - done.min(total)) as f64 * seconds / here as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_read_well() {
        assert_eq!(clock(59.9), "0:59");
        assert_eq!(clock(3725.0), "1:02:05");
        assert_eq!(clock(90061.0), "1 d 01:01");
        assert_eq!(rate(87.04e9), "87.0 GFLOP/s");
        assert_eq!(rate(4.1e14), "410.0 TFLOP/s");
        assert_eq!(left(10, 30, 0, 5.0), Some(10.0));
        assert_eq!(left(10, 30, 10, 0.0), None);
    }
}
