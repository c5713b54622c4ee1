//! How many threads a graph gets while others want the processors too.
//!
//! ggml's threads meet at a barrier after every operation and spin until all are there. One that has lost
//! its processor holds up the rest for a whole time slice, eighty times a step: on a busy machine two
//! threads can be twenty times slower than one. A thread that computes or spins uses its processor all the
//! time; so where the calling thread got much less time than has passed, the machine is crowded. Then half
//! of the threads are used, and now and then, ever more rarely, twice as many are tried again.

use std::time::{Duration, Instant};

/// Below this share of a processor the calling thread was held up by others.
const CROWDED: f64 = 0.85;

/// Less time than this is not judged: a scheduler's slice is about four milliseconds.
const JUDGED: Duration = Duration::from_millis(12);

/// How long fewer threads are used before more are tried, at first and at last.
const PATIENCE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Decides from what runs took. Results do not depend on it: a graph gives the same bits on any number of
/// threads.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    now: usize,
    /// What was measured since the last judgement.
    elapsed: Duration,
    busy: Duration,
    patience: Duration,
    /// When more threads are tried; `None` while all are used.
    retry: Option<Instant>,
    /// The last judgement raised the number, and this one tells whether that was right.
    trying: bool,
}

impl Pace {
    /// For a pool of `most` threads.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            now: most,
            elapsed: Duration::ZERO,
            busy: Duration::ZERO,
            patience: PATIENCE[0],
            retry: None,
            trying: false,
        }
    }

    /// Threads for a run that begins at `at`.
    pub fn threads(&mut self, at: Instant) -> usize {
        if self.retry.is_some_and(|retry| at >= retry) {
            self.now = (self.now * 2).min(self.most);
            self.retry = None;
            self.trying = true;
            self.forget();
        }
        self.now
    }

    /// A run ended at `at`: it took `elapsed`, of which the calling thread had a processor for `busy`.
    pub fn ran(&mut self, at: Instant, elapsed: Duration, busy: Duration) {
        self.elapsed += elapsed;
        self.busy += busy;
        if self.now == 1 || self.elapsed < JUDGED {
            // One thread waits for nobody.
            return;
        }
        let crowded = self.busy.as_secs_f64() < CROWDED * self.elapsed.as_secs_f64();
        self.forget();
        if crowded {
            self.patience = match self.trying {
                true => (self.patience * 2).min(PATIENCE[1]),
                false => PATIENCE[0],
            };
            self.now = (self.now / 2).max(1);
            self.retry = Some(at + self.patience);
        } else if self.now < self.most && self.retry.is_none() {
            self.retry = Some(at + self.patience);
        }
        self.trying = false;
    }

    fn forget(&mut self) {
        self.elapsed = Duration::ZERO;
        self.busy = Duration::ZERO;
    }
}

/// Time for which the calling thread had a processor, since some moment; `None` where that is not known.
#[cfg(unix)]
pub(super) fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to the struct it is given.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    let (s, ns) = (
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    );
    (code == 0).then(|| Duration::new(s, ns))
}

/// Time for which the calling thread had a processor, since some moment; `None` where that is not known.
#[cfg(not(unix))]
pub(super) fn thread_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs of 20 ms each, of which the caller has `share`, until `until` milliseconds have passed. Returns
    /// the numbers of threads that they got.
    fn run(pace: &mut Pace, from: Instant, until: u32, share: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut at = from;
        while at < from + MS * until {
            let n = pace.threads(at);
            seen.push(n);
            at += 20 * MS;
            pace.ran(at, 20 * MS, (20 * MS).mul_f64(share(n)));
        }
        seen
    }

    #[test]
    fn an_idle_machine_gives_all_threads() {
        let mut pace = Pace::new(8);
        let seen = run(&mut pace, Instant::now(), 1000, |_| 0.99);
        assert!(seen.iter().all(|&n| n == 8), "{seen:?}");
    }

    #[test]
    fn a_crowded_machine_gives_fewer_until_they_are_not_held_up() {
        let mut pace = Pace::new(8);
        let seen = run(
            &mut pace,
            Instant::now(),
            20_000,
            |n| if n > 2 { 0.5 } else { 0.99 },
        );
        assert_eq!(seen[..3], [8, 4, 2]);
        // More are tried, ever more rarely.
        let tried = seen[3..].iter().filter(|&&n| n == 4).count();
        assert!((3..20).contains(&tried), "{tried} of {}", seen.len());
        assert!(seen[3..].iter().all(|&n| n == 2 || n == 4));
    }

    #[test]
    fn when_others_leave_all_threads_come_back() {
        let mut pace = Pace::new(4);
        let start = Instant::now();
        run(&mut pace, start, 1000, |n| if n > 1 { 0.3 } else { 0.9 });
        let seen = run(&mut pace, start + 1000 * MS, 15_000, |_| 1.0);
        assert_eq!(seen.last(), Some(&4));
    }

    #[test]
    fn short_runs_are_judged_together() {
        let mut pace = Pace::new(2);
        let now = Instant::now();
        // One slice lost in a run of a millisecond says nothing yet.
        pace.ran(now, 5 * MS, MS);
        assert_eq!(pace.threads(now), 2);
        pace.ran(now, 8 * MS, MS);
        assert_eq!(pace.threads(now), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_sleeping_thread_uses_no_time() {
        let began = thread_time().unwrap();
        std::thread::sleep(20 * MS);
        assert!(thread_time().unwrap() - began < 10 * MS);
    }
}
