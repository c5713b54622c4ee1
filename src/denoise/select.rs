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

/// Sorts `candidates` best first and returns how many of them EB-Sampler (arXiv 2505.24857, algorithm 1)
/// accepts: the most whose entropies, the largest left out, sum to at most `bound`; the best always.
/// `entropy` gives a candidate's, in nats, by its index.
pub fn entropy_bound(candidates: &mut [(f32, u32)], bound: f64, entropy: impl Fn(u32) -> f32) -> usize {
    candidates.sort_unstable_by(order);
    let (mut sum, mut largest, mut n) = (0f64, 0f64, 0);
    for (_, index) in candidates.iter() {
        let h = f64::from(entropy(*index));
        sum += h;
        largest = largest.max(h);
        if n > 0 && sum - largest > bound {
            break;
        }
        n += 1;
    }
    n
}

/// Sorts `candidates` so that the accepted ones come first, best first, and returns how many they are:
/// those that have at least `anchor`, and those that have at least `relaxed` and stand at most `radius`
/// slots from one of them (LocalLeap, arXiv 2510.07081); where there is none, the best alone. `slot`
/// gives a candidate's place by its index.
pub fn neighbours(
    candidates: &mut [(f32, u32)],
    (anchor, relaxed): (f64, f64),
    radius: usize,
    slot: impl Fn(u32) -> usize,
) -> usize {
    let n_anchors = {
        candidates.sort_unstable_by(order);
        let sure = |c: &&(f32, u32)| f64::from(c.0) >= anchor;
        candidates.iter().take_while(sure).count()
    };
    if n_anchors == 0 {
        return candidates.len().min(1);
    }
    let (anchors, rest) = candidates.split_at_mut(n_anchors);
    let near = |c: &(f32, u32)| {
        let at = slot(c.1);
        let close = |a: &(f32, u32)| slot(a.1).abs_diff(at) <= radius;
        f64::from(c.0) >= relaxed && anchors.iter().any(close)
    };
    let mut n = 0;
    for i in 0..rest.len() {
        if near(&rest[i]) {
            // What is passed over is not looked at again this step: its order is free.
            rest.swap(n, i);
            n += 1;
        }
    }
    n_anchors + n
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
    fn entropies_are_summed_without_the_largest() {
        let h = [0.05f32, 0.04, 0.5, 0.2];
        let n = |bound| {
            entropy_bound(&mut [(0.9, 0), (0.8, 1), (0.4, 2), (0.6, 3)], bound, |k| {
                h[k as usize]
            })
        };
        assert_eq!(n(0.0), 1);
        assert_eq!(n(0.04), 2);
        // 0.05 + 0.04 + 0.2, the largest left out; then 0.5 takes its place.
        assert_eq!(n(0.1), 3);
        assert_eq!(n(0.3), 4);
        assert_eq!(entropy_bound(&mut [], 1.0, |_| 0.0), 0);
    }

    #[test]
    fn near_an_anchor_less_is_asked_for() {
        let slots = [10usize, 14, 15, 6, 11];
        let run = |mut c: Vec<(f32, u32)>| {
            let n = neighbours(&mut c, (0.9, 0.75), 4, |k| slots[k as usize]);
            let mut kept: Vec<u32> = c[..n].iter().map(|c| c.1).collect();
            kept.sort_unstable();
            kept
        };
        let all = vec![(0.95, 0), (0.8, 1), (0.85, 2), (0.76, 3), (0.7, 4)];
        assert_eq!(run(all), [0, 1, 3]);
        assert_eq!(run(vec![(0.8, 0), (0.85, 4)]), [4]);
        assert!(run(vec![]).is_empty());
    }

    #[test]
    fn the_factor_rule_has_the_published_quirk() {
        assert_eq!(factor(&mut [(0.9, 0), (0.6, 1)], 1.0), 2);
        assert_eq!(factor(&mut [(0.9, 0), (0.6, 1), (0.5, 2)], 1.0), 1);
        assert_eq!(factor(&mut [(0.1, 0)], 1.0), 1);
    }
}
