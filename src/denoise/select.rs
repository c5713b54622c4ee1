//! Which candidates are committed.
#![forbid(unsafe_code)]

/// The order of candidates: by confidence, the lowest slot first among equals (torch leaves ties open).
fn order(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Sorts `candidates`, pairs of confidence and index, best first, and returns how many of them the `k`
/// best are.
pub fn best(candidates: &mut [(f32, u32)], k: usize) -> usize {
    candidates.sort_unstable_by(order);
    k.min(candidates.len())
}

/// Sorts `candidates` best first and returns how many have at least `threshold`, the best always counted
/// (Fast-dLLM, `get_transfer_index`).
pub fn threshold(candidates: &mut [(f32, u32)], threshold: f64) -> usize {
    candidates.sort_unstable_by(order);
    let n = candidates
        .iter()
        .take_while(|(c, _)| f64::from(*c) >= threshold)
        .count();
    n.max(1).min(candidates.len())
}

/// Sorts `candidates` best first and returns how many Fast-dLLM's factor rule accepts: rank n (from 1)
/// needs `1 - factor / (n + 1)`, rank 1 nothing; the first that fails ends it. Their loop accepts a
/// failure at the very last rank, and so does this.
pub fn factor(candidates: &mut [(f32, u32)], factor: f64) -> usize {
    candidates.sort_unstable_by(order);
    let n = candidates.len();
    for (i, (confidence, _)) in candidates.iter().enumerate().skip(1) {
        let rank = (i + 1) as f64;
        if f64::from(*confidence) < 1.0 - factor / (rank + 1.0) {
            return if i + 1 == n { n } else { i };
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_slot() {
        let mut c = [(0.5, 3), (0.9, 2), (0.5, 1)];
        assert_eq!(best(&mut c, 2), 2);
        assert_eq!(c.map(|(_, slot)| slot), [2, 1, 3]);
        assert_eq!(best(&mut c, 7), 3);
    }

    #[test]
    fn a_threshold_always_lets_the_best_through() {
        let mut c = [(0.2, 0), (0.1, 1)];
        assert_eq!(threshold(&mut c, 0.9), 1);
        assert_eq!(threshold(&mut c, 0.15), 1);
        assert_eq!(threshold(&mut c, 0.1), 2);
        assert_eq!(threshold(&mut [], 0.1), 0);
    }

    #[test]
    fn the_factor_rule_has_the_published_quirk() {
        assert_eq!(factor(&mut [(0.9, 0), (0.6, 1)], 1.0), 2);
        assert_eq!(factor(&mut [(0.9, 0), (0.6, 1), (0.5, 2)], 1.0), 1);
        assert_eq!(factor(&mut [(0.1, 0)], 1.0), 1);
    }
}
