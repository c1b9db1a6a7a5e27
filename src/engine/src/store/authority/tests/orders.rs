//! The orders in which a history can arrive: each commit after its past.

use super::*;
use crate::base::Rng;

/// Returns one order, drawn at random.
pub(super) fn some_order(history: &History, rng: &mut Rng) -> Vec<usize> {
    let mut order = Vec::new();
    while order.len() < history.commits.len() {
        let ready = ready(history, &order);
        let pick = rng.below(ready.len() as u64);
        order.push(ready[usize::try_from(pick).unwrap()]);
    }
    order
}

/// Calls `each` with every order.
pub(super) fn every_order(history: &History, each: &mut dyn FnMut(&[usize])) {
    fn go(history: &History, order: &mut Vec<usize>, each: &mut dyn FnMut(&[usize])) {
        if order.len() == history.commits.len() {
            return each(order);
        }
        for next in ready(history, order) {
            order.push(next);
            go(history, order, each);
            order.pop();
        }
    }
    go(history, &mut Vec::new(), each);
}

fn ready(history: &History, order: &[usize]) -> Vec<usize> {
    let open = (0..history.commits.len()).filter(|at| !order.contains(at));
    open.filter(|at| history.commits[*at].past.iter().all(|of| order.contains(of))).collect()
}
