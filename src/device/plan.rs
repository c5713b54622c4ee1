//! Which layers go to which device, from sizes alone.
#![forbid(unsafe_code)]

use crate::error::Result;

/// What has to be placed, in bytes.
pub(super) struct Need {
    /// Each layer.
    pub layers: Vec<u64>,
    /// What comes after the last layer.
    pub head: u64,
}

/// A device's number for each layer and for the head; `None` is the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub layers: Vec<Option<usize>>,
    pub head: Option<usize>,
}

/// Spreads the last layers over devices with `free` bytes each: as many as fit, or `wanted`. They lie in
/// one piece, the devices in their order, so that a step goes through each device once; the head follows
/// the last layer. One device takes all where it can, unless `shares` (one per device) says otherwise.
///
/// # Errors
/// `Resource`, when `wanted` layers, or layers by `shares`, do not fit.
pub(super) fn plan(need: &Need, free: &[u64], wanted: Option<usize>, shares: &[f64]) -> Result<Plan> {
    let n = need.layers.len();
    let most = wanted.unwrap_or(n).min(n);
    for k in (0..=most).rev() {
        let fitting = [true, false].into_iter().filter(|&head| !head || k == n);
        for head in fitting {
            if let Some(plan) = spread(need, free, k, head, shares) {
                return Ok(plan);
            }
        }
        if wanted.is_some() || !shares.is_empty() {
            let bytes: u64 = need.layers[n - k..].iter().sum();
            crate::bail!(
                Resource,
                "{k} layers take {} MiB and do not fit where they are to go, with {} MiB free; ask for fewer, or let as many be placed as fit",
                bytes >> 20,
                free.iter().fold(0u64, |sum, f| sum.saturating_add(*f)) >> 20
            );
        }
    }
    Ok(Plan {
        layers: vec![None; n],
        head: None,
    })
}

/// The last `k` layers, with or without the head, or `None` where they do not fit.
fn spread(need: &Need, free: &[u64], k: usize, head: bool, shares: &[f64]) -> Option<Plan> {
    let n = need.layers.len();
    let first = n - k;
    let total: u64 = need.layers[first..].iter().sum::<u64>() + if head { need.head } else { 0 };
    if shares.is_empty() {
        if let Some(one) = free.iter().position(|&f| total <= f) {
            let targets: Vec<f64> = (0..free.len())
                .map(|i| if i == one { f64::INFINITY } else { 0.0 })
                .collect();
            return fill(need, free, first, head, &targets);
        }
        let sum: f64 = free.iter().map(|&f| f as f64).sum();
        let even: Vec<f64> = free.iter().map(|&f| total as f64 * (f as f64 / sum)).collect();
        let full: Vec<f64> = free.iter().map(|&f| f as f64).collect();
        return fill(need, free, first, head, &even).or_else(|| fill(need, free, first, head, &full));
    }
    let sum: f64 = shares.iter().sum();
    let targets: Vec<f64> = shares.iter().map(|s| total as f64 * s / sum).collect();
    fill(need, free, first, head, &targets)
}

/// Fills one device after the other, each up to about its target and never above what is free.
fn fill(need: &Need, free: &[u64], first: usize, head: bool, targets: &[f64]) -> Option<Plan> {
    let n = need.layers.len();
    let mut plan = Plan {
        layers: vec![None; n],
        head: None,
    };
    let (mut device, mut used) = (0, 0u64);
    let last = targets.iter().rposition(|&t| t > 0.0)?;
    let items = need.layers[first..].iter().chain(head.then_some(&need.head));
    for (i, &bytes) in items.enumerate() {
        // Half of an item beyond the target is as near to it as half short of it.
        while used + bytes > free[device]
            || (device < last && used as f64 + bytes as f64 / 2.0 > targets[device])
        {
            if device == last {
                return None;
            }
            device += 1;
            used = 0;
        }
        used += bytes;
        match plan.layers.get_mut(first + i) {
            Some(layer) => *layer = Some(device),
            None => plan.head = Some(device),
        }
    }
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn need(n: usize) -> Need {
        Need {
            layers: vec![100; n],
            head: 50,
        }
    }

    fn counts(plan: &Plan, n_devices: usize) -> Vec<usize> {
        let on = |d: usize| plan.layers.iter().filter(|l| **l == Some(d)).count();
        (0..n_devices).map(on).collect()
    }

    #[test]
    fn one_device_that_holds_all_takes_all() {
        let plan = plan(&need(8), &[500, 900, 2000], None, &[]).unwrap();
        assert_eq!(counts(&plan, 3), [0, 8, 0]);
        assert_eq!(plan.head, Some(1));
    }

    #[test]
    fn layers_are_spread_by_free_memory_in_one_piece() {
        let plan = plan(&need(12), &[500, 1000], None, &[]).unwrap();
        assert_eq!(counts(&plan, 2), [4, 8]);
        assert!(plan.layers.is_sorted());
        assert_eq!(plan.head, Some(1));
    }

    #[test]
    fn what_does_not_fit_stays_with_the_cpu() {
        let some = plan(&need(8), &[320], None, &[]).unwrap();
        let cpu = [None; 5];
        assert_eq!(some.layers, [&cpu[..], &[Some(0); 3]].concat());
        assert_eq!(some.head, None);
        let none = plan(&need(8), &[90], None, &[]).unwrap();
        assert_eq!((none.layers, none.head), (vec![None; 8], None));
        // All layers, but not the head.
        let most = plan(&need(8), &[820], None, &[]).unwrap();
        assert_eq!((counts(&most, 1), most.head), (vec![8], None));
    }

    #[test]
    fn what_was_asked_for_is_placed_or_refused() {
        let two = plan(&need(8), &[900], Some(2), &[]).unwrap();
        assert_eq!(counts(&two, 1), [2]);
        assert_eq!(two.layers[6..], [Some(0); 2]);
        let error = plan(&need(8), &[320], Some(4), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resource);
        assert!(plan(&need(8), &[900], Some(100), &[]).is_ok());
    }

    #[test]
    fn shares_decide_where_they_are_given() {
        let plan_of = |free: &[u64], shares: &[f64]| plan(&need(8), free, None, shares);
        let halves = plan_of(&[9000, 9000], &[1.0, 1.0]).unwrap();
        assert_eq!(counts(&halves, 2), [4, 4]);
        let skewed = plan_of(&[9000, 9000], &[3.0, 1.0]).unwrap();
        assert_eq!(counts(&skewed, 2), [6, 2]);
        let none = plan_of(&[9000, 9000], &[0.0, 1.0]).unwrap();
        assert_eq!(counts(&none, 2), [0, 8]);
        assert!(plan_of(&[9000, 100], &[1.0, 1.0]).is_err());
    }

    #[test]
    fn no_device_gets_more_than_it_has() {
        for a in (0..1200).step_by(70) {
            for b in (0..1200).step_by(90) {
                let plan = plan(&need(9), &[a, b], None, &[]).unwrap();
                for (d, free) in [a, b].into_iter().enumerate() {
                    let head = u64::from(plan.head == Some(d)) * 50;
                    assert!(
                        counts(&plan, 2)[d] as u64 * 100 + head <= free,
                        "{a} {b}: {plan:?}"
                    );
                }
            }
        }
    }
}
